"""Rows as a model will see them: the text of its chat template, and what of it is learnt."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from unift import demo
from unift.errors import DataError, MissingDependency, UniftError, UsageError

if TYPE_CHECKING:
    from unift.data.rendering import Rendered


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One rendered row.

    Attributes:
        file: As the user named it.
        line: 1-based.
        pieces: The text in order, a piece for each token: (text, True if it carries loss). Tokens
            that share a character, and what lies between tokens, are no pieces of their own.
        tokens: Of the whole row.
        trained: Tokens that carry loss.
        stop: The token with which the last trained turn ends.
        cut: Tokens above `max_length`; 0 if the row fits or no length was given.
        cut_at: Index of the first piece that is too much; 0 if there is none.
        problem: Why it cannot be trained on; empty if it can.
    """

    file: str
    line: int
    pieces: tuple[tuple[str, bool], ...]
    tokens: int = 0
    trained: int = 0
    stop: str = ""
    cut: int = 0
    cut_at: int = 0
    problem: str = ""

    @property
    def summary(self) -> str:
        """Counts, mask share, stop token and what is too long, in one line."""
        if self.problem:
            return self.problem
        share = 100 * self.trained / self.tokens
        cut = f"; {self.cut} tokens too long" if self.cut else ""
        return (
            f"{self.tokens} tokens, {self.trained} trained ({share:.0f}%), stops with "
            f"{self.stop!r}{cut}"
        )

    def as_dict(self) -> dict[str, Any]:
        """As the ``--json`` document has it."""
        return {
            "file": self.file,
            "line": self.line,
            "tokens": self.tokens,
            "trained": self.trained,
            "stop": self.stop,
            "cut": self.cut,
            "cut_at": self.cut_at,
            "problem": self.problem,
            "summary": self.summary,
            "pieces": [{"text": text, "trained": trained} for text, trained in self.pieces],
        }


def show_rows(
    path: str | os.PathLike[str],
    model: str | None,
    count: int,
    *,
    max_length: int | None = None,
) -> list[ShownRow]:
    """The first rows of a file through the chat template of a model. Nothing is downloaded.

    Args:
        path: As for `unift.validate`.
        model: A folder with a tokenizer, a hub model that was downloaded before, or ``demo``.
        count: How many rows. Of one with an error the error is shown.
        max_length: Longer rows say by how much.

    Raises:
        UsageError: No model, or its tokenizer is not on this machine.
        MissingDependency: transformers is not installed.
        DataError: The model has no chat template.
    """
    # Imported here: reading and rendering rows is not needed to know what a shown row is.
    from unift.data._content import attempts
    from unift.data._lines import find_file
    from unift.data.rendering import render, stop_token_ids

    tokenizer = _tokenizer(model)
    stops = stop_token_ids(tokenizer)
    shown: list[ShownRow] = []
    try:
        for line, row in attempts(find_file(path), str(path)):
            if len(shown) >= count:
                break
            try:
                if isinstance(row, DataError):
                    raise row
                seen = render(
                    tokenizer, row.chat["messages"], row.chat.get("tools"), stop_ids=stops
                )
            except DataError as error:
                if error.code == "no_chat_template":
                    raise
                shown.append(ShownRow(str(path), line, (), problem=error.message))
                continue
            pieces, cut_at = _pieces(tokenizer, seen, max_length)
            last = max(index for index, trained in enumerate(seen.trained) if trained)
            shown.append(
                ShownRow(
                    file=str(path),
                    line=line,
                    pieces=pieces,
                    tokens=len(seen.input_ids),
                    trained=seen.trained_tokens,
                    stop=str(tokenizer.decode([seen.input_ids[last]])),
                    cut=max(0, len(seen.input_ids) - max_length) if max_length else 0,
                    cut_at=cut_at,
                )
            )
    except DataError as error:
        if error.code == "no_chat_template":
            raise
        # The file as such cannot be read on; the report has it already.
    return shown


def _pieces(
    tokenizer: Any, seen: Rendered, longest: int | None
) -> tuple[tuple[tuple[str, bool], ...], int]:
    """The pieces, and the index of the first one beyond `longest` tokens (0 for none)."""
    text = seen.text
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    pieces: list[tuple[str, bool]] = []
    at = cut = 0
    offsets = zip(encoded["offset_mapping"], seen.trained, strict=True)
    for number, ((start, end), trained) in enumerate(offsets):
        if number == longest:
            cut = len(pieces)
        if start > at:
            pieces.append((text[at:start], False))
            at = start
        if end > at:
            pieces.append((text[at:end], trained))
            at = end
    if at < len(text):
        pieces.append((text[at:], False))
    return tuple(pieces), cut


def _tokenizer(model: str | None) -> Any:
    if model is None:
        raise UsageError(
            "Showing rows needs a model: its chat template decides what is seen.",
            code="no_model",
            where="show",
            fix="add --model, a folder or a hub model that is on this machine",
        )
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingDependency(
            "Chat templates need transformers.", where="show", fix="pip install 'unift[local]'"
        ) from None
    name = str(demo.model_path()) if model == demo.MODEL else model
    name = name.removeprefix("path:").removeprefix("hf:")
    try:
        return cast("Any", AutoTokenizer).from_pretrained(
            os.path.expanduser(name), local_files_only=True, trust_remote_code=False
        )
    except UniftError:
        raise
    except Exception as error:  # noqa: BLE001  # transformers raises whatever went wrong inside
        raise UsageError(
            f"The tokenizer of {model} is not on this machine ({type(error).__name__}).",
            code="no_tokenizer",
            where=model,
            fix=f"hf download {name} --include 'token*' '*.jinja' '*.json', or name a folder",
        ) from None
