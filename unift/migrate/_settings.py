"""Each setting of the old job, the setting that takes its place, by which rule, and how sure.

What the vendor's words mean: ``n_epochs`` are passes over the file and ``batch_size`` examples a
step (openai SDK 3.57, ``types/fine_tuning``), so both carry over. ``learning_rate_multiplier``
multiplies a rate that the vendor does not publish, so no number carries over; what remains is a
heuristic, and it is called one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unift import catalog
from unift.errors import UsageError
from unift.estimate import local_providers
from unift.migrate._files import part

Certainty = Literal["exact", "heuristic", "default", "yours", "dropped"]

# A heuristic must not be able to ruin a training: beyond a factor of three either way published
# rates of adapters stop being in the range that anybody reports.
_CLAMP = 3.0
# Google's guide for tuning open models (google/skills @1af7775, 2026-08-21): 2e-4 for adapters.
_ADAPTER_RATE = 2e-4
_FULL_RATE = 2e-5
_DEMO_RATE = 5e-3


@dataclass(frozen=True)
class Mapped:
    """One line of the mapping. `old` and `new` are None where there is no such setting."""

    setting: str
    old_name: str
    old: Any
    new: Any
    rule: str
    certainty: Certainty
    source: str = ""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def map_settings(
    job: Mapping[str, Any],
    given: Mapping[str, Any],
    *,
    provider: str,
    base: str,
) -> list[Mapped]:
    """The mapping of a job, in the order in which a person would check it.

    Args:
        job: The old job: ``hyperparameters`` (``n_epochs``, ``batch_size``,
            ``learning_rate_multiplier``, ``beta``), ``seed``, ``suffix``, ``method``.
        given: What the user decided; it wins.
        provider: Who will train; decides whether a rate is absolute or a multiplier.
        base: What will be trained.
    """
    old = part(job, "hyperparameters")
    same = "the same meaning on both sides"
    lines = [
        _carried("epochs", "n_epochs", old, given, f"passes over the data: {same}"),
        _carried(
            "batch_size",
            "batch_size",
            old,
            given,
            f"rows per optimiser step: {same}; a card that cannot hold it accumulates gradients",
        ),
        _rate(old, given, provider, base),
    ]
    if old.get("beta") is not None:
        lines.append(
            Mapped(
                "beta",
                "beta",
                old["beta"],
                None,
                "strength of preference tuning; the new training is supervised",
                "dropped",
            )
        )
    lines.append(_seed(job, given))
    lines += _new_only(given)
    return lines


def training_of(lines: list[Mapped]) -> dict[str, Any]:
    """The settings of the new training, those that have a value."""
    skipped = ("beta",)
    return {
        line.setting: line.new
        for line in lines
        if line.new is not None and line.setting not in skipped
    }


def _carried(
    name: str, old_name: str, old: Mapping[str, Any], given: Mapping[str, Any], rule: str
) -> Mapped:
    before = _number(old.get(old_name))
    if given.get(name) is not None:
        return Mapped(name, old_name, old.get(old_name), given[name], "you set it", "yours")
    if before is None:
        return Mapped(
            name,
            old_name,
            old.get(old_name),
            None,
            "the vendor chose it and does not say what it was; the new provider's default",
            "default",
        )
    return Mapped(name, old_name, before, before, rule, "exact")


def _rate(old: Mapping[str, Any], given: Mapping[str, Any], provider: str, base: str) -> Mapped:
    old_name = "learning_rate_multiplier"
    before = old.get(old_name)
    for name in ("learning_rate", "learning_rate_multiplier"):
        if given.get(name) is not None:
            return Mapped(name, old_name, before, given[name], "you set it", "yours")
    multiplier = _number(before)
    if _multiplies(provider):
        if multiplier is None:
            return Mapped(old_name, old_name, before, None, "the provider's default", "default")
        return Mapped(
            old_name,
            old_name,
            multiplier,
            multiplier,
            "the same API takes the same multiplier; of another base it is a guess",
            "exact" if base == old.get("model") else "heuristic",
        )
    rate, formula, source = recommended_rate(base, provider)
    if base == "demo" or multiplier is None:
        return Mapped("learning_rate", old_name, before, rate, formula, "heuristic", source)
    factor = min(max(multiplier, 1 / _CLAMP), _CLAMP)
    limited = "" if factor == multiplier else f", held within {1 / _CLAMP:.2g} and {_CLAMP:g}"
    return Mapped(
        "learning_rate",
        old_name,
        multiplier,
        float(f"{rate * factor:.3g}"),
        f"{formula}, times the old multiplier {multiplier:g}{limited}; the vendor does not publish "
        "what it multiplied, so this is a starting point: sweep it",
        "heuristic",
        source,
    )


def recommended_rate(base: str, provider: str) -> tuple[float, str, str]:
    """The learning rate to start from for a base: the rate, its formula, and its source."""
    if local_providers().get(provider) == "full":
        return _FULL_RATE, "2e-5, the local default for tuning all weights", f"unift {provider}"
    if base == "demo":
        return (
            _DEMO_RATE,
            "5e-3, measured for the embedded model",
            "benchmarks/demo_model/README.md",
        )
    hidden = _hidden_size(base)
    family = next((one.family for one in catalog.bases() if one.id == base), _family(base))
    for rule in catalog.rate_rules():
        power = rule.families.get(family)
        if power is not None and hidden:
            # tinker_cookbook/hyperparam_utils.py: 5e-5 * 10 (adapters) * (2000 / hidden)^p.
            rate = 5e-5 * 10 * (2000 / hidden) ** power
            return (
                float(f"{rate:.3g}"),
                f"5e-4 x (2000/{hidden})^{power:g} = {rate:.3g} for {family}",
                f"{rule.source[0]} ({rule.as_of})",
            )
    return (
        _ADAPTER_RATE,
        "2e-4, usual for adapters (no published formula for this base)",
        "https://github.com/google/skills @1af7775 agent-platform-tuning (2026-08-21)",
    )


def _multiplies(provider: str) -> bool:
    if provider.startswith("local"):
        return False
    try:
        return catalog.vendor(provider).learning_rate == "multiplier"
    except UsageError:
        return False


def _seed(job: Mapping[str, Any], given: Mapping[str, Any]) -> Mapped:
    if given.get("seed") is not None:
        return Mapped("seed", "seed", job.get("seed"), given["seed"], "you set it", "yours")
    seed = _number(job.get("seed"))
    if seed is None:
        return Mapped("seed", "seed", None, None, "the provider's default", "default")
    rule = "kept for the record; another trainer draws other numbers from the same seed"
    return Mapped("seed", "seed", seed, int(seed) % 2**31, rule, "exact")


def _new_only(given: Mapping[str, Any]) -> list[Mapped]:
    """Settings that the vendor hid (rank and the like), where the user decided them."""
    told = ("epochs", "batch_size", "learning_rate", "learning_rate_multiplier", "seed", "options")
    return [
        Mapped(name, "", None, value, "you set it; the vendor does not say what it used", "yours")
        for name, value in given.items()
        if value is not None and name not in told
    ]


def _family(base: str) -> str:
    name = base.lower().rpartition("/")[2]
    return next((family for family in ("qwen", "llama") if family in name), "")


def _hidden_size(base: str) -> int | None:
    from unift.estimate._resolve import find_base

    try:
        shape = find_base(base).shape
    except UsageError:
        return None
    return None if shape is None else int(shape.hidden)


def _number(value: Any) -> Any:
    """A number, or None for "auto" and for nothing."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
