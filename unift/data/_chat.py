"""Training data as the chat rows that are trained on, whatever format it is written in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from unift.data._convert import convert
from unift.errors import DataError

FileName = str | os.PathLike[str]
CHAT = "openai-chat"


@dataclass(frozen=True, slots=True)
class ChatCopy:
    """A file in chat form.

    Attributes:
        file: The copy.
        rows: How many rows it has.
        why: What it was made from, in words.
    """

    file: str
    rows: int
    why: str


def chat_copy(path: FileName, folder: Path, native: tuple[str, ...] = (CHAT,)) -> ChatCopy | None:
    """Write training data as JSON Lines of chat rows, if it is something else.

    Args:
        path: As for `unift.validate`.
        folder: Gets the copy, under a name made of the content: the same data, the same file.
        native: Formats that need no copy.

    Returns:
        The copy; None if the file is fine as it is, or cannot be told.

    Raises:
        UsageError: The file is missing or is a folder.
        DataError: Rows have errors, or something would be lost; the rows are named in `findings`.
    """
    from unift.data._examples import fingerprint
    from unift.data._lines import blocks, find_file
    from unift.data._scan import first_values
    from unift.data.formats import detect

    found = find_file(path)
    first = next(iter(blocks(found, _silent)), None)
    if first is None:
        return None  # empty or no text: whoever reads it says so
    form, reason = detect(first_values(first.lines))
    packed = found.suffix == ".parquet"
    if form.name in native and not packed:
        return None
    if form.name == CHAT and not any(isinstance(v, dict) for v in first_values(first.lines)):
        return None
    out = folder / f"{fingerprint(path).removeprefix('sha256:')[:24]}.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # Keys that nobody learns from can go; `validate` tells of them.
        made = convert(path, out, to=CHAT, source=form.name, drop=("extra",))
    except DataError as error:
        flags = " ".join(re.findall(r"--drop \w+", error.fix or ""))
        if flags:
            error.fix = (
                f"if that may go: unift convert {path} --to {CHAT} --out CHAT.jsonl {flags}, "
                "then train on CHAT.jsonl"
            )
        raise
    what = f"{form.name} rows ({reason})" if form.name != CHAT else "Parquet"
    lost = "nothing lost but keys that are not learnt" if made.lost else "nothing lost"
    return ChatCopy(str(out), made.rows, f"{path} has {what}; {made.rows:,} rows, {lost}")


def _silent(*_: object) -> None:
    """For what is reported when the file is read as a whole."""
