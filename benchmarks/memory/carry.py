"""What a probe of one batch and length is worth for another: error before and after, over rows.

    python benchmarks/memory/carry.py

Each pair of measured rows that differ in micro-batch and length only (same model, tuning, kernels,
checkpointing, ...) stands for a probe of the first and an estimate of the second. Compared: the
formula alone, a correction by a share of the terms that do not follow from the config, and one by
GiB, which is what `unift.estimate` does.
"""

from __future__ import annotations

import itertools
import statistics
from collections import defaultdict
from dataclasses import replace

from report import Measured, estimated, read

_EXACT = ("weights", "adapters", "optimizer", "gradients", "cublas_workspace")


def main() -> None:
    """Print the table."""
    rows = [one for one in read() if one.allocated is not None and "note" not in one.row]
    print("| pairs of rows | | formula | corrected by a share | corrected by GiB |")
    print("|---|--:|--:|--:|--:|")
    for name, kept in (
        ("all", rows),
        ("without those of the engine before", [one for one in rows if not one.before]),
    ):
        errors = _errors(kept)
        cells = " | ".join(_words(found) for found in errors)
        print(f"| {name} | {len(errors[0])} | {cells} |")


def _errors(rows: list[Measured]) -> tuple[list[float], list[float], list[float]]:
    groups: dict[str, list[Measured]] = defaultdict(list)
    for one in rows:
        alike = replace(
            one.run, length=1, micro_batch=1, rows_per_pack=min(1, one.run.rows_per_pack)
        )
        groups[f"{alike.key} {one.before}"].append(one)
    alone: list[float] = []
    share: list[float] = []
    added: list[float] = []
    for group in groups.values():
        for probe, other in itertools.permutations(group, 2):
            assert probe.allocated is not None
            assert other.allocated is not None
            first, second = estimated(probe.run), estimated(other.run)
            exact = [sum(x.terms.get(name, 0.0) for name in _EXACT) for x in (first, second)]
            rest = first.allocated_gib - exact[0]
            factor = (probe.allocated - exact[0]) / rest
            beyond = probe.allocated - first.allocated_gib
            alone.append(second.allocated_gib / other.allocated - 1)
            scaled = exact[1] + (second.allocated_gib - exact[1]) * factor
            share.append(scaled / other.allocated - 1)
            added.append((second.allocated_gib + beyond) / other.allocated - 1)
    return alone, share, added


def _words(errors: list[float]) -> str:
    mean = statistics.mean(map(abs, errors))
    return f"{mean:.2%}, {min(errors):+.1%} to {max(errors):+.1%}"


if __name__ == "__main__":
    main()
