"""One training at a time, in the order of arrival; every other job waits its turn.

Jobs are runs of the run store, so nothing is lost when the server ends: trainings are processes of
their own and go on, waiting jobs are found again at the next start.
"""

from __future__ import annotations

import logging
import threading

from unift.errors import UniftError
from unift.provider import State
from unift.runs import Run, Store
from unift.serve._shelf import Job, Shelf

log = logging.getLogger("unift.serve")
_BUSY = (State.SUBMITTING, State.QUEUED, State.RUNNING)
_TICK = 0.25  # seconds between two looks at the running training


class Conductor:
    """A thread that starts, follows, pauses and cancels trainings."""

    def __init__(self, shelf: Shelf, store: Store) -> None:
        self._shelf = shelf
        self._store = store
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="trainings", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something changed: look now."""
        self._wake.set()

    def stop(self) -> None:
        """Start nothing more. What trains goes on."""
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _work(self) -> None:
        while not self._stopping:
            busy = False
            for job in reversed(self._shelf.jobs()):
                try:
                    busy = self._tend(job, busy) or busy
                except UniftError as error:
                    log.warning("job %s: %s", job.id, error)
            self._wake.wait(_TICK if busy else 2.0)
            self._wake.clear()

    def _tend(self, job: Job, busy: bool) -> bool:
        """Take a job one step on; returns whether it trains now."""
        row = self._store.get(job.run)
        if row.state.finished and job.wish != "resume":
            return False
        run = Run(row, self._store)
        if job.wish == "cancel" or (job.wish == "pause" and row.state is not State.PLANNED):
            run.cancel()
            return run.state in _BUSY
        if job.wish == "pause" or (busy and row.state not in _BUSY):
            return False
        if row.state in _BUSY:
            run.refresh()
        elif job.wish == "resume":
            self._shelf.wish(job.run, "")
            run.resume()
        elif not self._stopping:
            run.submit()
        return run.state in _BUSY
