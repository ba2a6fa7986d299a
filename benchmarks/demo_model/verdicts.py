"""How stable the verdicts on the demo's tasks are: one training a task and seed.

    python verdicts.py --out verdicts.jsonl [--tasks minority] [--seeds 1 2 3] [--short]

Every line of the file is one training and its evaluation, as `unift demo` does them: 3 epochs, with
validation rows, against the base and five-shot prompting. Lines that are there are not made again,
and ``--show`` prints the table of a file. ``--short`` trains 40 steps and compares with the base
alone, as the test suite does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

TASKS = ("desk", "shuffled", "minority")
#: What a verdict has to say: its codes, and the slices named as worse.
RIGHT: dict[str, tuple[set[str], list[str]]] = {
    "desk": ({"better"}, []),
    "shuffled": ({"no_better"}, []),
    "minority": ({"better"}, ["label 'is dangerous'"]),
}


def one(task: str, seed: int, short: bool) -> dict[str, Any]:
    import unift
    from unift.cli.demo import settings_of
    from unift.demo import name_of

    settings = settings_of(task)
    local: dict[str, Any] = {"threads": 1}
    against = ["base", "base+few-shot:5"]
    if short:
        del settings["epochs"], settings["validation"]
        settings["max_steps"] = local["eval_steps"] = 40
        against = ["base"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNIFT_HOME"] = folder
        run = unift.train(**settings, seed=seed, options={"local-lora": local}).wait()
        found = unift.evaluate(
            run.model, data=name_of(task, "test"), train=settings["data"], against=against,
            seed=seed, report=False,
        )  # fmt: skip
    verdict = found.verdict
    codes, worse = RIGHT[task]
    return {
        "task": task, "seed": seed, "short": short, "code": verdict.code,
        "exceptions": list(verdict.exceptions), "against": verdict.against,
        "right": verdict.code in codes and list(verdict.exceptions) == worse,
        "scores": {c.name: round(next(iter(c.metrics.values())), 4) for c in found.candidates},
        "sentence": str(verdict), "seconds": round(time.monotonic() - began),
    }  # fmt: skip


def read(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def show(rows: list[dict[str, Any]]) -> None:
    print("| task | seed | scores | verdict | worse on | right |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in sorted(rows, key=lambda row: (TASKS.index(row["task"]), row["short"], row["seed"])):
        scores = ", ".join(f"{name} {value:.1%}" for name, value in row["scores"].items())
        task = row["task"] + (" (40 steps)" if row["short"] else "")
        worse = ", ".join(row["exceptions"]) or "-"
        right = "yes" if row["right"] else "**no**"
        print(f"| {task} | {row['seed']} | {scores} | `{row['code']}` | {worse} | {right} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(range(1, 9)))
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    if args.show:
        show(read(args.out))
        return
    there = {(row["task"], row["seed"], row["short"]) for row in read(args.out)}
    for seed in args.seeds:
        for task in args.tasks:
            if (task, seed, args.short) in there:
                continue
            row = one(task, seed, args.short)
            with args.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(task, seed, row["right"], row["sentence"], f"{row['seconds']} s", flush=True)


if __name__ == "__main__":
    main()
