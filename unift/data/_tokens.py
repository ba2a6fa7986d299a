"""How many tokens a text has: exactly where the tokenizer is at hand, else a labelled estimate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

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


Counts = npt.NDArray[np.int64]
# Characters that are encoded by one call; a longer text is cut where no token can be.
_TOGETHER = 1 << 18
_SEPARATOR = "<|endoftext|>"
# No token of OpenAI's reaches over the border between anything and a space after it, or between a
# letter or digit and a line end: their patterns have these after such a one in no alternative, and
# look ahead of white space only.
_BORDER = re.compile(r"(?<=\S) |(?<=[^\W_])\n")
# White space as Unicode and the library have it, but for line ends. Of several before something
# else, o200k_base keeps the last one for what follows: a token ends before it. Counting is without
# the look ahead that sees to that, so texts are cut there, by a control token.
_SPACE = r"\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_SPACES = re.compile(f"[{_SPACE}](?=[{_SPACE}][^{_SPACE}\r\n])")
_BLANKS = re.compile(r"  (?=[^ \r\n])")  # the same where there are no others; five times as fast
_CUT = "<|endofprompt|>"
# With this in a text, its control tokens may be text.
_CONTROL = "<|endof"


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

    def count(
        self, texts: Sequence[str], lengths: Counts | None = None, ascii: bool = False
    ) -> Counts:
        """Tokens of each text, given the characters of each and that all are ASCII, if known."""
        ...


@dataclass(frozen=True, slots=True)
class ByCharacters:
    """An estimate from characters alone."""

    method: str
    exact: bool = False
    per_message: int = CHATML_PER_MESSAGE
    per_row: int = CHATML_PER_ROW

    def count(
        self, texts: Sequence[str], lengths: Counts | None = None, ascii: bool = False
    ) -> Counts:
        # The length and the ASCII flag of a str are known without looking at it.
        if lengths is None:
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        counts = np.rint(lengths * PER_ASCII).astype(np.int64)
        if not ascii and not all(map(str.isascii, texts)):
            for at, text in enumerate(texts):
                if not text.isascii():
                    counts[at] = _mixed(text)
        return counts


def _mixed(text: str) -> int:
    plain = len(text.encode("ascii", "ignore"))
    return round(plain * PER_ASCII + (len(text) - plain) * PER_OTHER)


class ByTiktoken:
    """An encoding of OpenAI's, exactly."""

    per_message = OPENAI_PER_MESSAGE
    per_row = OPENAI_PER_ROW

    def __init__(self, name: str = "o200k_base", instead: str | None = None) -> None:
        self._encoding = encoding(name, counting=True)
        self._cuts = name == "o200k_base"
        self._cut_token = self._encoding.encode_single_token(_CUT)
        self.exact = instead is None
        self.method = instead or (
            f"{name}, exact for the texts; plus 3 tokens a message and 3 a row for the chat "
            "format (OpenAI cookbook); tool declarations count as their JSON text"
        )

    def count(
        self, texts: Sequence[str], lengths: Counts | None = None, ascii: bool = False
    ) -> Counts:
        # Texts that come again (system prompts) are counted once.
        first = {text: at for at, text in enumerate(dict.fromkeys(texts))}
        once = list(first)
        counts = np.empty(len(once), np.int64)
        start = size = 0
        for at, text in enumerate(once):
            if size and size + len(text) > _TOGETHER:
                counts[start:at] = self._together(once[start:at])
                start, size = at, 0
            size += len(text)
        counts[start:] = self._together(once[start:])
        if len(once) == len(texts):
            return counts
        return counts[np.fromiter(map(first.__getitem__, texts), np.int64, len(texts))]

    def _together(self, texts: Sequence[str]) -> list[int] | Counts:
        """One call for many texts: the library leaves the interpreter lock once, not for each.

        The control token between them is cut out before anything else is looked at, so that each
        text is encoded for itself.
        """
        joined = _SEPARATOR.join(texts)
        # One character is found ten times as fast as many.
        ambiguous = joined.count("<") >= len(texts) and joined.count(_CONTROL) >= len(texts)
        if len(texts) == 1 or ambiguous:
            return [sum(map(self._alone, pieces(text))) for text in texts]
        if self._cuts and not _single_spaced(joined):
            joined = _SEPARATOR.join([cut_spaces(text) for text in texts])
        tokens = self._tokens(joined)
        ends = np.flatnonzero(tokens == self._encoding.eot_token)
        counts = np.diff(ends, prepend=-1, append=len(tokens)) - 1
        cuts = np.flatnonzero(tokens == self._cut_token)
        if len(cuts):
            counts -= np.bincount(np.searchsorted(ends, cuts), minlength=len(texts))
        return counts

    def _tokens(self, text: str) -> Any:
        return self._encoding.encode_to_numpy(
            text, allowed_special={_SEPARATOR, _CUT}, disallowed_special=()
        )

    def _alone(self, text: str) -> int:
        if not self._cuts:
            # Control tokens in a text count as the text that they are, as training data does.
            return len(self._encoding.encode_to_numpy(text, disallowed_special=()))
        marked = cut_spaces(text)
        if _CONTROL not in text:
            tokens = self._tokens(marked)
            return len(tokens) - int(np.count_nonzero(tokens == self._cut_token))
        ends = [found.end() for found in _SPACES.finditer(text)]
        return sum(
            len(self._encoding.encode_to_numpy(text[start:end], disallowed_special=()))
            for start, end in pairwise((0, *ends, len(text)))
        )


