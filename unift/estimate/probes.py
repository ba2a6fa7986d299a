"""What probes of this machine's device measured, and estimates put right by it.

A probe is two steps of a real training. Its record says what the formulas were off by, and is kept
in ``UNIFT_HOME/probes.jsonl`` under the device, the versions of the libraries and the way in which
the step was computed; a record of other versions or another device is never used. An estimate of
the very training that was probed takes the measured figures; one of another training of the same
model that computes in the same way takes the corrections, and so does the planner.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unift import _home
from unift.estimate._hardware import Hardware
from unift.estimate._shape import Shape
from unift.estimate.memory import Memory
from unift.estimate.time import Duration

_PACKAGES = ("unift", "torch", "transformers", "peft", "bitsandbytes")
# Terms that follow from the config alone; a probe says nothing new about them.
_EXACT = frozenset({"weights", "adapters", "optimizer", "gradients", "cublas_workspace"})
# Settings that decide which kernels run; lengths and batches are the formulas' business.
_WAY = (
    "packing",
    "checkpointing",
    "dtype",
    "optimizer",
    "loss",
    "attention",
    "kernels",
)
# Half-width of the interval around a peak that was measured.
_MEASURED = 0.03


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe.

    `key` is what must be the same for the record to be of use; `subject` identifies the training
    that was probed, settings and data; `setup` are the words of `Setup` for it. Memory is in GiB
    (`allocated_gib` and `reserved_gib` as in `Memory`, None on a CPU, where `resident_gib` is the
    peak of the process), `seconds` those of the step of `tokens` in `passes`. `memory_gib` is what
    the peak lay above the formula's, `time_factor` how much longer the step took than by it.

    Memory is put right by GiB and not by a share: what the formula lacks is mostly of one size,
    whatever the batch. Over all pairs of measured rows that differ in batch and length only, a
    share doubles the mean error of the formula and GiB halve it (benchmarks/memory/carry.py).
    """

    at: str
    key: str
    subject: str
    model: str
    device: str
    libraries: dict[str, str]
    setup: dict[str, Any]
    tokens: int
    passes: int
    seconds: float
    time_factor: float
    allocated_gib: float | None = None
    reserved_gib: float | None = None
    resident_gib: float | None = None
    memory_gib: float = 0.0
    replanned: tuple[str, ...] = field(default=())

    @property
    def age_days(self) -> int:
        """Days since it was made."""
        return max(0, (datetime.now(UTC) - datetime.fromisoformat(self.at)).days)

    def as_dict(self) -> dict[str, Any]:
        """JSON form, with its age."""
        return {**asdict(self), "replanned": list(self.replanned), "age_days": self.age_days}

    def source(self) -> dict[str, Any]:
        """As one of the sources of a row."""
        versions = ", ".join(f"{name} {given}" for name, given in self.libraries.items() if given)
        return {
            "what": f"probe: {self.tokens:,} tokens of {self.model} in {self.passes} pass(es)",
            "source": [f"two steps on {self.device}", versions],
            "as_of": self.at[:10],
            "age_days": self.age_days,
            "stale": False,
        }


def corrected(
    probe: Probe, subject: str, memory: Memory, duration: Duration | None
) -> tuple[Memory, Duration | None, str]:
    """Memory and time of a training as a probe has them, and a sentence that says so."""
    same = probe.subject == subject
    age = f"{probe.age_days} days ago" if probe.age_days else "today"
    of = "this training" if same else f"{probe.model}, other rows or settings"
    what = "memory" if duration is None else "memory and time"
    note = f"{what} corrected by a probe of {of}, {age} on this device and these libraries"
    if probe.allocated_gib is not None:
        memory = _memory(probe, same, memory)
    elif probe.resident_gib is not None and same:
        memory = _resident(probe.resident_gib, memory)
    return memory, None if duration is None else _slower(duration, probe.time_factor), note


def _memory(probe: Probe, same: bool, memory: Memory) -> Memory:
    exact = sum(value for name, value in memory.terms.items() if name in _EXACT)
    rest = memory.allocated_gib - exact
    slack = memory.reserved_gib - memory.allocated_gib
    if same and probe.allocated_gib is not None:
        allocated = probe.allocated_gib
        reserved = max(allocated, probe.reserved_gib or 0.0)
    else:
        allocated = max(exact, memory.allocated_gib + probe.memory_gib)
        reserved = allocated + slack
    context = memory.terms.get("cuda_context", 0.0)
    share = max(0.0, allocated - exact) / rest if rest > 0 else 1.0
    terms = {
        name: value if name in _EXACT or name == "cuda_context" else value * share
        for name, value in memory.terms.items()
        if name != "allocator_slack"
    }
    terms["measured_beyond_terms"] = allocated - (sum(terms.values()) - context)
    terms["allocator_slack"] = reserved - allocated
    terms = {name: value for name, value in terms.items() if abs(value) > 1e-6}
    width = _MEASURED if same else max(_MEASURED, memory.high / memory.allocated_gib - 1)
    return replace(
        memory,
        terms=terms,
        allocated_gib=allocated,
        reserved_gib=reserved,
        device_gib=reserved + context,
        low=allocated * (1 - width),
        high=allocated * (1 + width),
        largest=max(terms, key=lambda name: terms[name]),
    )


