"""Fit the speeds of `unift.estimate._gpu_time` to the fit half of the timed steps.

    python benchmarks/memory/fit_time.py

Least squares of the logarithm of estimate over measurement, one term a row (the median step), with
a loss that forgives what is far off; neither the held-out half nor fresh rows are read. Needs
scipy. Prints the constants, to be written into `Speeds`, and the errors of the rows they are from.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from _timed import Row, rows
from scipy.optimize import least_squares

from unift.estimate import _gpu_time

# Where the search begins; what no row decides stays there.
START = _gpu_time.Speeds(
    products=0.75, bandwidth=0.8, causal=0.45, dense=0.4, four_bit=0.8, cast=0.8,
    layer=2e-3, adapters=1.5e-3, quantised=2e-3, fused=2.5e-3, experts=1.5e-3, compiled=0.4,
    again=1.3, step=1e-2, wrapped=1e-3, merged=0.5,
)  # fmt: skip
LOW, HIGH = 0.2, 5.0  # of the start
# No kernel does better than its data sheet; attention reaches 75% of it at best (cuDNN's). Tensors
# that stay in the cache between two kernels are read faster than memory is.
CEILING = {"products": 0.9, "bandwidth": 0.95, "four_bit": 0.95, "causal": 0.75, "dense": 0.6}
CEILING |= {"cast": 2.0, "merged": 0.95}


def main() -> None:
    """Fit and print."""
    found = [one for one in rows() if one.half == "fit"]
    names = [one.name for one in fields(START)]

    def speeds(logs: np.ndarray) -> _gpu_time.Speeds:
        return replace(
            START,
            **{
                name: getattr(START, name) * float(np.exp(value))
                for name, value in zip(names, logs, strict=True)
            },
        )

    def host(one: Row, logs: np.ndarray) -> float:
        """Of the second and third session beside the first, as which later ones count."""
        return float(np.exp((0.0, *logs[len(names) :], 0.0)[one.session]))

    def off(logs: np.ndarray) -> np.ndarray:
        now = speeds(logs[: len(names)])
        errors = np.array([np.log1p(one.error(now, host(one, logs))) for one in found])
        return np.concatenate([errors, 0.03 * logs])  # what no row decides stays where it was

    bounds = (
        [np.log(LOW)] * (len(names) + 2),
        [
            *(np.log(min(HIGH, CEILING.get(name, 1e9) / getattr(START, name))) for name in names),
            *[np.log(HIGH)] * 2,
        ],
    )
    start = np.minimum(np.zeros(len(names) + 2), np.array(bounds[1]) - 1e-6)
    fitted = least_squares(off, start, bounds=bounds, loss="soft_l1", f_scale=0.1)
    best = speeds(fitted.x[: len(names)])
    hosts = np.exp([0.0, *fitted.x[len(names) :]])
    print(f"    HOSTS = ({', '.join(f'{one:.3g}' for one in hosts)})")
    for name in names:
        print(f"    {name}: float = {getattr(best, name):.4g}")
    errors = [one.error(best, host(one, fitted.x)) for one in found]
    for one, error in sorted(zip(found, errors, strict=True), key=lambda pair: -abs(pair[1])):
        print(f"{error:+7.1%} {one.seconds:.3f} s, steps within {one.spread():.0%}: {one.name}")
    print(
        f"{len(found)} rows, mean {np.mean(np.abs(errors)):.1%}, worst {max(map(abs, errors)):.1%}"
    )


if __name__ == "__main__":
    main()
