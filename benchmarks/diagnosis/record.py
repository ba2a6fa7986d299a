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
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parents[2] / "unift" / "demo" / "data"
#: Endings of names -> seeds; a name without one has seed 1.
SEEDS = {"-b": 11, "-c": 23, "-d": 37, "-e": 51}
Case = tuple[str, str, int | None, dict[str, Any]]  # label, data, rows (None: all), settings

# The demo's own settings are 3 epochs at 5e-3 with 8 rows a step.
CASES: dict[str, Case] = {
    "demo": ("healthy", "desk", None, {"epochs": 3, "learning_rate": 5e-3}),
    "settles": ("plateau", "minority", None, {"epochs": 3, "learning_rate": 3e-3}),
    "small-batch": (
        "plateau", "minority", None, {"epochs": 2, "learning_rate": 2e-3, "batch_size": 1}
    ),
    "rank-1": ("healthy", "minority", None, {"epochs": 3, "learning_rate": 5e-3, "rank": 1}),
    "full": (
        "plateau", "minority", None,
        {"epochs": 3, "learning_rate": 3e-4, "provider": "local-full"},
    ),
    "few-epochs": ("healthy", "desk", None, {"epochs": 1, "learning_rate": 5e-3}),
    "short": ("healthy", "minority", 160, {"epochs": 2, "learning_rate": 5e-3}),
    "half-noise": ("healthy", "half-noise", 200, {"epochs": 2, "learning_rate": 3e-3}),
    "tiny-data": ("overfitting", "desk", 24, {"epochs": 40, "learning_rate": 5e-3}),
    "answers-shuffled": ("overfitting", "shuffled", None, {"epochs": 12, "learning_rate": 5e-3}),
    "rank-1-by-heart": (
        "overfitting", "shuffled", 100, {"epochs": 20, "learning_rate": 5e-3, "rank": 2}
    ),
    "rate-100-times-lower": ("underfitting", "desk", 240, {"epochs": 1, "learning_rate": 5e-5}),
    "too-few-steps": ("underfitting", "desk", None, {"max_steps": 30, "learning_rate": 1e-3}),
    "rate-100-times-higher": ("diverging", "minority", None, {"epochs": 2, "learning_rate": 0.5}),
    "rate-30-times-higher": ("diverging", "desk", 240, {"epochs": 2, "learning_rate": 0.15}),
    "rate-10-times-higher": (
        "diverging", "desk", None, {"epochs": 1, "learning_rate": 0.05}
    ),
    "rate-6-times-higher": (
        "diverging", "minority", None, {"epochs": 2, "learning_rate": 0.03}
    ),
    "rate-5-times-higher": (
        "rate_too_high", "desk", None, {"epochs": 2, "learning_rate": 0.025}
    ),
    "full-rate-high": (
        "rate_too_high", "minority", None,
        {"epochs": 4, "learning_rate": 4e-3, "provider": "local-full"},
    ),
    "too-long": ("plateau", "minority", None, {"epochs": 14, "learning_rate": 2e-3}),
    "coin-flips": ("plateau", "coins", 240, {"epochs": 8, "learning_rate": 2e-3}),
    "dice": ("plateau", "dice", 240, {"epochs": 8, "learning_rate": 2e-3}),
    "tiny-rank": (
        "plateau", "coins", 240, {"epochs": 10, "learning_rate": 5e-3, "rank": 1}
    ),
    # Kinds that were recorded only after the thresholds had been set.
    "large-batch": (
        "healthy", "minority", None, {"epochs": 4, "learning_rate": 4e-3, "batch_size": 16}
    ),
    "rank-64": ("healthy", "minority", None, {"epochs": 2, "learning_rate": 2e-3, "rank": 64}),
    "twelve-rows": ("overfitting", "minority", 12, {"epochs": 40, "learning_rate": 3e-3}),
    "full-by-heart": (
        "overfitting", "shuffled", 100,
        {"epochs": 12, "learning_rate": 3e-4, "provider": "local-full"},
    ),
    "full-too-short": (
        "underfitting", "minority", None,
        {"epochs": 1, "learning_rate": 5e-6, "provider": "local-full"},
    ),
    "full-blown-up": (
        "diverging", "minority", None,
        {"epochs": 2, "learning_rate": 0.05, "provider": "local-full"},
    ),
    "known-before": ("bad_masks", "known", None, {"epochs": 2, "learning_rate": 2e-3}),
}  # fmt: skip


def rows_of(data: str, part: str) -> list[str]:
    """JSONL lines.

    ``known`` is what the base answers by itself, in the minority task's words. ``coins`` and
    ``dice`` ask ten questions again and again; the answers are two words (six), each as often as
    the others after every question, so that the loss has a floor which no training passes. In
    ``half-noise`` one answer in two belongs to another question of the minority task.
    """
    if data in ("coins", "dice"):
        return evenly(6 if data == "dice" else 2)
    if data == "half-noise":
        return half_noise(part)
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


def evenly(faces: int) -> list[str]:
    words = ["red", "blue", "green", "black", "white", "yellow"][:faces]
    rows: list[str] = []
    for i in range(240):
        messages = [
            {"role": "user", "content": f"Draw from urn {i % 10}."},
            {"role": "assistant", "content": words[i // 10 % faces]},
        ]
        rows.append(json.dumps({"messages": messages}))
    return rows


def half_noise(part: str) -> list[str]:
    rng = random.Random(f"noise {part}")
    rows = [json.loads(line) for line in rows_of("minority", part)]
    answers = [row["messages"][1]["content"] for row in rows]
    for row in rows:
        if rng.random() < 0.5:
            row["messages"][1]["content"] = rng.choice(answers)
    return [json.dumps(row, ensure_ascii=False) for row in rows]


def record(name: str, seed: int) -> dict[str, Any]:
    import unift
    from unift.report import read_curves

    label, data, count, settings = CASES[name[:-2] if name[-2:] in SEEDS else name]
    provider = settings.get("provider", "local-lora")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNIFT_HOME"] = f"{folder}/home"
        files: dict[str, str] = {}
        for part, most in (("train", count), ("validation", 60)):
            path = Path(folder) / f"{part}.jsonl"
            path.write_text("\n".join(rows_of(data, part)[:most]) + "\n", "utf-8")
            files[part] = str(path)
        run = unift.train(
            provider=provider,
            model="demo",
            data=files["train"],
            validation=files["validation"],
            seed=seed,
            options={provider: {"patience": 0, "threads": 1}},
            **{key: value for key, value in settings.items() if key != "provider"},
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
                "model": "demo", "provider": provider,
            },
            "train": _rounded(curves.train),
            "validation": _rounded(curves.validation),
            "rate": _rounded(curves.rate),
            "epochs": [[step, round(epoch, 3)] for step, epoch in sorted(curves.epochs.items())],
        }  # fmt: skip


def _rounded(curve: Any) -> list[list[float]]:
    return [[step, float(f"{value:.4g}")] for step, value in curve]


def main(
    cases: dict[str, Case], one: Callable[[str, int], dict[str, Any]], doc: str | None
) -> None:
    """Record the cases that are named, or all with all their seeds, a file each."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("names", nargs="*", help="which; all by default")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    for name in args.names or [case + end for case in cases for end in ("", *SEEDS)]:
        found = one(name, SEEDS.get(name[-2:], 1))
        text = json.dumps(found, separators=(",", ":"))
        (args.out / f"{name}.json").write_text(text + "\n")
        last = found["validation"][-1] if found["validation"] else None
        print(name, found["made"]["ended"], len(found["train"]), "losses, last", last, flush=True)


if __name__ == "__main__":
    main(CASES, record, __doc__)
