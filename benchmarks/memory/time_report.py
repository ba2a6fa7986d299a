"""Hold the formula of time against every timed step, and write the table.

    python benchmarks/memory/time_report.py

Writes ``benchmarks/results/time.md``. The exit status is 1 if a held-out or fresh row of dense
models, in steps that repeat within 20%, is off by more than 15%.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from _configs import Run, config_of
from _time_configs import Timed
from _timed import HERE, TIME_ROWS, Row, rows
from report import label

RESULT = HERE.parent / "results" / "time.md"
LATE = 0.15
# Steps of like work that differ more than this say more about the host than about the formula.
STEADY = 0.20

HEAD = """\
# Time of a step: every one that was timed

`python benchmarks/memory/time_grid.py` on H100 80 GB cards (torch 2.11, CUDA 13, transformers 5.17,
trl 1.16, peft 0.21, bitsandbytes 0.50), 2026-11-25, and stock layers of the memory grid, the day
before; this page by `python benchmarks/memory/time_report.py`. Random weights of real shapes; three
to six steps through unift's own trainer after two or three of warm-up; the median step counts.
*ragged*: rows of log-normal length in packs; *packs*: rows of one length in packs (memory grid).

**Halves.** A row's half follows from a hash of its settings, fixed in a commit before anything was
measured. *fit*: constants are from these, by `fit_time.py`. *held out*: no constant or term was
chosen by them, and their errors were not computed before the constants were committed (the bare
seconds of the second session's rows, both halves, had been printed). *fresh*: written down and
measured after the terms of the formula were chosen; not looked at before the constants were
committed. Eleven were written, the session's time was enough for five.

**Hosts.** Short passes wait for the processor that launches their kernels, and the hosts of the
three sessions differed: by 0.86 and 1.39 times the first (fitted with the speeds). In the last two,
the same step could take up to twice as long as the one before; *spread* is the slowest over the
fastest step of like work. Rows whose spread is above 20% are counted by themselves; this line was
drawn after the errors were known. A run corrects its own estimate after a minute, and that of the
next one like it (`unift/estimate/paces.py`).

**Experts.** Their terms were made anew on 2026-11-25 in the evening, from the libraries' source and
with both halves in view (4 of 12 held-out rows were within 15% before, 24% off on average): peft
adds adapters to experts in one product and not in five kernels; experts whose weights are float32
are multiplied in float32, one after the other, whatever autocast says; the processor's work for a
4-bit layer counts the layers that are 4-bit. Three constants were then fitted to the fit half. Rows
to test that on are written down (`THIRD` in `_time_configs.py`) and not yet measured.

Errors are estimate over measurement, less 1; negative: too short. **miss**: off by more than 15%.
"""


def line(name: str, found: Iterable[Row]) -> str:
    """Rows, how many within 15%, mean and extremes."""
    errors = [one.error() for one in found]
    if not errors:
        return f"| {name} | 0 | | | | |"
    good = sum(abs(one) <= LATE for one in errors)
    mean = sum(map(abs, errors)) / len(errors)
    over, under = max(0.0, *errors), min(0.0, *errors)
    return f"| {name} | {len(errors)} | {good} | {mean:.1%} | {over:+.1%} | {under:+.1%} |"


def group(one: Row) -> str:
    """Which line of the summary a row belongs to."""
    if config_of(one.run.model).get("num_experts_per_tok"):
        return "experts"
    if one.spread() > STEADY:
        return "host too noisy"
    return "own path" if one.kind == "own" else "stock layers"


def main() -> int:
    """Write the page."""
    everyone = rows()
    table = [
        "| rows | | within 15% | mean | worst over | worst under |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    bad = False
    for name in ("own path", "stock layers", "host too noisy", "experts"):
        for half in ("fit", "held out", "fresh"):
            found = [one for one in everyone if group(one) == name and one.half == half]
            if found:
                table.append(line(f"{name}, {half}", found))
            if half != "fit" and name in ("own path", "stock layers"):
                bad = bad or any(abs(one.error()) > LATE for one in found)
    dense = [one for one in everyone if group(one) != "experts" and one.half != "fit"]
    good = sum(abs(one.error()) <= LATE for one in dense)
    table += ["", f"Dense models, held out and fresh, noisy hosts too: {good} of {len(dense)} rows"]
    table[-1] += " within 15%."
    body = [
        "| configuration | half | seconds | estimate | error | spread |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name in ("own path", "stock layers", "host too noisy", "experts"):
        body.append(f"| **{name}** | | | | | |")
        for one in sorted((r for r in everyone if group(r) == name), key=lambda r: r.half):
            error = one.error()
            miss = " **miss**" if abs(error) > LATE else ""
            body.append(
                f"| {one.name} | {one.half} | {one.seconds:.3f} | {one.seconds * (1 + error):.3f} "
                f"| {error:+.1%}{miss} | {one.spread():.0%} |"
            )
    left = ["", "Left out:", ""]
    for raw in map(json.loads, TIME_ROWS.read_text(encoding="utf-8").splitlines()):
        if "note" in raw or "error" in raw:
            run = Timed(Run(**raw["run"]), raw["rows"], raw["fresh"]).run
            seconds = raw.get("step_seconds")
            left.append(f"- {label(run)}: {seconds}; {raw.get('note') or raw['error']}")
    RESULT.write_text("\n".join([HEAD, *table, "", *body, *left]) + "\n", encoding="utf-8")
    print("\n".join(table))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