def _resident(resident: float, memory: Memory) -> Memory:
    """A process on a CPU: what it held at its peak, whatever the terms say."""
    terms = dict(memory.terms)
    terms["process"] = resident - memory.allocated_gib
    return replace(memory, terms=terms, device_gib=resident)


def _slower(duration: Duration, factor: float) -> Duration:
    """Steps and evaluations take `factor` times as long; the rest stays."""
    scaled = ("training", "evaluation")
    terms = {
        name: seconds * factor if name in scaled else seconds
        for name, seconds in duration.terms.items()
    }
    return replace(
        duration,
        terms=terms,
        hours=sum(terms.values()) / 3600,
        tokens_per_second=duration.tokens_per_second / factor,
    )


def key_of(place: Hardware, shape: Shape, tuning: str, setup: dict[str, Any]) -> str:
    """Under what a probe is kept: device, versions, model and the way its steps are computed."""
    way = {name: setup.get(name) for name in _WAY}
    return digest(device_of(place), libraries(), asdict(shape), tuning, way)


def digest(*parts: Any) -> str:
    """A short name for anything that JSON can hold."""
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def device_of(place: Hardware) -> str:
    """The catalogue's name of a card, so that a card named and a card present are the same one;
    the processor's of a CPU."""
    if place.kind == "cpu":
        return _processor()
    return place.gpu.id if place.gpu else place.name


@lru_cache(maxsize=1)
def libraries() -> dict[str, str]:
    """Versions of what a step's memory and speed depend on; nothing is imported."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    found["cuda"] = _cuda()
    return found


def _cuda() -> str:
    """The CUDA that torch was built for, from its version file: importing it takes seconds."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^cuda\b[^=]*=\s*['\"]([^'\"]+)", text, re.MULTILINE)
    return found[1] if found else ""


@lru_cache(maxsize=1)
def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return (found[1] if found else platform.processor() or platform.machine()).strip()


def remember(probe: Probe) -> None:
    """Keep a probe for later estimates."""
    line = json.dumps(asdict(probe)) + "\n"
    with _file().open("a", encoding="utf-8") as file:
        file.write(line)


def recall(key: str, subject: str = "") -> Probe | None:
    """The newest probe under a key, one of the very same training before all others."""
    found = [probe for probe in _all() if probe.key == key]
    same = [probe for probe in found if probe.subject == subject]
    return max(same or found, key=lambda probe: probe.at, default=None)


def learnt(
    place: Hardware, shape: Shape, tuning: str
) -> Callable[[Mapping[str, Any], Memory], tuple[Memory, str]] | None:
    """What probes of this model on this device say of other layouts of its steps: a function from a
    layout's words and its memory to the memory put right and a sentence about it, empty where no
    probe computed in that way. None without any probe.

    More than the formula says is added to every size of such a layout; less is believed only of
    layouts with no more tokens in a pass than the probe's.
    """
    if not place.present:
        return None
    found: dict[str, Probe] = {}
    for one in sorted(_all(), key=lambda one: one.at):
        found[one.key] = one
    if not found:
        return None

    def correct(words: Mapping[str, Any], memory: Memory) -> tuple[Memory, str]:
        one = found.get(key_of(place, shape, tuning, dict(words)))
        if one is None or one.allocated_gib is None:
            return memory, ""
        size, probed = (made["micro_batch"] * made["length"] for made in (words, one.setup))
        if abs(one.memory_gib) < _SMALL or (one.memory_gib < 0 and size > probed):
            return memory, ""
        when = f"{one.age_days} days ago" if one.age_days else "today"
        note = f"{one.memory_gib:+.1f} GiB by a probe of {one.model} {when}"
        return _memory(one, False, memory), note

    return correct


# GiB that are not worth a word.
_SMALL = 0.05


def _file() -> Path:
    return _home.home() / "probes.jsonl"


def _all() -> Iterator[Probe]:
    """Every record that can be read; one of another version of unift may have other fields."""
    try:
        lines = _file().read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            fields: dict[str, Any] = json.loads(line)
            fields["replanned"] = tuple(fields["replanned"])
            yield Probe(**fields)
        except (ValueError, TypeError, KeyError):
            continue
