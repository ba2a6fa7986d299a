"""How stable the verdicts on the demo's tasks are: one training a task and seed, short settings.

python verdicts.py --tasks minority shuffled --seeds 1 2 3 4 5 --steps 40
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="*", default=["minority", "shuffled"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--rate", type=float, default=5e-3)
    parser.add_argument("--limit", type=int, default=None, help="test rows")
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    import unift
    from unift.demo import name_of

    for task in args.tasks:
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["UNIFT_HOME"] = folder
                began = time.monotonic()
                run = unift.train(
                    provider="local-lora", model="demo", data=name_of(task, "train"),
                    max_steps=args.steps, learning_rate=args.rate, seed=seed,
                    options={"local-lora": {"threads": 1, "eval_steps": args.steps}},
                ).wait()  # fmt: skip
                found = unift.evaluate(
                    run.model, data=name_of(task, "test"), limit=args.limit, report=False
                )
                print(
                    task, seed, found.verdict.code, found.verdict.exceptions, found.verdict,
                    f"{time.monotonic() - began:.0f} s", flush=True,
                )  # fmt: skip


if __name__ == "__main__":
    main()
