"""Record real loss curves of the embedded model, good and bad, for the tests of the diagnosis.

    python record.py --out ../../tests/evaluate/curves [NAME ...]

Every curve is one run of `unift.train` on this machine's CPU, one thread. The label says what a
reader of the curve and of its settings would call it; the file keeps the settings beside it. Those
whose name ends in ``-b`` repeat another with another seed. Not every case has been recorded yet.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "unift" / "demo" / "data"
Case = tuple[str, str, int | None, dict[str, Any]]  # label, data, rows (None: all), settings

# The demo's own settings are 3 epochs at 5e-3 with 8 rows a step.
CASES: dict[str, Case] = {
    "demo": ("healthy", "desk", None, {"epochs": 3, "learning_rate": 5e-3}),
    "settles": ("healthy", "minority", None, {"epochs": 3, "learning_rate": 3e-3}),
    "tiny-data": ("overfitting", "desk", 24, {"epochs": 40, "learning_rate": 5e-3}),
    "answers-shuffled": ("overfitting", "shuffled", None, {"epochs": 12, "learning_rate": 5e-3}),
    "rate-100-times-lower": ("underfitting", "desk", 240, {"epochs": 1, "learning_rate": 5e-5}),
    "too-few-steps": ("underfitting", "desk", None, {"max_steps": 30, "learning_rate": 1e-3}),
    "rate-100-times-higher": ("diverging", "minority", None, {"epochs": 2, "learning_rate": 0.5}),
    "rate-30-times-higher": ("diverging", "desk", 240, {"epochs": 2, "learning_rate": 0.15}),
    "rate-10-times-higher": (
        "rate_too_high", "desk", None, {"epochs": 1, "learning_rate": 0.05}
    ),
    "rate-6-times-higher": (
        "diverging", "minority", None, {"epochs": 2, "learning_rate": 0.03}
    ),
    "too-long": ("plateau", "minority", None, {"epochs": 14, "learning_rate": 2e-3}),
    "known-before": ("bad_masks", "known", None, {"epochs": 2, "learning_rate": 2e-3}),
}  # fmt: skip


def rows_of(data: str, part: str) -> list[str]:
    """JSONL lines; ``known`` is what the base answers by itself, in the minority task's words."""
    folder = DEMO if data == "desk" else DEMO / ("minority" if data == "known" else data)
    lines = (folder / f"{part}.jsonl").read_text("utf-8").splitlines()
    if data != "known":
        return lines
    rows = [json.loads(line) for line in lines]
    for row in rows:
        user, answer = row["messages"]
        user["content"] = user["content"].rpartition("\n\n")[0] + "\n\nIs there an order number?"
        found = any(char.isdigit() for char in user["content"])
        answer["content"] = "yes" if found else "no"
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def record(name: str, seed: int) -> dict[str, Any]:
    import unift
    from unift.report import read_curves

    label, data, count, settings = CASES[name.removesuffix("-b")]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNIFT_HOME"] = f"{folder}/home"
        files: dict[str, str] = {}
        for part, most in (("train", count), ("validation", 60)):
            path = Path(folder) / f"{part}.jsonl"
            path.write_text("\n".join(rows_of(data, part)[:most]) + "\n", "utf-8")
            files[part] = str(path)
        run = unift.train(
            provider="local-lora",
            model="demo",
            data=files["train"],
            validation=files["validation"],
            seed=seed,
            options={"local-lora": {"patience": 0, "threads": 1}},
            **settings,
        )
        run.wait(check=False)
        events = list(run.events(follow=False))
        curves = read_curves(events)
        kept = ("epochs", "max_steps", "learning_rate", "rank", "warmup_ratio", "batch_size")
        resolved = {one.name: one.value for one in run.plan.settings if one.name in kept}
        tokens = {key: run.plan.payload[key] for key in ("tokens", "trained_tokens")}
        return {
            "label": label,
            "made": {
                "data": data, "rows": count or "all", "seed": seed, "settings": resolved, **tokens,
                "ended": run.status, "machine": f"{platform.machine()} CPU, 1 thread",
                "model": "demo", "provider": "local-lora",
            },
            "train": _rounded(curves.train),
            "validation": _rounded(curves.validation),
            "rate": _rounded(curves.rate),
            "epochs": [[step, round(epoch, 3)] for step, epoch in sorted(curves.epochs.items())],
        }  # fmt: skip


def _rounded(curve: Any) -> list[list[float]]:
    return [[step, float(f"{value:.4g}")] for step, value in curve]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="which; all by default")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in args.names or [n for case in CASES for n in (case, f"{case}-b")]:
        found = record(name, 11 if name.endswith("-b") else 1)
        (args.out / f"{name}.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        last = found["validation"][-1] if found["validation"] else None
        print(name, found["made"]["ended"], len(found["train"]), "losses, last", last, flush=True)


if __name__ == "__main__":
    main()
