"""`convert`: training data in another format, with nothing lost that the caller did not give up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

FileName = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Converted:
    """The outcome of `unift.data.convert`.

    Attributes:
        file: What was written.
        rows: How many rows that has.
        source_format: Format of the input.
        source_reason: How that was found out.
        target_format: Format of the output.
        lost: What was dropped, because `drop` allows it -> in how many rows.
        left_out: (line, why) of rows of which nothing was left (``drop="rows"``).
    """

    file: str
    rows: int
    source_format: str
    source_reason: str
    target_format: str
    lost: dict[str, int]
    left_out: tuple[tuple[int, str], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` document of ``unift convert``."""
        return {
            "file": self.file,
            "rows": self.rows,
            "from": self.source_format,
            "from_reason": self.source_reason,
            "to": self.target_format,
            "lost": self.lost,
            "left_out": [{"line": line, "why": why} for line, why in self.left_out],
        }


def convert(
    path: FileName,
    out: FileName,
    *,
    to: str,
    source: str | None = None,
    drop: Iterable[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Write training data in another format.

    Args:
        path: As for `unift.validate`.
        out: The file to write; ``.gz`` and ``.zst`` are compressed. It appears only when all rows
            could be written.
        to: The format (`unift.data.formats`): ``openai-chat``, ``openai-preference``,
            ``openai-rft``, ``gemini``, ``gemini-preference``, ``gemini-rft``, ``trl-preference``,
            ``prompt-completion``, ``alpaca``, ``sharegpt``.
        source: Format of the input; None to look.
        drop: What may be lost (`unift.data.formats.LOSSES`): ``tools``, ``weights``, ...
        progress: Called as ``progress(done_bytes, total_bytes)``.

    Raises:
        UsageError: An unknown format or loss, a file that cannot be read or written.
        DataError: Rows have errors, or something would be lost that `drop` does not name; the rows
            are named in `findings` (UD907). Nothing is written.
    """
    # Imported here: `import unift` has no use for the formats.
    from unift.data._conversion import run

    return run(path, out, to=to, source=source, drop=drop, progress=progress)
