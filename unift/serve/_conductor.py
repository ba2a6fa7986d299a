"""So many trainings at a time, in the order of arrival; every other job waits its turn.

Jobs are runs of the run store, so nothing is lost when the server ends: trainings are processes of
their own and go on, waiting jobs are found again at the next start.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

from unift.errors import UniftError
from unift.provider import State
from unift.runs import Run, Store
from unift.serve._shelf import Job, Shelf

log = logging.getLogger("unift.serve")
_BUSY = (State.SUBMITTING, State.QUEUED, State.RUNNING)
_TICK = 0.25  # seconds between two looks at the running trainings


class Conductor:
    """A thread that starts, follows, pauses and cancels trainings.

    Args:
        at_once: Trainings at a time.
        cards: Names of the GPUs to share out, a training each, as CUDA_VISIBLE_DEVICES knows them;
            none: leave that to the trainer.
    """

    def __init__(self, shelf: Shelf, store: Store, at_once: int, cards: tuple[str, ...]) -> None:
        self._shelf = shelf
        self._store = store
        self._at_once = at_once
        self._cards = cards
        self._on: dict[str, str] = {}  # run -> card
        self._ending: set[str] = set()  # runs that know that they shall end
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
            try:
                busy = self._look()
            except Exception:  # a full disk, a store that is locked: later it may work
                log.exception("the trainings cannot be looked at")
                busy = 0
            self._wake.wait(_TICK if busy else 2.0)
            self._wake.clear()

    def _look(self) -> int:
        """Follow every open job, and start those whose turn it is; how many train."""
        busy = 0
        waiting: list[Job] = []
        for job in self._shelf.open_jobs():
            try:
                state = self._follow(job)
            except UniftError as error:
                log.warning("job %s: %s", job.id, error)
                state = self._store.get(job.run).state
            except Exception:  # one job's trouble is not the others'
                log.exception("job %s", job.id)
                state = self._store.get(job.run).state
            if state in _BUSY:
                busy += 1
            elif not state.finished:
                waiting.append(job)
        for job in waiting:
            if busy < self._at_once and not self._stopping:
                busy += self._begin(job)
        return busy

    def _follow(self, job: Job) -> State:
        """Learn what became of a job, and pass on what its owner wishes."""
        row = self._store.get(job.run)
        run = Run(row, self._store)
        if row.state in _BUSY:
            if job.wish == "cancel" and run.id not in self._ending:
                run.cancel()
                self._ending.add(run.id)
            elif job.wish == "pause":
                run.pause()  # at every look: whoever starts it beside this server undoes the first
            else:
                run.refresh()
        elif job.wish == "cancel":
            run.cancel()
        if run.state not in _BUSY:
            self._ending.discard(run.id)
            self._on.pop(run.id, None)
        if run.state is State.PAUSED and job.wish == "pause":
            self._shelf.granted(job)
        if run.state.finished:
            self._shelf.close_job(run.id)
        return run.state

    def _begin(self, job: Job) -> bool:
        """Start a job, or go on with it, unless its owner wants it to wait; whether it trains."""
        run = Run(self._store.get(job.run), self._store)
        # A run that was paused by other means than this server is none of its business.
        if job.wish == "pause" or (run.state is State.PAUSED and job.wish != "resume"):
            return False
        try:
            with self._card(run.id):
                run.resume()
        except UniftError as error:
            log.warning("job %s: %s", job.id, error)
        except Exception:
            log.exception("job %s cannot be started", job.id)
        finally:
            # Not before: a paused run whose owner wishes nothing shows as paused.
            self._shelf.granted(job)
        return run.state in _BUSY

    @contextmanager
    def _card(self, run: str) -> Generator[None]:
        """A trainer that is started in here sees one card alone: the one with the least to do."""
        if not self._cards:
            yield
            return
        taken = list(self._on.values())
        self._on[run] = min(self._cards, key=taken.count)
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        # This process has read the variable long ago; only what it starts now is concerned.
        os.environ["CUDA_VISIBLE_DEVICES"] = self._on[run]
        try:
            yield
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


def cards(at_once: int) -> tuple[str, ...]:
    """The GPUs of this machine, if there are trainings at once to share them out to."""
    if at_once == 1:
        return ()
    import torch

    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return tuple(name for name in chosen.split(",") if name)
    return tuple(str(number) for number in range(torch.cuda.device_count()))
