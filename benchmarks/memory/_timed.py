"""Timed steps, from `time_grid.py` and from the memory grid, in one form."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from _configs import Run, config_of
from _time_configs import Timed
from report import ROWS, _words, label, read

from unift import catalog
from unift.estimate import Shape, _gpu_time
from unift.estimate._training import Training, make_training

# Three sessions, three hosts: how many times as long their processors took for the same launches.
# Fitted by `fit_time.py` together with the speeds, from the fit half. A loop of Python and small
# launches, timed beside each row of the third, did not follow what its steps did. Later sessions
# count as the first: nobody knows the host of a run that is still to come.
HOSTS = (1.0, 0.863, 1.39, 1.0)

HERE = Path(__file__).parent
TIME_ROWS = HERE / "time_rows.jsonl"


@dataclass(frozen=True)
class Step:
    """One optimiser step: tokens of its passes, and the length that attention sees."""

    seconds: float
    passes: tuple[float, ...]
    row: float


@dataclass(frozen=True)
class Row:
    """A configuration and its counted steps; `kind` is ``own`` or ``stock``, `half` ``fit``,
    ``held out`` or ``fresh``."""

    run: Run
    name: str
    kind: str
    half: str
    steps: tuple[Step, ...]
    session: int
    gpu: str = "h100"

    @property
    def seconds(self) -> float:
        """The median step."""
        return median(one.seconds for one in self.steps)

    @property
    def host(self) -> float:
        """How many times as long its processor took as that of the first session."""
        return HOSTS[self.session]

    def errors(
        self, speeds: _gpu_time.Speeds = _gpu_time.SPEEDS, host: float | None = None
    ) -> list[float]:
        """Estimate over measurement of each step, less 1."""
        host = self.host if host is None else host
        return [
            estimated(self.run, one, speeds, host, self.gpu) / one.seconds - 1 for one in self.steps
        ]

    def error(
        self, speeds: _gpu_time.Speeds = _gpu_time.SPEEDS, host: float | None = None
    ) -> float:
        """The median of them."""
        return median(self.errors(speeds, host))

    def spread(self) -> float:
        """Slowest over fastest step of like work, less 1: what no estimate can foretell."""
        found = [1 + one for one in self.errors()]
        return max(found) / min(found) - 1


def estimated(
    run: Run, step: Step, speeds: _gpu_time.Speeds, host: float, gpu: str = "h100"
) -> float:
    """Our seconds for a step."""
    card = catalog.gpu(gpu)
    assert card.bf16_tflops is not None
    assert card.bandwidth_gb_s is not None
    shape = Shape.from_config(config_of(run.model))
    training = training_of(run, shape)
    total = sum(
        _gpu_time.pass_seconds(
            shape,
            training,
            float(tokens),
            step.row,
            tflops=card.bf16_tflops,
            bandwidth=card.bandwidth_gb_s,
            host=host,
            speeds=speeds,
        )
        for tokens in step.passes
    )
    return total + _gpu_time.optimizer_seconds(shape, training, card.bandwidth_gb_s, speeds)


def training_of(run: Run, shape: Shape) -> Training:
    """A configuration in the words of the estimate."""
    return make_training(
        shape,
        adapter_dtype=None,
        vision=False,
        devices=1,
        sharding="none",
        device="cuda",
        **{"targets": None, **_words(run)},
    )


def rows() -> list[Row]:
    """Every row that is estimated, today's path only."""
    return [*_grid(), *_times()]


def _times() -> list[Row]:
    found: list[Row] = []
    if not TIME_ROWS.exists():
        return found
    for line in map(json.loads, TIME_ROWS.read_text().splitlines()):
        if "error" in line or "note" in line:
            continue
        one = Timed(Run(**line["run"]), line["rows"], line["fresh"])
        steps = tuple(
            Step(
                seconds,
                tuple(map(float, made["passes"])),
                made["squares"] / made["tokens"],
            )
            for seconds, made in zip(line["step_seconds"], line["steps"], strict=True)
        )
        half = "fresh" if one.fresh else "held out" if one.held_out else "fit"
        kind = "own" if one.run.product and not one.run.dropout else "stock"
        name = f"{label(one.run)}, {one.rows} rows"
        session = 3 if line.get("engine") == "today" else 2 if "host" in line else 1
        gpu = "h200" if "H200" in line["gpu"] else "h100"
        name += " (H200)" if gpu == "h200" else ""
        found.append(Row(one.run, name, kind, half, steps, session, gpu))
    return found


def _grid() -> list[Row]:
    """Stock layers of the memory grid: nothing has changed for them since."""
    found: list[Row] = []
    for one in read(ROWS):
        run, line = one.run, one.row
        seconds: list[float] = (line.get("step_seconds") or [])[1:]
        if not seconds or not _counts(run, line):
            continue
        length = float(run.length / run.rows_per_pack if run.rows_per_pack else run.length)
        passes = (float(run.micro_batch * run.length),) * run.passes
        steps = tuple(Step(each, passes, length) for each in seconds)
        half = "held out" if run.held_out else "fit"
        found.append(Row(run, label(run), "stock", half, steps, 0))
    return found


def _counts(run: Run, line: dict[str, Any]) -> bool:
    if run.dtype == "fp32" or run.loss != "chunked" or run.dora or run.attention == "eager":
        return False  # nobody trains so
    return not run.product and "note" not in line  # own path: before the layers were made faster
