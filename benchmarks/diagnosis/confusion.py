"""What the diagnosis says of recorded curves, as a confusion table.

python confusion.py ../../tests/evaluate/curves [FOLDER ...] [--curves]
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unift.evaluate import Watch, diagnose
from unift.provider import Event

AT = datetime(2026, 11, 25, tzinfo=UTC)
ALARMS = {"overfitting", "diverging", "rate_too_high", "bad_masks"}


def events_of(found: dict[str, Any]) -> list[Event]:
    """The events of a recorded curve, in order."""
    epochs, rates = dict(found["epochs"]), dict(found["rate"])
    sampled = set(found.get("sampled", ()))
    points: list[tuple[int, int, Event]] = []
    for step, loss in found["train"]:
        data = {"step": step, "loss": loss, "epoch": epochs.get(step, 0.0)}
        if step in rates:
            data["learning_rate"] = rates[step]
        points.append((step, 0, Event(id=f"m{step}", at=AT, kind="metrics", data=data)))
    points += [
        (step, 1, Event(id=f"e{step}", at=AT, kind="evaluation",
                        data={"step": step, "validation_loss": loss, "sampled": step in sampled}))
        for step, loss in found["validation"]
    ]  # fmt: skip
    return [event for *_, event in sorted(points, key=lambda one: one[:2])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--curves", action="store_true", help="one line a curve as well")
    args = parser.parse_args()
    table: Counter[tuple[str, str]] = Counter()
    good, wrongly = 0, 0
    for path in [one for folder in args.folders for one in sorted(folder.glob("*.json"))]:
        found = json.loads(path.read_text("utf-8"))
        events, label, watch = events_of(found), found["label"], Watch()
        live = [alarm.code for event in events if (alarm := watch.see(event))]
        said = diagnose(events)
        table[label, said.code] += 1
        good += label not in ALARMS
        wrongly += label not in ALARMS and bool(live)
        if args.curves:
            wrong = "" if label == said.code else f"  <-- {said.sentence}"
            print(f"{path.stem:28} {label:14} {said.code:14} {live}{wrong}")
    codes = list(dict.fromkeys([*(a for a, _ in table), *(b for _, b in table)]))
    print("| label | curves | " + " | ".join(f"`{code}`" for code in codes) + " |")
    print("| --- " * (len(codes) + 2) + "|")
    for label in codes:
        row = [table[label, code] for code in codes]
        if sum(row):
            print(f"| {label} | {sum(row)} | " + " | ".join(str(n or "") for n in row) + " |")
    print(f"\nAlarms while a good training went on: {wrongly} of {good}.")


if __name__ == "__main__":
    main()
