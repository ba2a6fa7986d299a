"""Take rows of a session over into the recorded ones.

    python benchmarks/memory/merge.py benchmarks/memory/rows.jsonl FOLDER/memory.jsonl

A row of a configuration that is there replaces it if that one was of an older engine or failed;
otherwise both stay, for the reports to say so. Rows are marked with the engine ``today``. Failures
other than a lack of memory are printed and left out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from _configs import Run


def identity(row: dict[str, Any]) -> str:
    """What a row is known by, on which card."""
    return json.dumps([Run(**row["run"]).key, row.get("rows"), row.get("gpu")])


def merged(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of both, and what was left out."""
    said: list[str] = []
    found = list(old)
    for row in new:
        if "error" in row and not row.get("oom"):
            said.append(f"left out: {row['run']['model']} {row['run']['tuning']}: {row['error']}")
            continue
        same = identity(row)
        found = [
            one
            for one in found
            if identity(one) != same
            or not (one.get("engine") == "before" or "error" in one or "note" in one)
        ]
        found.append({**row, "engine": "today"})
    return found, said


def main() -> int:
    """Rewrite the first file with the rows of the second."""
    into, source = map(Path, sys.argv[1:3])
    old, new = (
        [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for path in (into, source)
    )
    found, said = merged(old, new)
    into.write_text("".join(json.dumps(one) + "\n" for one in found))
    print(*said, f"{len(old)} rows and {len(new)} are {len(found)}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
