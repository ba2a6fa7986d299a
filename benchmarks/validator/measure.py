"""How fast the validator is, beside its peers; writes benchmarks/results/validator.md.

    python benchmarks/validator/measure.py            # about 5 minutes
    python benchmarks/validator/measure.py --quick    # smaller files, for a look

Each figure is the best of five runs in a process of its own, on one core (sched_setaffinity,
processor time) unless it says two (wall time), after a run on 20 rows that loads what has to be
loaded; peak memory is VmHWM of that process. The runs of all peers take turns, and a ratio is the
median of the ratios of the rounds, so that other work on the machine bears on all alike. All peers
read the same file: the checks of OpenAI's published data preparation notebook over `json`, written
plainly; the form checks of mistral-finetune's validator, which is not on PyPI, written plainly (all
lines at once, `json`, pydantic objects, order of roles; without its token counts); pydantic's
`model_validate_json`; msgspec's typed decode alone; `datasets.load_dataset("json")`, which reads
and checks nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from _files import FORMATS, write_long, write_rows
from _ways import WAYS

RESULTS = Path(__file__).parents[1] / "results" / "validator.md"


def worker(way: str, path: str) -> None:
    """One measurement: seconds, rows, peak MiB."""
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.jsonl"
        with open(path, "rb") as file:
            few.write_bytes(b"".join(next(file) for _ in range(20)))
        WAYS[way](str(few))
    wall, cpu = time.perf_counter(), time.process_time()
    rows = WAYS[way](path)
    # On one core the time of the processor, which other work on the machine does not lengthen.
    alone = len(os.sched_getaffinity(0)) == 1
    seconds = time.process_time() - cpu if alone else time.perf_counter() - wall
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    print(json.dumps({"seconds": seconds, "rows": rows, "mib": int(peak[1]) / 1024}))


Found = dict[str, float]


def measure(path: Path, *ways: tuple[str, int], runs: int = 5) -> list[tuple[Found, float]]:
    """(best run, ratio of speeds to the first one) of each (way, cores); the runs take turns."""
    rounds: list[list[Found]] = []
    for _ in range(runs):
        rounds.append([])
        for way, cores in ways:
            done = subprocess.run(
                [sys.executable, __file__, "--worker", way, str(path)],
                check=True,
                capture_output=True,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
                preexec_fn=lambda cores=cores: os.sched_setaffinity(0, range(cores)),
            )
            rounds[-1].append(json.loads(done.stdout.splitlines()[-1]))
    found: list[tuple[Found, float]] = []
    for at in range(len(ways)):
        best = min((each[at] for each in rounds), key=lambda run: run["seconds"])
        ratio = statistics.median(each[0]["seconds"] / each[at]["seconds"] for each in rounds)
        found.append(({**best, "mb_s": path.stat().st_size / 1e6 / best["seconds"]}, ratio))
    return found


def line(name: str, found: Found, *ratios: float) -> str:
    """One row of the table."""
    rows = found["rows"] / found["seconds"]
    shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
    return f"| {name} | {found['mb_s']:.1f} | {rows:,.0f} | {found['mib']:.0f} | {shown} |"


def main() -> None:
    """Write the files, measure everything, write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2)
    given = parser.parse_args()
    if given.worker:
        worker(*given.worker)
        return
    size = 20 if given.quick else 100
    growth = (10, 100) if given.quick else (10, 100, 500, 2000)
    head = "| | MB/s | rows/s | peak MiB | ratio |\n| --- | ---: | ---: | ---: | ---: |"
    with tempfile.TemporaryDirectory() as folder:
        good, bad, some = (Path(folder) / name for name in ("good.jsonl", "bad.jsonl", "20.jsonl"))
        write_rows(good, size)
        write_rows(bad, size / 5, bad=True)
        write_rows(some, size / 5)
        names = {
            "pydantic_typed": "pydantic `model_validate_json`",
            "unift_form": "`unift validate`, all checks but exact tokens",
            "notebook": "json + the notebook's checks",
            "mistral": "mistral-finetune's form checks",
            "msgspec_typed": "msgspec typed decode alone",
            "hf_datasets": '`datasets.load_dataset("json")`, reads only',
        }
        forms = measure(good, *((way, 1) for way in names))
        ours = forms[1][1]
        table = [
            line(name, found, ratio, ratio / ours)
            for name, (found, ratio) in zip(names.values(), forms, strict=True)
        ]
        counted = {
            "json + tiktoken, one thread": ("tiktoken_alone", 1),
            "`unift validate`, exact tokens, 1 core": ("unift_tokens", 1),
            "json + tiktoken, one thread, wall time": ("tiktoken_alone", 2),
            "`unift validate`, exact tokens, 2 cores": ("unift_tokens", 2),
        }
        found = measure(some, *counted.values())
        wall = found[2][1]
        tokens = [
            line(name, each, ratio / (wall if at > 1 else 1))
            for at, (name, (each, ratio)) in enumerate(zip(counted, found, strict=True))
        ]
        long = Path(folder) / "long.jsonl"
        write_long(long)
        worst = [
            line(f"`unift validate`, {name}", measure(path, ("unift_form", 1))[0][0])
            for name, path in (("a fault in every row", bad), ("a line of 55 MB", long))
        ]
        formats: list[str] = []
        for form in FORMATS:
            path = Path(folder) / "form.jsonl"
            write_rows(path, size / 5, form)
            formats.append(line(form, measure(path, ("unift_form", 1), runs=3)[0][0]))
        grown: list[str] = []
        for megabytes in growth:
            path = Path(folder) / "grown.jsonl"
            write_rows(path, megabytes)
            [(each, _)] = measure(path, ("unift_form", 1), runs=1)
            grown.append(line(f"{megabytes} MB", each))
            path.unlink()
    text = "\n".join(
        (
            "# Validator",
            "",
            f"`python benchmarks/validator/measure.py{' --quick' if given.quick else ''}`, "
            f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, Python {platform.python_version()}; "
            f"load average {os.getloadavg()[0]:.1f} at its end on {os.cpu_count()} cores. "
            f"Chat rows of 1.3 KB, {size} MB, one core (processor time; "
            "two cores: wall time, which other work lengthens), best of five, ratios taken "
            "round by round.",
            "",
            "## Form (speed relative to pydantic and to unift)",
            "",
            head.replace("ratio |", "to pydantic | to unift |").replace(
                "---: |", "---: | ---: |", 1
            ),
            *table,
            "",
            f"## Exact tokens, {size // 5} MB (ratio to one tiktoken thread)",
            "",
            head,
            *tokens,
            "",
            f"## Formats (form, {size // 5} MB, best of three)",
            "",
            head,
            *formats,
            "",
            f"## Worst cases, {size // 5} MB and 55 MB",
            "",
            head,
            *worst,
            "",
            "## Growth (form, one run each)",
            "",
            head,
            *grown,
            "",
        )
    )
    RESULTS.write_text(text)
    print(text)


def processor() -> str:
    """The name of the processor."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


if __name__ == "__main__":
    main()
