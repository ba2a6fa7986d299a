"""`unift estimate` before, the wall clock of `unift train` after: the embedded model on this CPU.

    python benchmarks/estimate/on_cpu.py > table.md

Three settings, each estimated and trained twice with the commands as a user types them. The first
estimate has the processor's measured speed only, the second what the first run left behind
(`paces.jsonl`). Run it on a machine that does nothing else: the last column says how much of its
cores' time the second run got.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import unift
from unift.demo import resolve

# Name, provider, rows, validation rows, epochs.
SETTINGS = [
    ("LoRA, 200 rows, 3 epochs, validation", "local-lora", 200, 40, 3.0),
    ("full, 240 rows, 1 epoch", "local-full", 240, 0, 1.0),
    ("QLoRA, 100 rows, 2 epochs, validation", "local-qlora", 100, 20, 2.0),
]


def command(*words: str) -> tuple[dict[str, Any], float]:
    """The JSON of a command, and its seconds."""
    began = time.perf_counter()
    unift_command = str(Path(sys.executable).parent / "unift")
    done = subprocess.run([unift_command, *words, "--json"], check=True, capture_output=True)
    return json.loads(done.stdout), time.perf_counter() - began


def part(folder: Path, name: str, source: str, rows: int) -> str:
    """The first rows of one of the demo's files."""
    target = folder / f"{name}.jsonl"
    with Path(resolve(source)).open(encoding="utf-8") as lines:
        target.write_text("".join(islice(lines, rows)), encoding="utf-8")
    return str(target)


def main() -> None:
    """Print the table."""
    print(f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, ")
    print(f"unift {unift.__version__}; seconds\n")
    print("| setting | estimate | run | error | second estimate | second run | error | cores |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        os.environ["UNIFT_HOME"] = str(home)
        for number, (said, provider, rows, watched, epochs) in enumerate(SETTINGS):
            data = part(home, f"train{number}", "demo:train", rows)
            words = ["--model", "demo", "--data", data, "--epochs", f"{epochs:g}"]
            if watched:
                words += ["--validation", part(home, f"val{number}", "demo:validation", watched)]
            if not (home / "cpu.json").exists():  # the first plan measures the processor
                command("train", "--provider", provider, *words, "--dry-run")
            cells: list[str] = []
            for _ in range(2):
                found, _ = command("estimate", *words, "--providers", provider, "--gpu", "cpu")
                planned = found["rows"][0]["hours"] * 3600
                # Early stop would end a run that an estimate cannot foresee.
                never = ["--option", f"{provider}.patience=0"]
                _, took = command("train", "--provider", provider, *words, *never)
                cells += [f"{planned:.0f}", f"{took:.0f}", f"{planned / took - 1:+.0%}"]
            paces = (home / "paces.jsonl").read_text(encoding="utf-8").splitlines()
            cells.append(f"{json.loads(paces[-1])['share']:.0%}")
            print(f"| {said} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
