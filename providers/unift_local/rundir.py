"""One folder per run: what is in it, who may write it, and how to tell whether anyone still does.

    plan.json            the plan as submitted, with a hash of it
    replanned.json       settings that took the place of the plan's after memory ran out
    probe.json           what the probe of the layout in force measured
    train.jsonl          the rows as they were at submit; later edits of the file do not matter
    validation.jsonl     the same, when there is validation data
    lock                 held (flock) by the worker for as long as it lives
    pid                  of the training process; true only while the lock is held
    status.json          last known state, replaced atomically
    events.jsonl         one event a line, appended
    cancel               exists when somebody asked for the end
    pause                exists when somebody asked for a halt
    exit.json            how the training process ended, written by the process that watches it
    worker.log           everything libraries print
    checkpoints/         `checkpoint.py`
    model/               what the run leaves; appears whole or not at all
    profile/             trace and breakdown of one step, when asked for

The kernel frees a flock when its holder dies, whatever the cause: that, and no pid file or
heartbeat, is what says that a run is alive.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unift import _home
from unift.errors import LostError
from unift.provider import Event, EventKind, Plan, Setting, State, Status

_ATTEMPTS = 40  # of 5 ms each


class RunDir:
    """The folder of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.plan_file = folder / "plan.json"
        self.replanned_file = folder / "replanned.json"
        self.probe_file = folder / "probe.json"
        self.lock_file = folder / "lock"
        self.pid_file = folder / "pid"
        self.status_file = folder / "status.json"
        self.events_file = folder / "events.jsonl"
        self.cancel_file = folder / "cancel"
        self.pause_file = folder / "pause"
        self.exit_file = folder / "exit.json"
        self.log_file = folder / "worker.log"
        self.reserve_file = folder / "reserve"
        self.checkpoints = folder / "checkpoints"
        self.model = folder / "model"
        self.profile = folder / "profile"

    def data(self, part: str) -> Path:
        """The snapshot of ``train`` or ``validation`` rows."""
        return self.folder / f"{part}.jsonl"

    def plan(self) -> Plan:
        """The plan as submitted, with the settings that memory forced later in place of its own."""
        try:
            plan = Plan.model_validate_json(self.plan_file.read_bytes())
        except FileNotFoundError:
            raise LostError(
                "The folder of this run is gone.",
                where=str(self.folder),
                fix="it was deleted outside unift; train again",
            ) from None
        new = {one.name: one for one in self.replanned()}
        kept = tuple(new.pop(one.name, one) for one in plan.settings)
        return plan.model_copy(update={"settings": (*kept, *new.values())})

    def replanned(self) -> list[Setting]:
        """Settings that are no longer those of the plan; empty unless memory ran out."""
        try:
            found = json.loads(self.replanned_file.read_bytes())
        except FileNotFoundError:
            return []
        return [Setting.model_validate(one) for one in found]

    def replan(self, settings: Sequence[Setting]) -> None:
        """Put settings in place of the plan's, for every later life of the run."""
        new = {one.name: one for one in (*self.replanned(), *settings)}
        found = [one.model_dump(mode="json") for one in new.values()]
        write_atomic(self.replanned_file, json.dumps(found).encode())
        self.probe_file.unlink(missing_ok=True)

    def plan_hash(self) -> str:
        """sha256 of the submitted plan."""
        return hashlib.sha256(self.plan_file.read_bytes()).hexdigest()

    def status(self) -> Status | None:
        """The last state that was written down, or None."""
        try:
            return Status.model_validate_json(self.status_file.read_bytes())
        except FileNotFoundError:
            return None

    def write_status(self, status: Status) -> None:
        """Replace the state atomically and durably."""
        write_atomic(self.status_file, status.model_dump_json().encode())

    def locked(self) -> bool:
        """Whether a worker lives; asked with a shared lock, so askers do not see each other."""
        fd = self._try_lock(fcntl.LOCK_SH)
        if fd is None:
            return True
        os.close(fd)
        return False

    def take_lock(self) -> int | None:
        """Take the lock; the file descriptor that holds it, or None if a worker has it."""
        for _ in range(_ATTEMPTS):  # somebody who asks whether a worker lives holds it for a moment
            fd = self._try_lock(fcntl.LOCK_EX)
            if fd is not None:
                return fd
            time.sleep(0.005)
        return None

    def _try_lock(self, kind: int) -> int | None:
        fd = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        return fd

    def pid(self) -> int | None:
        """The training process, if one lives."""
        if not self.locked():
            return None
        try:
            return int(self.pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None  # between the start of the watcher and of the trainer

    def exit_record(self) -> dict[str, Any]:
        """How the training process ended; empty if nobody was there to see it."""
        try:
            return json.loads(self.exit_file.read_bytes())
        except FileNotFoundError:
            return {}

    def log_tail(self, lines: int = 3) -> str:
        """The last non-empty lines of the log."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - 8192))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join([line for line in text.splitlines() if line.strip()][-lines:])


def runs_folder() -> Path:
    """Where the folders of all local runs are."""
    folder = _home.home() / "runs"
    folder.mkdir(exist_ok=True)
    return folder


def run_dir(token: str) -> RunDir:
    """The folder of the run marked with `token` (which may not exist yet)."""
    return RunDir(runs_folder() / token)


def running_jobs() -> int:
    """How many local runs are alive now."""
    return sum(
        RunDir(folder).locked()
        for folder in runs_folder().iterdir()
        if (folder / "lock").exists() and not folder.name.startswith(".")
    )


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a crash, sees the old or the new one and nothing else."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class EventLog:
    """The writing end of events.jsonl; ids go on where the last life of the run stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        if path.exists():
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end != len(whole):  # the last life was killed while writing a line
                os.truncate(path, end)
            self._next = whole.count(b"\n", 0, end)
        self._file = path.open("ab")

    def write(self, kind: EventKind, message: str = "", **data: Any) -> Event:
        """Append one event; readers see it at once."""
        event = Event(
            id=event_id(self._next), at=datetime.now(UTC), kind=kind, message=message, data=data
        )
        self._file.write(event.model_dump_json().encode() + b"\n")
        self._file.flush()
        self._next += 1
        return event

    def close(self) -> None:
        """No more events from this life of the run."""
        self._file.close()


def event_id(number: int) -> str:
    """Ids sort like the events."""
    return f"e{number:08d}"


class EventReader:
    """Reads events.jsonl; remembers where it stopped, so that following a long run stays cheap."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[str, int]] = {}

    def read(self, path: Path, after: str | None) -> list[Event]:
        """Events after the one with id `after` (all if None); a torn last line waits."""
        seen_id, offset = self._seen.get(path, (None, 0))
        if after is None or after != seen_id:
            offset = 0
        events: list[Event] = []
        for line in _whole_lines(path, offset):
            offset += len(line)
            event = Event.model_validate_json(line)
            if after is None or event.id > after:
                events.append(event)
        if events:
            self._seen[path] = (events[-1].id, offset)
        return events


def _whole_lines(path: Path, offset: int) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return


STARTING = Status(state=State.QUEUED, word="starting", message="The worker is starting.")
