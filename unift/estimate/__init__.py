"""Memory, time and money of a training, before anything is started.

`estimate` makes the table; `estimate_memory` and `estimate_time` are the formulas behind it, from a
model's `Shape` alone: no weights, no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from unift.estimate._budget import check_budget
from unift.estimate.table import Estimate, estimate

if TYPE_CHECKING:
    from unift.estimate._break_even import Traffic
    from unift.estimate._hardware import Hardware, hardware
    from unift.estimate._row import Row
    from unift.estimate._shape import ALL_TARGETS, Shape, read_shape
    from unift.estimate.memory import Memory, estimate_memory
    from unift.estimate.money import Cost, gpu_cost, token_cost, vendor_cost
    from unift.estimate.time import Duration, estimate_time, flops_per_token

# Loaded on first use: `import unift` needs none of them.
_HOMES = {
    "ALL_TARGETS": "_shape",
    "Cost": "money",
    "Duration": "time",
    "Hardware": "_hardware",
    "Memory": "memory",
    "Row": "_row",
    "Shape": "_shape",
    "Traffic": "_break_even",
    "estimate_memory": "memory",
    "estimate_time": "time",
    "flops_per_token": "time",
    "gpu_cost": "money",
    "hardware": "_hardware",
    "read_shape": "_shape",
    "token_cost": "money",
    "vendor_cost": "money",
}

__all__ = [
    "ALL_TARGETS",
    "Cost",
    "Duration",
    "Estimate",
    "Hardware",
    "Memory",
    "Row",
    "Shape",
    "Traffic",
    "check_budget",
    "estimate",
    "estimate_memory",
    "estimate_time",
    "flops_per_token",
    "gpu_cost",
    "hardware",
    "read_shape",
    "token_cost",
    "vendor_cost",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"unift.estimate.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'unift.estimate' has no attribute '{name}'")
