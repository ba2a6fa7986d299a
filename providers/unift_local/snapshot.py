"""The rows of a run as they were when it was submitted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SnapshotRow:
    """One example; `file` and `line` are those of the user's own file, for errors."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    file: str
    line: int


def write_snapshot(path: Path, examples: Iterable[Any]) -> int:
    """Write examples as JSON lines; how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for example in examples:
            row = {
                "messages": example.messages,
                "tools": example.tools,
                "file": str(example.file),
                "line": example.line,
            }
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def read_snapshot(path: Path) -> Iterator[SnapshotRow]:
    """The rows in order."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield SnapshotRow(**json.loads(line))
