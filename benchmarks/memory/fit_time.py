"""Fit the speeds of `unift.estimate._gpu_time` to the fit half of the measured steps.

    python benchmarks/memory/fit_time.py

Least squares of the logarithm of estimate over measurement; the held-out half is not read. Needs
scipy. Prints the constants, to be written into `Speeds`, and the errors of the rows they are from.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from report import label, read, seconds, timed
from scipy.optimize import least_squares

from unift.estimate import _gpu_time

# Where the search begins; what no row decides stays there.
START = _gpu_time.Speeds(
    products=0.75, bandwidth=0.7, causal=0.35, dense=0.2, four_bit=0.4, layer=2e-3,
    adapters=3e-3, quantised=2e-3, fused=2e-3, compiled=0.4, step=5e-3,
)  # fmt: skip
LOW, HIGH = 0.2, 5.0  # of the start
# No kernel does better than its data sheet; attention reaches 60% of it at best.
CEILING = {"products": 0.9, "bandwidth": 0.95, "four_bit": 0.95, "causal": 0.6, "dense": 0.6}


def main() -> None:
    """Fit and print."""
    rows = [one for one in timed(read()) if not one.run.held_out]
    names = [one.name for one in fields(START)]
    real = np.array([min(one.row["step_seconds"][1:]) for one in rows])

    def speeds(logs: np.ndarray) -> _gpu_time.Speeds:
        return replace(
            START,
            **{
                name: getattr(START, name) * float(np.exp(value))
                for name, value in zip(names, logs, strict=True)
            },
        )

    def off(logs: np.ndarray) -> np.ndarray:
        errors = np.log([seconds(one.run, speeds(logs)) for one in rows]) - np.log(real)
        return np.concatenate([errors, 0.03 * logs])  # what no row decides stays where it was

    bounds = (
        [np.log(LOW)] * len(names),
        [np.log(min(HIGH, CEILING.get(name, 1e9) / getattr(START, name))) for name in names],
    )
    found = least_squares(off, np.zeros(len(names)), bounds=bounds, loss="soft_l1", f_scale=0.1)
    best = speeds(found.x)
    for name in names:
        print(f"    {name}: float = {getattr(best, name):.4g}")
    errors = [seconds(one.run, best) / value - 1 for one, value in zip(rows, real, strict=True)]
    for one, value, error in sorted(
        zip(rows, real, errors, strict=True), key=lambda three: -abs(three[2])
    ):
        print(f"{error:+7.1%} {value:.3f} {label(one.run)}")
    print(
        f"{len(rows)} rows, mean {np.mean(np.abs(errors)):.1%}, worst {max(map(abs, errors)):.1%}"
    )


if __name__ == "__main__":
    main()
