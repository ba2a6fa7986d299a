"""A run as the user holds it: live, replayable, and the same from any process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from unift.errors import LostError, ProviderError, RunError, UniftError, UsageError
from unift.provider import (
    Artifact,
    Event,
    Failure,
    Handle,
    Plan,
    Provider,
    State,
    get_provider,
    providers,
)
from unift.runs._forecast import progress_of
from unift.runs._lock import submitting
from unift.runs._store import Row, Store
from unift.verbs import Checkpoint, Keeping, Leftover, Pausing, Uploading

# While nothing new arrives the pause between two looks grows up to this factor.
_MAX_BACKOFF = 6


class Run:
    """One planned training and all that became of it.

    Made by `unift.train` and `unift.run`. Reading `status`, `artifact` or `failure` shows the last
    known state; `refresh` asks the provider first, `events` and `wait` keep asking.
    """

    def __init__(self, row: Row, store: Store | None = None) -> None:
        self._row = row
        self._store = store or Store()
        self._loaded: Provider | None = None

    # --- what is known ------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._row.id

    @property
    def provider(self) -> str:
        return self._row.provider

    @property
    def plan(self) -> Plan:
        return self._row.plan

    @property
    def state(self) -> State:
        return self._row.state

    @property
    def status(self) -> str:
        """The state as a word; a vendor's own word where unift does not know it."""
        return self._row.word if self._row.word and not self.finished else str(self._row.state)

    @property
    def finished(self) -> bool:
        return self._row.state.finished

    @property
    def resumable(self) -> bool:
        return self._row.resumable

    @property
    def failure(self) -> Failure | None:
        return self._row.failure

    @property
    def artifact(self) -> Artifact | None:
        """What the run left; None unless it succeeded."""
        return self._row.artifact

    @property
    def model(self) -> str:
        """The reference under which `unift.load` and `unift.evaluate` find the trained model."""
        return f"run:{self.id}"

    def __repr__(self) -> str:
        return f"<Run {self.id} {self.provider} {self.status}>"

    def as_dict(self, events: bool = False) -> dict[str, Any]:
        """The JSON document of ``unift train`` and ``unift runs show``."""
        row = self._row
        journal = self._store.events(self.id)
        shown = [event.model_dump(mode="json") for event in journal] if events else len(journal)
        return {
            "run": self.id,
            "name": row.name,
            "provider": row.provider,
            "status": self.status,
            "message": row.message,
            "leftovers": self._remembered(),
            "resumable": row.resumable,
            "base": row.model,
            "model": self.model if row.artifact else None,
            "events": shown,
            "progress": progress_of(journal),
            "plan": row.plan.model_dump(mode="json"),
            "artifact": row.artifact.model_dump(mode="json") if row.artifact else None,
            "error": row.failure.model_dump() if row.failure else None,
            "lineage": self._store.lineage(self.id),
            "created": row.created.isoformat(),
            "updated": row.updated.isoformat(),
        }

    def evaluations(self) -> list[dict[str, Any]]:
        """Summaries of the evaluations that this run took part in, oldest first."""
        return self._store.evaluations(self.id)

    # --- following ----------------------------------------------------------------------------

    def refresh(self) -> Run:
        """Ask the provider and journal what is new. A run that is not open stays as it is."""
        row = self._row = self._store.get(self.id)
        if row.state is State.SUBMITTING or _unanswered(row):
            return self.reconcile()
        if row.handle is None or (row.state.finished and row.state is not State.LOST):
            return self
        provider = self._provider
        status = provider.poll(row.handle)
        # Events before the state: whoever sees the run finished has seen all of its events.
        self._pull(row.handle, row.cursor)
        fields: dict[str, Any] = {
            # A word that was understood is told by the state; only an unknown one is kept.
            "word": status.word if status.state is None else "",
            "message": status.message,
            "resumable": int(status.resumable),
            "failure": status.failure,
        }
        if status.state is State.SUCCEEDED:
            fields["artifact"] = provider.fetch(row.handle)
        try:
            self._row = self._store.update(self.id, status.state, seen=row, **fields)
        except RunError as error:
            if error.code != "run_moved_on":
                raise
            self._row = self._store.get(self.id)  # another process saw something newer
        return self

    def events(self, follow: bool = True, after: int = 0) -> Iterator[Event]:
        """Every event with a sequence number above `after`: first the past, then news until the
        run is finished. With `follow=False` only what has happened so far.

        Raises:
            ProviderError: The provider has not answered for several looks in a row.
        """
        pause = base = self._provider.capabilities().poll_seconds
        failures = 0
        while True:
            try:
                self.refresh()
                failures = 0
            except ProviderError:
                # A look that fails changes nothing; only a lasting silence is the user's business.
                failures += 1
                if failures >= 5 or not follow:
                    raise
            news = self._store.events(self.id, after)
            for event in news:
                after = event.seq
                yield event
            if not follow or self.finished or self.state in (State.PLANNED, State.PAUSED):
                return
            pause = base if news else min(pause * 1.5, base * _MAX_BACKOFF)
            time.sleep(pause)

    def wait(self, check: bool = True) -> Run:
        """Block until the run is finished.

        Raises:
            RunError: It failed, was cancelled or is lost (unless `check` is False).
        """
        for _ in self.events():
            pass
        if check and self.state is not State.SUCCEEDED:
            raise self.error()
        return self

    def error(self) -> RunError:
        """Why the run did not succeed, as an error to raise."""
        failure = self.failure
        resume = f"unift runs resume {self.id}" if self.resumable else f"unift runs show {self.id}"
        cls = LostError if self.state is State.LOST else RunError
        if failure is None:
            return cls(
                self._row.message or f"The run is {self.status}.",
                code=f"run_{self.state}",
                where=f"run {self.id}",
                fix=resume,
            )
        place = f"run {self.id}" + (f", {failure.where}" if failure.where else "")
        return cls(failure.message, code=failure.code, where=place, fix=failure.fix or resume)

    def journal(self) -> list[Event]:
        """The events so far, in order, without asking the provider for news."""
        return self._store.events(self.id)

    def note(self, event: Event) -> Event:
        """Journal an event that does not come from the provider; the same id twice is one.

        Returns:
            The event as the journal has it.
        """
        self._store.append(self.id, [event])
        return next(one for one in self._store.events(self.id) if one.id == event.id)

    # --- acting -------------------------------------------------------------------------------

    def submit(self) -> Run:
        """Hand a planned run to its provider. The intent is journalled before the first call."""
        with submitting(self.id):
            self._row = self._store.update(self.id, State.SUBMITTING, expect=[State.PLANNED])
            try:
                handle = self._provider.submit(self.plan, self._row.token)
            except LostError as error:
                self._end(State.LOST, error)
                raise
            except UniftError as error:
                self._end(State.FAILED, error)
                raise
            self._row = self._store.update(self.id, State.QUEUED, handle=handle)
        return self

    def cancel(self) -> Run:
        """Ask for the end. What was trained so far is kept where the provider can."""
        self.refresh()
        if self.state is State.PLANNED:
            self._row = self._store.update(self.id, State.CANCELLED)
        elif not self.finished and self._row.handle is not None:
            self._provider.cancel(self._row.handle)
            self.refresh()
        return self

    def pause(self) -> Run:
        """Ask the provider to halt; `resume` goes on. The run is `paused` once it has halted.

        Raises:
            UsageError: The run is not under way.
            ProviderError: The provider cannot pause a run, or not this one now.
        """
        self.refresh()
        if self.state is State.PAUSED:
            return self
        handle = self._row.handle
        if self.finished or handle is None:
            raise UsageError(
                f"The run is {self.status}; there is nothing to pause.",
                code="not_pausable",
                where=f"run {self.id}",
                fix=f"unift runs show {self.id}",
            )
        provider = self._provider
        if not (provider.capabilities(self._row.model).pausable and isinstance(provider, Pausing)):
            raise ProviderError(
                f"'{self.provider}' cannot pause a run (these can: {', '.join(_who_pauses())}).",
                code="not_pausable",
                where=f"run {self.id}",
                fix=f"let it go on, or end it: unift runs cancel {self.id}",
            )
        provider.pause(handle)
        return self.refresh()

    def resume(self) -> Run:
        """Go on with a run that stopped, or submit one that never left.

        Raises:
            UsageError: There is nothing to resume.
            ProviderError: The provider cannot resume it.
        """
        self.refresh()
        if self.state is State.PLANNED:
            return self.submit()
        stopped = (State.FAILED, State.CANCELLED, State.LOST, State.PAUSED)
        if self.state not in stopped:
            raise UsageError(
                f"The run is {self.status}; there is nothing to resume.",
                code="not_resumable",
                where=f"run {self.id}",
                fix=f"unift runs show {self.id}",
            )
        if self._row.handle is None or not self.resumable:
            raise ProviderError(
                f"This run cannot be resumed on '{self.provider}'"
                + (f": {self.failure.message}" if self.failure else "."),
                code="not_resumable",
                where=f"run {self.id}",
                fix="start a new run with unift train",
            )
        with submitting(self.id):
            self._row = self._store.update(self.id, State.SUBMITTING, expect=stopped, failure=None)
            handle = self._provider.resume(self._row.handle or _no_handle())
            self._row = self._store.update(self.id, State.QUEUED, handle=handle)
        return self

    def reconcile(self) -> Run:
        """Find out what became of a submission that nobody saw the end of."""
        with submitting(self.id, wait=False) as alone:
            row = self._row = self._store.get(self.id)
            if row.state is not State.SUBMITTING and not _unanswered(row):
                return self if row.state is State.PLANNED else self.refresh()
            if not alone:
                return self  # somebody is submitting it at this moment
            handle = self._provider.find(row.token)
            if handle is None:
                self._row = self._store.update(
                    self.id,
                    State.PLANNED,
                    message=f"never reached the provider; unift runs resume {self.id} submits it",
                    failure=None,
                )
                return self
            self._row = self._store.update(self.id, State.QUEUED, handle=handle, failure=None)
        return self.refresh()

    def checkpoints(self) -> list[Checkpoint]:
        """Kept states that can answer, oldest first; none where the provider keeps none.

        Raises:
            ProviderError: The provider does not answer.
        """
        provider, handle = self._provider, self._row.handle
        if handle is None or not isinstance(provider, Keeping):
            return []
        return list(provider.checkpoints(handle))

    # --- what it left at the provider ----------------------------------------------------------

    def leftovers(self, ask: bool = False) -> list[Leftover]:
        """Uploads of this run that no job uses; with `ask` the provider is asked, too.

        Raises:
            ProviderError: It was asked and does not answer.
        """
        if self._row.handle is not None:
            return []  # it has a job, which uses them
        provider = self._provider
        token = self._row.token
        return list(provider.leftovers(token, ask)) if isinstance(provider, Uploading) else []

    def discard(self) -> list[Leftover]:
        """Delete the leftovers; returns what was deleted. `resume` uploads anew.

        Raises:
            ProviderError: The provider does not answer, or keeps one of them.
        """
        with submitting(self.id, wait=False) as alone:
            self._row = self._store.get(self.id)
            provider = self._provider
            if not alone or self._row.handle is not None or not isinstance(provider, Uploading):
                return []
            return list(provider.discard(self._row.token))

    # --- inside -------------------------------------------------------------------------------

    @property
    def _provider(self) -> Provider:
        if self._loaded is None:
            self._loaded = get_provider(self.provider)
        return self._loaded

    def _remembered(self) -> list[dict[str, Any]]:
        try:
            return [one.model_dump() for one in self.leftovers()]
        except UniftError:
            return []  # a provider that is not installed any more hides no record

    def _pull(self, handle: Handle, cursor: str | None) -> None:
        events = self._provider.events(handle, cursor)
        if events:
            self._store.append(self.id, events, cursor=events[-1].id)

    def _end(self, state: State, error: UniftError) -> None:
        self._row = self._store.update(
            self.id, state, message=error.message, failure=Failure(**error.as_dict())
        )


def _who_pauses() -> list[str]:
    """Names of the providers that can be used here and that can pause."""
    usable = [info.name for info in providers() if info.available]
    return [name for name in usable if get_provider(name).capabilities().pausable] or ["none"]


def _unanswered(row: Row) -> bool:
    """Lost while it was submitted: later the provider may be able to tell whether a job exists."""
    return row.state is State.LOST and row.handle is None


def _no_handle() -> Handle:
    raise LostError("The run has no handle.", code="no_handle", fix="unift runs reconcile")
