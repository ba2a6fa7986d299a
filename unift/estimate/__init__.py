"""Memory, time and money of a training, before anything is started.

`estimate` makes the table; `estimate_memory` and `estimate_time` are the formulas behind it, from a
model's `Shape` alone: no weights, no torch. `local_row` is for providers that
train on this machine: the row of a plan, from the settings that were really chosen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from unift._lazy import loader
from unift.estimate._budget import check_budget
from unift.estimate.table import Estimate, estimate

if TYPE_CHECKING:
    from unift.estimate._break_even import Traffic
    from unift.estimate._cpu_time import CpuSpeed, remember_cpu, remembered_cpu
    from unift.estimate._hardware import Hardware, hardware
    from unift.estimate._local import local_row
    from unift.estimate._resolve import Base, Workload, local_provider, local_providers
    from unift.estimate._row import Row
    from unift.estimate._setup import LocalSettings, Setup
    from unift.estimate._shape import ALL_TARGETS, Shape, read_shape
    from unift.estimate.memory import Memory, estimate_memory
    from unift.estimate.money import Cost, gpu_cost, token_cost, vendor_cost
    from unift.estimate.probes import Probe
    from unift.estimate.time import Duration, estimate_time, flops_per_token

# Loaded on first use: `import unift` needs none of them.
_HOMES = {
    "ALL_TARGETS": "_shape",
    "Base": "_resolve",
    "Cost": "money",
    "CpuSpeed": "_cpu_time",
    "Duration": "time",
    "Hardware": "_hardware",
    "LocalSettings": "_setup",
    "Memory": "memory",
    "Probe": "probes",
    "Row": "_row",
    "Setup": "_setup",
    "Shape": "_shape",
    "Traffic": "_break_even",
    "Workload": "_resolve",
    "estimate_memory": "memory",
    "estimate_time": "time",
    "flops_per_token": "time",
    "gpu_cost": "money",
    "hardware": "_hardware",
    "local_provider": "_resolve",
    "local_providers": "_resolve",
    "local_row": "_local",
    "read_shape": "_shape",
    "remember_cpu": "_cpu_time",
    "remembered_cpu": "_cpu_time",
    "token_cost": "money",
    "vendor_cost": "money",
}

__all__ = [
    "ALL_TARGETS",
    "Base",
    "Cost",
    "CpuSpeed",
    "Duration",
    "Estimate",
    "Hardware",
    "LocalSettings",
    "Memory",
    "Probe",
    "Row",
    "Setup",
    "Shape",
    "Traffic",
    "Workload",
    "check_budget",
    "estimate",
    "estimate_memory",
    "estimate_time",
    "flops_per_token",
    "gpu_cost",
    "hardware",
    "local_provider",
    "local_providers",
    "local_row",
    "read_shape",
    "remember_cpu",
    "remembered_cpu",
    "token_cost",
    "vendor_cost",
]


__getattr__ = loader(__name__, _HOMES)
