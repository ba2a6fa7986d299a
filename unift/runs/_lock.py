"""One process at a time may submit a run. The kernel frees the lock of a process that dies."""

from __future__ import annotations

import fcntl
from collections.abc import Generator
from contextlib import contextmanager

from unift._home import home


@contextmanager
def submitting(run_id: str, wait: bool = True) -> Generator[bool]:
    """Hold the submission lock of a run; yields False when it is taken and `wait` is False."""
    folder = home() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / run_id).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True  # closing the file frees the lock
