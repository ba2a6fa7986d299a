"""Finding runs: by id, all of them, and all that are open brought to the truth."""

from __future__ import annotations

from unift.errors import UniftError
from unift.provider import State
from unift.runs._run import Run
from unift.runs._store import Store


def runs(limit: int | None = None, refresh: bool = True) -> list[Run]:
    """Every run, newest first; open ones are brought up to date unless `refresh` is False."""
    store = Store()
    found = [Run(row, store) for row in store.list(limit=limit)]
    if refresh:
        for run in found:
            if not run.finished:
                _try_refresh(run)
    return found


def run(run_id: str) -> Run:
    """A run by its id or an unambiguous beginning of it.

    Raises:
        UsageError: No such run, or several.
    """
    store = Store()
    found = Run(store.get(run_id), store)
    if not found.finished:
        _try_refresh(found)
    return found


def _try_refresh(run: Run) -> None:
    """A provider that does not answer must not hide the record of the run."""
    try:
        run.refresh()
    except UniftError:
        return


def reconcile() -> list[tuple[Run, UniftError | None]]:
    """Bring every open or lost run to the truth; one provider's silence does not stop the rest."""
    store = Store()
    outcome: list[tuple[Run, UniftError | None]] = []
    for row in store.list():
        if row.state.finished and row.state is not State.LOST:
            continue
        found = Run(row, store)
        try:
            outcome.append((found.refresh(), None))
        except UniftError as error:
            outcome.append((found, error))
    return outcome
