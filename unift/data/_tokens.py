"""How many tokens a text has: exactly where the tokenizer is at hand, else a labelled estimate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from unift import demo
from unift.data._ranks import encoding
from unift.errors import UniftError

# What a chat format adds: OpenAI's cookbook ("How to count tokens with tiktoken") counts 3 tokens
# a message and 3 for the reply's start. ChatML templates, as Qwen's, add <|im_start|>, the role, a
# line end, <|im_end|> and a line end: 5 a message, none a row.
OPENAI_PER_MESSAGE, OPENAI_PER_ROW = 3, 3
CHATML_PER_MESSAGE, CHATML_PER_ROW = 5, 0
# Tokens a character, for texts whose tokenizer is not here. Measured with o200k_base; see
# benchmarks/validator (tokens_per_character) for the texts and the spread.
PER_ASCII, PER_OTHER = 0.24, 0.65
_O200K_PREFIXES = (
    "gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "gpt-6", "chatgpt-4o", "o1", "o3", "o4", "gpt-oss",
)  # fmt: skip
_CL100K_PREFIXES = ("gpt-4", "gpt-3.5", "gpt-35", "davinci-002", "babbage-002")


class Counter(Protocol):
    """Counts texts. `exact` is True if each text gets the number its model would see.

    Attributes:
        method: What is done, for people.
        per_message: Tokens that the chat format adds to each message.
        per_row: Tokens that it adds to each row.
    """

    @property
    def method(self) -> str: ...
    @property
    def exact(self) -> bool: ...
    @property
    def per_message(self) -> int: ...
    @property
    def per_row(self) -> int: ...

    def count(self, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text."""
        ...


@dataclass(frozen=True, slots=True)
class ByCharacters:
    """An estimate from characters alone."""

    method: str
    exact: bool = False
    per_message: int = CHATML_PER_MESSAGE
    per_row: int = CHATML_PER_ROW

    def count(self, texts: Sequence[str]) -> Sequence[int]:
        # The length and the ASCII flag of a str are known without looking at it.
        counts = np.rint(np.array(list(map(len, texts))) * PER_ASCII).astype(np.int64)
        if not all(map(str.isascii, texts)):
            for at, text in enumerate(texts):
                if not text.isascii():
                    counts[at] = _mixed(text)
        return cast("Sequence[int]", counts)  # an array is one, but for its type


def _mixed(text: str) -> int:
    plain = len(text.encode("ascii", "ignore"))
    return round(plain * PER_ASCII + (len(text) - plain) * PER_OTHER)


class ByTiktoken:
    """An encoding of OpenAI's, exactly."""

    exact = True
    per_message = OPENAI_PER_MESSAGE
    per_row = OPENAI_PER_ROW

    def __init__(self, name: str = "o200k_base") -> None:
        self._encoding = encoding(name)
        self.method = (
            f"{name}, exact for the texts; plus 3 tokens a message and 3 a row for the chat "
            "format (OpenAI cookbook); tool declarations count as their JSON text"
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        encode = self._encoding.encode_to_numpy
        # Control tokens in a text count as the text that they are, as training data does.
        return [len(encode(text, disallowed_special=())) for text in texts]


class ByTokenizer:
    """The tokenizer of a local model, from its ``tokenizer.json``."""

    exact = True
    per_message = CHATML_PER_MESSAGE
    per_row = CHATML_PER_ROW

    def __init__(self, file: Path, name: str) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer: Any = Tokenizer.from_file(str(file))
        except Exception as error:  # noqa: BLE001  # the Rust library raises bare Exception
            raise UniftError(
                f"The tokenizer cannot be read: {error}.",
                code="bad_tokenizer",
                where=str(file),
                fix="fetch the model again",
            ) from None
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.method = (
            f"tokenizer of {name}, exact for the texts; plus {self.per_message} tokens a message "
            "for the chat format (as ChatML); tool declarations count as their JSON text"
        )

    def count(self, texts: Sequence[str]) -> list[int]:
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(one) for one in encoded]


def counter_for(model: str | None, providers: Sequence[str]) -> Counter:
    """The best counter for a model: exact if its tokenizer is on this machine."""
    if model == demo.MODEL or (model is None and providers and _all_local(providers)):
        file = demo.model_path() / "tokenizer.json"
        if model is not None and file.is_file():
            return _tokenizer(file, "demo")
    if model is not None:
        file = _tokenizer_file(model)
        if file is not None:
            return _tokenizer(file, model)
    name = _encoding_name(model)
    if name is None and model is None and any(one in ("openai", "azure") for one in providers):
        name = "o200k_base"
    if name is not None:
        try:
            return ByTiktoken(name)
        except ImportError:
            return ByCharacters(
                f"estimate from characters ({PER_ASCII} tokens per ASCII character, {PER_OTHER} "
                "per other one): exact counts need pip install 'unift[openai]'",
                per_message=OPENAI_PER_MESSAGE,
                per_row=OPENAI_PER_ROW,
            )
    whose = f"the tokenizer of {model} is not here" if model else "no model was named"
    return ByCharacters(
        f"estimate from characters ({PER_ASCII} tokens per ASCII character, {PER_OTHER} per other "
        f"one), because {whose}"
    )


def _encoding_name(model: str | None) -> str | None:
    """The encoding of an OpenAI model, as tiktoken/model.py of tiktoken 0.14.0 has it."""
    bare = (model or "").removeprefix("ft:")
    if bare.startswith(_O200K_PREFIXES):
        return "o200k_base"
    return "cl100k_base" if bare.startswith(_CL100K_PREFIXES) else None


def _all_local(providers: Sequence[str]) -> bool:
    return all(name.startswith("local") for name in providers)


def _tokenizer(file: Path, name: str) -> Counter:
    try:
        return ByTokenizer(file, name)
    except ImportError:
        return ByCharacters(
            f"estimate from characters ({PER_ASCII} tokens per ASCII character, {PER_OTHER} per "
            "other one): exact counts need pip install 'unift[local]'"
        )


def _tokenizer_file(model: str) -> Path | None:
    """``tokenizer.json`` of a folder, or of a hub model that was downloaded before."""
    folder = Path(model.removeprefix("path:")).expanduser()
    if (folder / "tokenizer.json").is_file():
        return folder / "tokenizer.json"
    name = model.removeprefix("hf:")
    if name.count("/") != 1 or folder.exists():
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(name, "tokenizer.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None
