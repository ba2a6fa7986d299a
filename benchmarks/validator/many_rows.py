"""50 million short rows: memory while they are read and compared; writes results/validator_rows.md.

    python benchmarks/validator/many_rows.py             # about 5 minutes, 9 GB of disk
    python benchmarks/validator/many_rows.py --rows 1    # a million, for a look

The file and what `unift validate` puts on disk lie in the folder for temporary files (TMPDIR). One
row in a thousand asks the same question as the others of them, and each of these is answered
differently, so that there is something to find.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from measure import processor

RESULTS = Path(__file__).parents[1] / "results" / "validator_rows.md"
ROW = (
    '{"messages": [{"role": "user", "content": "Question %d?"}, '
    '{"role": "assistant", "content": "The answer to it is number %d."}]}\n'
)
PART = 100_000


def write(path: Path, many: int) -> None:
    """Rows of 140 bytes."""
    with path.open("w") as file:
        for start in range(0, many, PART):
            file.write(
                "".join(
                    ROW % (at if at % 1000 else 7, at * 7919 % many)
                    for at in range(start, start + PART)
                )
            )


def memory(name: str) -> int:
    """MiB of this process: VmRSS now, VmHWM at most."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) >> 10


def main() -> None:
    """Write the rows, validate them, write down how it went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=50, help="millions")
    many = parser.parse_args().rows * 1_000_000
    os.sched_setaffinity(0, {0})
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        path = Path(folder) / "rows.jsonl"
        write(path, many)
        size = path.stat().st_size
        from unift.data import validate

        base = memory("VmRSS")
        marks: list[str] = []
        on_disk = 0
        start = time.process_time()

        def seen(done: int, total: int) -> None:
            nonlocal on_disk
            if done * 10 // total > len(marks) - 1:
                rows = Path(folder).glob("unift-rows-*/*")
                on_disk = max(on_disk, sum(file.stat().st_size for file in rows))
                took = time.process_time() - start
                marks.append(f"| {100 * done // total}% | {took:.0f} | {memory('VmRSS')} |")

        report = validate(path, max_findings=1000, progress=seen)
        took = time.process_time() - start
    found = ", ".join(f"{code} {count:,}" for code, count in report.counts.items())
    text = "\n".join(
        (
            "# Validator, many rows",
            "",
            f"`python benchmarks/validator/many_rows.py --rows {many // 1_000_000}`, "
            f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, one core, processor time.",
            "",
            f"{report.rows:,} rows, {size / 1e9:.1f} GB: {took:.0f} s, "
            f"{size / 1e6 / took:.0f} MB/s, {report.rows / took:,.0f} rows/s. Peak "
            f"{memory('VmHWM')} MiB, of which {base} MiB are there before. Hashes on disk while "
            f"it reads: {on_disk / 1e9:.2f} GB ({on_disk / many:.1f} bytes a row; the last ones "
            f"are in memory). Found: {found}.",
            "",
            "| read | s | MiB then |",
            "| --- | ---: | ---: |",
            *marks,
            "",
        )
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
