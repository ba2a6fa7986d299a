"""Where one optimiser step spends its time: a trace for a viewer, and a page for a reader.

Work is told apart by what it is: products of matrices by their shapes (a side as long as the
vocabulary is the loss, as long as the MLP is wide the MLP, anything else the projections around
attention), everything else by the name of the operation. Both hold whether layers are compiled or
not, and on CPU and CUDA alike.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

from unift_local.rundir import EventLog

_STEP = 4  # of this life of the run: kernels are compiled and caches warm by then
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::linear")
_NAMES = {
    "attention": ("attention", "varlen", "flash", "fmha"),
    "dequantise": ("dequant", "bitsandbytes"),
    "optimiser": ("adam", "foreach", "multi_tensor", "optimizer", "linalg_vector_norm"),
    "loss": ("softmax", "logsumexp", "cross_entropy", "nll"),
    "MLP": ("silu", "gelu", "swiglu"),
    "copies": ("memcpy", "memset", "aten::copy_", "aten::cat", "aten::fill_", "aten::zero_"),
}
#: What the page lists, in this order; the rest is "other" (norms, rotations, residuals).
KINDS = (
    "attention",
    "attention projections",
    "MLP",
    "loss",
    "optimiser",
    "dequantise",
    "copies",
    "other",
    "idle",
)


class StepProfile(TrainerCallback):
    """Profiles one step of a run and writes ``FOLDER/trace.json.gz`` and ``FOLDER/profile.txt``."""

    def __init__(
        self, folder: Path, log: EventLog, config: Any, done: int, total_steps: int
    ) -> None:
        self._folder, self._log, self._config = folder, log, config
        self._wanted = min(done + _STEP, total_steps)
        self._running: Any = None
        self._began = 0.0
        self._before: float | None = None  # seconds of the step before, which nobody recorded

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Time the step before the wanted one; record that."""
        step = state.global_step + 1
        if step not in (self._wanted - 1, self._wanted):
            return
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.synchronize()
        if step == self._wanted:
            self._running = profile(activities=activities, record_shapes=True)
            self._running.start()
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop after it, and write."""
        if state.global_step not in (self._wanted - 1, self._wanted):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall = time.perf_counter() - self._began
        if self._running is None:
            self._before = wall
            return
        recorded, self._running = self._running, None
        recorded.stop()
        self._folder.mkdir(exist_ok=True)
        recorded.export_chrome_trace(str(self._folder / "trace.json.gz"))
        table = recorded.key_averages(group_by_input_shape=True)
        cuda = torch.cuda.is_available()
        # A recorded step waits for the recorder, which is not the step's own idleness.
        honest = min(wall, self._before) if cuda and self._before else wall
        shares = breakdown(table, self._config, honest, cuda)
        text = page(shares, wall, state.global_step, self._before)
        (self._folder / "profile.txt").write_text(text)
        self._log.write(
            "log",
            f"Step {state.global_step} was profiled; {self._folder / 'profile.txt'} says where its "
            f"{sum(shares.values()):.3f} s went, trace.json.gz beside it opens in ui.perfetto.dev.",
            profile={key: round(value, 6) for key, value in shares.items()},
            seconds=round(wall, 6),
        )


def breakdown(table: Iterable[Any], config: Any, wall: float, cuda: bool) -> dict[str, float]:
    """Seconds by kind of work.

    Args:
        table: `torch.profiler.profile.key_averages(group_by_input_shape=True)`.
        config: The model's, for the sides of its matrices.
        wall: Seconds of the step; what no operation accounts for is idle.
        cuda: Count the card's time, not the processor's.
    """
    found: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    kernels = 0.0
    for one in table:
        if one.key.startswith("## "):  # what the compiler says about a graph, not a kernel of it
            continue
        if str(one.device_type).endswith("CUDA"):
            kernels += one.self_device_time_total / 1e6
            continue
        micro = one.self_device_time_total if cuda else one.self_cpu_time_total
        found[_kind(one.key, one.input_shapes, config)] += micro / 1e6
    if cuda:  # kernels of compiled code belong to no operation
        found["other"] += max(0.0, kernels - sum(found.values()))
    found["idle"] = max(0.0, wall - sum(found.values()))
    return found


def _kind(name: str, shapes: Any, config: Any) -> str:
    if name in _PRODUCTS or name.startswith("unift::add_product"):
        sides = {side for shape in shapes or () for side in shape if isinstance(side, int)}
        if getattr(config, "vocab_size", None) in sides:
            return "loss"
        return "MLP" if getattr(config, "intermediate_size", None) in sides else _PROJECTIONS
    low = name.lower()
    for kind, words in _NAMES.items():
        if any(word in low for word in words):
            return kind
    return "other"


_PROJECTIONS = "attention projections"


def page(shares: dict[str, float], wall: float, step: int, before: float | None = None) -> str:
    """The breakdown for a reader.

    Args:
        shares: Seconds by kind of work (`breakdown`).
        wall: Seconds of the step while it was recorded.
        before: Seconds of the step before, which was not.
    """
    took = f"Step {step}: {wall * 1e3:.1f} ms while it was recorded"
    if before is not None:
        took += f"; step {step - 1}, not recorded, took {before * 1e3:.1f} ms"
    lines = [took, ""]
    whole = sum(shares.values())
    for kind in KINDS:
        part = shares[kind] / whole if whole else 0.0
        bar = "#" * round(40 * part)
        lines.append(f"{kind:<22} {shares[kind] * 1e3:>10.1f} ms {part:>7.1%}  {bar}".rstrip())
    lines += [
        "",
        "MLP and attention projections are products with weights, forward and backward, adapters",
        "included. Elementwise work of compiled layers counts as other. Idle is time in which",
        "nothing ran: waiting for data, for the host, or for another process; on a card it is what",
        "the work leaves of the shorter of the two steps, because recording slows the host.",
    ]
    return "\n".join(lines) + "\n"
