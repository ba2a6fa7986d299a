"""What this machine has: its first GPU, or its memory as a CPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from unift import catalog
from unift.errors import UsageError


@dataclass(frozen=True, slots=True)
class Hardware:
    """Where a local training would run.

    `usable_gib` is what a process can allocate there; `gpu` is the catalogue's entry, None for the
    CPU and for cards that the catalogue does not know; `present` is True for this very machine.
    """

    name: str
    kind: str
    usable_gib: float
    gpu: catalog.Gpu | None
    present: bool


def hardware(name: str | None = None) -> Hardware:
    """The hardware named ("h100", "cpu"), or what is present: the first GPU, else the CPU.

    Raises:
        UsageError: A name that the catalogue does not know.
    """
    if name is None:
        found = _first_gpu()
        return found if found is not None else _cpu()
    if name.lower() == "cpu":
        return _cpu()
    card = catalog.gpu(name)
    return Hardware(card.id, "cuda", card.usable_gib, card, present=False)


def _cpu() -> Hardware:
    return Hardware("cpu", "cpu", round(_memory_gib(), 2), None, present=True)


def _memory_gib() -> float:
    """Memory of the machine, or of the container if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text) / 2**30)
    return total


@lru_cache(maxsize=1)
def _first_gpu() -> Hardware | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # a driver that does not answer is no GPU to train on
    line = done.stdout.strip().splitlines()[:1]
    name, _, mib = (line[0] if line else "").rpartition(",")
    if not name or not mib.strip().isdigit():
        return None
    usable = round(int(mib) / 1024 - 0.5, 2)
    try:
        card = catalog.gpu(name.strip())
    except UsageError:
        card = None
    return Hardware(name.strip(), "cuda", usable, card, present=True)
