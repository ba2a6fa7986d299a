"""The diagnosis while a training goes on: said once, when something begins to go wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from unift.evaluate.diagnosis import Diagnosis, diagnose
from unift.provider import Event, Plan, get_provider

if TYPE_CHECKING:
    from unift.runs import Run

#: What is said at once; the rest can only be judged at the end.
_ALARMS = frozenset({"bad_masks", "diverging", "rate_too_high", "overfitting"})
#: While the rate is high a validation loss often rises and comes back (it did in three of eleven
#: good trainings), so that overfitting is told when so much of its fall is undone.
_UNDONE = 0.1
#: Alarms that must be seen in two looks in a row, since a single loss may be an outlier; for
#: overfitting with one more validation loss in the second.
_CONFIRMED = frozenset({"rate_too_high", "overfitting", "diverging"})
#: Either is no news after the other: the advice is the same.
_RATE = frozenset({"rate_too_high", "diverging"})
#: Besides at every evaluation, a look is taken when there are so many more metrics.
_GROWTH = 1.1
_LEAST = 10


class Watch:
    """Looks at a training through its events, in order, as they come.

    Each alarm is told once; one that the events themselves tell already (a trainer that watches,
    an earlier follower) is not told again.

    Args:
        plan: Where the settings are read that the advice changes.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        self._plan = plan
        self._events: list[Event] = []
        self._told: set[str] = set()
        self._metrics, self._next = 0, _LEAST
        self._last: Diagnosis | None = None

    def see(self, event: Event) -> Diagnosis | None:
        """Take one more event in; the diagnosis if an alarm begins with it."""
        known: Any = event.data.get("diagnosis")
        if isinstance(known, Mapping):
            self._told.add(str(cast("Mapping[str, Any]", known).get("code")))
        if event.kind not in ("metrics", "evaluation", "checkpoint", "artifact"):
            return None
        self._events.append(event)
        self._metrics += event.kind == "metrics"
        if event.kind == "evaluation" or self._metrics >= self._next:
            self._next = max(self._metrics + _LEAST, int(self._metrics * _GROWTH))
            return self._look()
        return None

    def _look(self) -> Diagnosis | None:
        last, found = self._last, diagnose(self._events, self._plan)
        self._last = found
        same = _RATE if found.code in _RATE else {found.code}
        if found.code not in _ALARMS or same & self._told:
            return None
        if "stood" in found.evidence:  # it falls by now; what it says is for the next training
            return None
        if found.code in _CONFIRMED and (last is None or last.code != found.code):
            return None
        if found.code == "overfitting" and last is not None:
            more = found.evidence["validation_losses"] > last.evidence["validation_losses"]
            if not more or found.evidence["undone"] < _UNDONE:
                return None
        self._told.add(found.code)
        return found


def watched(run: Run, *, after: int = 0) -> Iterator[Event]:
    """Follow a run as `Run.events` does; of a vendor's run the diagnosis is made here.

    An alarm is journalled and comes as a ``warning`` event whose data hold the ``diagnosis``. A
    trainer on this machine watches itself, so nothing is added to what it says.
    """
    if get_provider(run.provider).capabilities().place == "local":
        yield from run.events(after=after)
        return
    watch, own = Watch(run.plan), set[str]()
    for event in run.journal():  # what an earlier follower was told is told by the journal
        if event.kind == "warning":
            watch.see(event)
    for event in run.events():  # from the start: a diagnosis needs the whole curve
        if event.id in own:
            continue
        if event.seq > after:
            yield event
        found = watch.see(event)
        if found is None:
            continue
        data = {"diagnosis": found.as_dict(), "step": event.data.get("step")}
        warning = Event(
            id=f"diagnosis-{found.code}", at=event.at, kind="warning", message=found.line,
            data=data,
        )  # fmt: skip
        own.add(warning.id)
        yield run.note(warning)