def _single_spaced(text: str) -> bool:
    """True if `cut_spaces` would do nothing. Many texts at once are looked at at memory speed."""
    if not text.isascii() or "\t" in text or "\v" in text or "\f" in text:
        return False
    blanks = np.frombuffer(text.encode(), np.uint8) == ord(" ")
    return not (blanks[1:] & blanks[:-1]).any()


def cut_spaces(text: str) -> str:
    """The text with a control token before the last of several spaces that something follows."""
    if text.isascii() and not ("\t" in text or "\v" in text or "\f" in text):
        return _BLANKS.sub(f" {_CUT} ", text)
    return _SPACES.sub(rf"\g<0>{_CUT}", text)


def pieces(text: str, longest: int = _TOGETHER) -> Iterator[str]:
    """The text in pieces that have as many tokens together as it has, to bound the memory.

    A piece is longer than `longest` only as far as there is no border in it.
    """
    start = 0
    while len(text) - start > longest:
        border = _BORDER.search(text, start + longest)
        if border is None:
            break
        yield text[start : border.start()]
        start = border.start()
    yield text[start:] if start else text


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

    def count(
        self, texts: Sequence[str], lengths: Counts | None = None, ascii: bool = False
    ) -> Counts:
        encoded = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return np.fromiter(map(len, encoded), np.int64, len(encoded))


def counter_for(model: str | None, providers: Sequence[str]) -> Counter:
    """The best counter for a model: exact if its tokenizer is on this machine."""
    file = demo.model_path() / "tokenizer.json" if model == demo.MODEL else None
    if model is not None and (file is None or not file.is_file()):
        file = _tokenizer_file(model)
    if file is not None:
        return _tokenizer(file, str(model))
    found = _of_vendor(model, providers)
    if found is not None:
        try:
            return ByTiktoken(*found)
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


def _of_vendor(model: str | None, providers: Sequence[str]) -> tuple[str, str | None] | None:
    """(encoding, what it stands in for) as the catalogue has it for a model, or for the vendors."""
    from unift import catalog

    rules = {
        name: entry.tokens
        for entry in catalog.providers()
        if entry.tokens is not None
        for name in (entry.id, *entry.aliases)
    }
    if model is not None:
        bare = model.removeprefix("ft:")
        starts = [
            (start, encoding, one.stand_in)
            for one in rules.values()
            for start, encoding in one.encodings.items()
            if bare.startswith(start)
        ]
        # gpt-4o is not gpt-4.
        return max(starts, key=lambda one: len(one[0]))[1:] if starts else None
    asked = [rules.get(name) for name in providers]
    exact = next((one for one in asked if one is not None and one.stand_in is None), None)
    if exact is not None:
        return exact.encoding, None
    first = asked[0] if asked else None
    return (first.encoding, first.stand_in) if first is not None and all(asked) else None


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
