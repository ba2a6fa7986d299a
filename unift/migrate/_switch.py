"""The verdict of a migration: switch, switch with exceptions, or do not; and where it is worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from unift.migrate._files import items
from unift.migrate._spec import Compare

Code = Literal["switch", "switch_with_exceptions", "do_not"]

# Metrics that are checks beside the deciding one, and how a reader calls a loss in them.
_CHECKS = {
    "json_valid": "valid JSON",
    "answered": "answers instead of refusals",
    "tool_calls_valid": "valid tool calls",
}
# In a verdict of "do not" the worst parts are named, proven or not; this many.
_NAMED = 3


@dataclass(frozen=True)
class Switch:
    """`code` for machines, `sentence` for people, `exceptions` for the list of what to watch.

    `proven` is False where the data could not tell: then "do not" means "not yet". `watch` names
    slices that lost more than the margin with too few rows to be sure among so many slices.
    """

    code: Code
    sentence: str
    exceptions: tuple[str, ...] = ()
    proven: bool = True
    rows_needed: int | None = None
    watch: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.sentence

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(
    truth: Mapping[str, Any] | None,
    agreement: Mapping[str, Any] | None,
    old: str | None,
    wanted: Compare,
    *,
    by_answers: bool = False,
) -> Switch:
    """One verdict from both comparisons.

    Truth decides where there is some; the old model's own answers where there is none. A slice or
    a check (form, refusals, tool calls) that got worse beyond chance is an exception, and so is
    real traffic without known answers on which the new model agrees less with the old one than
    the old one with itself.
    """
    deciding = truth if truth is not None and truth.get("non_inferiority") else agreement
    if deciding is None or not deciding.get("non_inferiority"):
        return Switch(
            "do_not",
            "Do not switch yet: nothing of the old model was recorded, so nobody knows whether the "
            "new one is as good.",
            proven=False,
        )
    asked = deciding["non_inferiority"]
    subject = "on held-out truth" if deciding is truth else "in agreement with the old answers"
    span = _span(deciding, asked, wanted)
    exceptions = _slices(deciding)
    if deciding is truth:
        exceptions += _checks(deciding, old, wanted)
        if by_answers and agreement is not None and _inferior(agreement):
            exceptions.append("prompts without a known answer: it agrees less with the old answers")
    if not asked["holds"]:
        lost = asked["high"] < 0
        worst = exceptions or _worst(deciding)
        where = f" Worst in {_listed(worst[:_NAMED])}." if worst else ""
        if lost:
            sentence = f"Do not switch: the new model is worse {subject} ({span}).{where}"
        else:
            need = asked.get("rows_needed")
            more = f" About {need:,} test rows would tell." if need and need > deciding["n"] else ""
            sentence = (
                f"Do not switch yet: {subject} a loss above the margin is not ruled out "
                f"({span}).{more}{where}"
            )
        needed = asked.get("rows_needed")
        return Switch("do_not", sentence, tuple(worst), proven=lost, rows_needed=needed)
    doubtful = _doubtful(deciding, wanted)
    watched = f" Watch {_listed(doubtful)}: too few rows to be sure." if doubtful else ""
    if exceptions:
        return Switch(
            "switch_with_exceptions",
            f"Switch with exceptions: not worse {subject} ({span}), but worse in "
            f"{_listed(exceptions)}. Keep those on the old model, or mend them first.{watched}",
            tuple(exceptions),
            watch=tuple(doubtful),
        )
    return Switch(
        "switch",
        f"Switch: the new model is not worse than the old one {subject} ({span}).{watched}",
        watch=tuple(doubtful),
    )


def read_switch(document: Mapping[str, Any]) -> Switch:
    """A verdict that was given before."""
    return Switch(
        code=document["code"],
        sentence=document["sentence"],
        exceptions=tuple(document["exceptions"]),
        proven=document["proven"],
        rows_needed=document["rows_needed"],
        watch=tuple(document.get("watch", ())),
    )


def _inferior(agreement: Mapping[str, Any]) -> bool:
    asked = agreement.get("non_inferiority")
    return bool(asked) and not asked["holds"] and asked["high"] < 0


def _slices(document: Mapping[str, Any]) -> list[str]:
    return [_name(one) for one in items(document, "slices") if one["worse"]]


def _doubtful(document: Mapping[str, Any], wanted: Compare) -> list[str]:
    """Slices that would count as worse if each were the only one."""
    return [
        _name(one)
        for one in items(document, "slices")
        if not one["worse"]
        and one["p"] is not None
        and one["p"] < 1 - wanted.confidence
        and one["difference"] < -wanted.margin
    ]


def _checks(document: Mapping[str, Any], old: str | None, wanted: Compare) -> list[str]:
    """Checks in which the new model lost more than chance and more than the margin."""
    found: list[str] = []
    for one in document["comparisons"]:
        name = _CHECKS.get(one["metric"])
        if name is None or one["b"] != old or one["metric"] == document["metric"]:
            continue
        sure = one["p_adjusted"] < 1 - wanted.confidence and one["high"] < 0
        if sure and one["difference"] < -wanted.margin:
            found.append(f"{name} ({one['difference'] * 100:+.1f} points)".replace("-", "−"))
    return found


def _worst(document: Mapping[str, Any]) -> list[str]:
    """The slices with the largest losses, where no single one is proven."""
    lost = [
        one
        for one in items(document, "slices")
        if one["difference"] is not None and one["difference"] < 0
    ]
    return [_name(one) for one in sorted(lost, key=lambda one: one["difference"])[:_NAMED]]


def _name(one: Mapping[str, Any]) -> str:
    change = f"{one['difference'] * 100:+.1f}".replace("-", "−")
    return f"{one['by']} '{one['value']}' ({change} points, {one['n']} rows)"


def _span(document: Mapping[str, Any], asked: Mapping[str, Any], wanted: Compare) -> str:
    title = next(
        one["title"] for one in document["metrics"] if one["name"] == document["metric"]
    ).lower()
    numbers = [
        f"{asked[key] * 100:+.1f}".replace("-", "−") for key in ("difference", "low", "high")
    ]
    return (
        f"{title} {numbers[0]} points, {wanted.confidence * 100:g}% interval {numbers[1]} to "
        f"{numbers[2]}, margin {wanted.margin * 100:g} points, {document['n']} rows"
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
