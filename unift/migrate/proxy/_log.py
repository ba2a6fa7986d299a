"""The recorder: a thread that appends lines to files and never holds up the traffic.

Whatever happens to the disk, `put` returns at once. What cannot be written is counted as lost and
said; as soon as writing works again it goes on.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_MOST_WAITING = 10_000  # records; at some kB each a slow disk must not eat the memory
_log = logging.getLogger("unift.proxy")


class Recorder:
    """Appends JSON lines. `why` is empty while writing works.

    Args:
        prepare: Called in the thread on each record before it is written (assembling, scrubbing);
            None from it: nothing to write.
    """

    def __init__(self, prepare: Callable[[Any], dict[str, Any] | None]) -> None:
        self.written = self.lost = 0
        self.why = ""
        self._prepare = prepare
        self._queue: queue.Queue[tuple[Path, Any] | None] = queue.Queue(_MOST_WAITING)
        self._files: dict[Path, int] = {}
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def put(self, path: Path, record: Any) -> None:
        """Hand a record over; returns at once."""
        try:
            self._queue.put_nowait((path, record))
        except queue.Full:
            self._lose("the disk is too slow")

    def check(self, path: Path) -> None:
        """Try to open a file now, so that trouble is known before the first request."""
        try:
            self._open(path)
        except OSError as error:
            self._trouble(path, error)

    def close(self) -> None:
        """Write what is waiting, and stop."""
        self._queue.put(None)
        self._thread.join()
        for file in self._files.values():
            with suppress(OSError):
                os.fsync(file)
            os.close(file)
        self._files.clear()

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            path, record = entry
            try:
                document = self._prepare(record)
            except Exception:  # noqa: BLE001  # a strange answer must not end the recording
                _log.exception("an answer could not be read and is not recorded")
                self.lost += 1
                continue
            if document is None:
                continue
            line = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            try:
                self._append(path, line)
            except OSError as error:
                self._trouble(path, error)
                self.lost += 1
            else:
                self.written += 1
                if self.why:
                    _log.warning("recording works again (%d answers were lost)", self.lost)
                self.why = ""

    def _append(self, path: Path, line: bytes) -> None:
        file = self._files.get(path)
        try:
            there = path.stat().st_ino
        except FileNotFoundError:
            there = None
        if file is None or os.fstat(file).st_ino != there:  # deleted or replaced under us
            file = self._open(path)
        before = os.fstat(file).st_size
        done = 0
        try:
            while done < len(line):
                done += os.write(file, line[done:])
        except OSError:
            with suppress(OSError):
                os.ftruncate(file, before)  # half a line is none
            raise

    def _open(self, path: Path) -> int:
        old = self._files.pop(path, None)
        if old is not None:
            os.close(old)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._files[path] = file
        if not path.is_file():
            return file  # a device has no last line
        size = os.fstat(file).st_size
        tail = os.pread(file, 1 << 20, max(0, size - (1 << 20)))
        if tail and not tail.endswith(b"\n"):  # a crash cut the last line off
            os.ftruncate(file, size - len(tail) + tail.rfind(b"\n") + 1)
        return file

    def _trouble(self, path: Path, error: OSError) -> None:
        if not self.why:
            _log.warning(
                "%s cannot be written (%s): traffic goes on, answers are not recorded",
                path,
                error.strerror,
            )
        self.why = f"{error.strerror}"

    def _lose(self, why: str) -> None:
        self.lost += 1
        if not self.why:
            _log.warning("%s: traffic goes on, answers are not recorded", why)
        self.why = why
