"""Which state may follow which. Anything else is a bug or a lie, and is refused."""

from __future__ import annotations

from unift.provider import State

_LIVE = {State.QUEUED, State.RUNNING, State.PAUSED}
_END = {State.SUCCEEDED, State.FAILED, State.CANCELLED, State.LOST}

# A provider may be seen only now and then, so between two looks a run can skip states. From an end
# only `resume` leads on, through SUBMITTING again; a lost run may be found after all.
NEXT: dict[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.SUBMITTING, State.CANCELLED, State.FAILED}),
    State.SUBMITTING: frozenset(_LIVE | _END | {State.PLANNED}),
    State.QUEUED: frozenset(_LIVE | _END),
    State.RUNNING: frozenset(_LIVE | _END),
    State.PAUSED: frozenset(_LIVE | _END | {State.SUBMITTING}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.SUBMITTING}),
    State.CANCELLED: frozenset({State.SUBMITTING}),
    State.LOST: frozenset(_LIVE | _END | {State.SUBMITTING, State.PLANNED}),
}


def may_follow(old: State, new: State) -> bool:
    """True when a run in state `old` may be recorded as `new`."""
    return new == old or new in NEXT[old]
