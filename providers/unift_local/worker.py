"""The process that trains: ``python -m unift_local.worker RUN_FOLDER LOCK_FD``.

It splits in two before anything heavy is imported. The child trains. The parent does nothing but
wait and write down how the child ended, because a process killed by SIGKILL cannot say so itself.
Both hold the lock of the run.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn

from unift.errors import UniftError
from unift.provider import Failure, State, Status
from unift_local import replan
from unift_local.rundir import RunDir, write_atomic

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> int:
    """Watch over one training process; its exit status."""
    run = RunDir(Path(sys.argv[1]))
    os.set_inheritable(int(sys.argv[2]), False)
    watcher = os.getpid()
    while True:
        kills = oom_kills()
        child = os.fork()
        if child == 0:
            _die_with(watcher)
            _end(train(run))
        before = [
            (number, signal.signal(number, signal.SIG_IGN))
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        ]
        _, wait_status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(wait_status)
        killed = code == -signal.SIGKILL and oom_kills() > kills
        if not (code == replan.AGAIN or (killed and replan.after_kill(run))):
            break
        for number, handler in before:
            signal.signal(number, handler)
    record = {
        "signal": -code if code < 0 else None,
        "exit_status": code if code >= 0 else None,
        "oom_killed": killed,
        "at": time.time(),
    }
    write_atomic(run.exit_file, json.dumps(record).encode())
    return max(code, 0)


def train(run: RunDir) -> int:
    """Train, and leave a final state whatever happens; the exit status."""
    stop = StopRequest(run)
    sys.excepthook = _Obituary(run)
    write_atomic(run.pid_file, str(os.getpid()).encode())
    # Room for the last words when the disk is full.
    write_atomic(run.reserve_file, b"\0" * 262_144)

    from unift_local import recipe

    try:
        outcome = recipe.run(run, stop)
    except replan.Again:
        traceback.print_exc()  # into the log
        return replan.AGAIN
    run.reserve_file.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # "cancelling" must not follow the last word
    run.write_status(outcome)
    return 0


class StopRequest:
    """Somebody asked for the end, by `cancel` (a file, then SIGTERM) or by shutting down, or for a
    halt, by `pause` (a file). Either way the next step is saved and the last."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._signalled = False
        signal.signal(signal.SIGTERM, self._on_signal)
        for ignored in (signal.SIGINT, signal.SIGHUP):
            signal.signal(ignored, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        status = Status(
            state=State.RUNNING, word="cancelling", message="Saving a checkpoint, then ending."
        )
        self._run.write_status(status)

    def __bool__(self) -> bool:
        return self._ends or self._run.pause_file.exists()

    @property
    def _ends(self) -> bool:
        return self._signalled or self._run.cancel_file.exists()

    def outcome(self, kept: str) -> Status:
        """The state to leave behind; whoever asked for both a halt and the end gets the end."""
        state = State.CANCELLED if self._ends else State.PAUSED
        message = f"{state.value.capitalize()}{kept}."
        return Status(state=state, word=state.value, message=message, resumable=True)


class _Obituary:
    """An excepthook: turns any exception that nobody handled into the run's final state."""

    def __init__(self, run: RunDir) -> None:
        self._run = run

    def __call__(
        self,
        kind: type[BaseException],
        error: BaseException,
        trace: TracebackType | None,
    ) -> None:
        from unift_local import guards

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self._run.reserve_file.unlink(missing_ok=True)
        if not isinstance(error, UniftError):
            sys.__excepthook__(kind, error, trace)  # into the log
        size = int(self._run.plan().payload.get("checkpoint_bytes", 0))
        failure, resumable = guards.explain(error, self._run.log_file, size)
        self._run.write_status(failed(failure, resumable))
        _end(1)


def _end(exit_status: int) -> NoReturn:
    """Leave at once: taking torch apart takes a second, in which the lock is still held."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_status)


def failed(failure: Failure, resumable: bool) -> Status:
    """A final state."""
    return Status(
        state=State.FAILED,
        word=failure.code,
        message=failure.message,
        failure=failure,
        resumable=resumable,
    )


def oom_kills() -> int:
    """How often the kernel killed for memory in this control group (or on this machine)."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rsplit(":", 1)[-1].lstrip("/")
        events = Path("/sys/fs/cgroup") / group / "memory.events"
        text = events.read_text() if events.exists() else Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line[:9] == "oom_kill "), 0)


def _die_with(watcher: int) -> None:
    """Ask the kernel to kill this process when its watcher dies (Linux; elsewhere it outlives)."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:  # it died before the call
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
