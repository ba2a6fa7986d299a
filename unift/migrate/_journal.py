"""What a recording has asked and got, on disk before and after every paid call.

Append-only lines, each synced: ``prompt`` (once for each), ``ask`` before a call, then ``draw``,
``free`` (the call did nothing and cost nothing) or ``refused``. An ``ask`` with nothing after it is
in doubt: it was paid, or not. A line that a crash cut off is cut off for good on the next opening.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from unift.errors import UsageError
from unift.migrate._golden import Prompt


@dataclass
class State:
    """The journal's content, summed up. `open`: prompt id -> dearest cost of each call in doubt."""

    prompts: dict[str, Prompt] = field(default_factory=dict[str, Prompt])
    open: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    refused: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    usd: float = 0.0
    calls: int = 0

    @property
    def most_usd(self) -> float:
        """What was paid if every call in doubt was."""
        return self.usd + sum(map(sum, self.open.values()))


class Journal:
    """Use as a context manager; one process at a time.

    Raises:
        UsageError: Another process records into it, or it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.state = State()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise UsageError(
                "Another recording writes to this file.",
                code="recording_busy",
                where=str(self.path),
                fix="wait for it, or record into another file",
            ) from error
        self._load()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk was told of when it was met
            self._file.close()  # frees the lock

    def add(self, prompt: Prompt) -> None:
        """A prompt that is not in it yet, or answers of it that are not."""
        known = self.state.prompts.get(prompt.id)
        if known is None:
            self._write({"t": "prompt", **prompt.line()}, sync=False)
            return
        if known.truth is None and prompt.truth is not None:
            self._write({"t": "truth", "id": prompt.id, "truth": prompt.truth}, sync=False)
        seen = {_mark(draw) for draw in known.draws}
        for draw in prompt.draws:
            if _mark(draw) not in seen:
                self._write({"t": "draw", "id": prompt.id, "draw": draw}, sync=False)

    def sync(self) -> None:
        """Everything so far is on the disk when this returns."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def ask(self, id: str, usd: float) -> None:
        """A call is about to be made, and may cost so much."""
        self._write({"t": "ask", "id": id, "usd": usd})

    def draw(self, id: str, draw: dict[str, Any], usd: float | None) -> None:
        """Its answer."""
        self._write({"t": "draw", "id": id, "asked": True, "draw": draw, "usd": usd})

    def free(self, id: str) -> None:
        """It certainly cost nothing and gave nothing."""
        self._write({"t": "free", "id": id})

    def refuse(self, id: str, code: str, message: str) -> None:
        """This prompt gets no answer; the next recording does not ask again."""
        self._write({"t": "refused", "id": id, "code": code, "message": message})

    # --- inside -------------------------------------------------------------------------------

    def _write(self, entry: dict[str, Any], sync: bool = True) -> None:
        line = json.dumps(entry, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
        with self._lock:
            try:
                self._file.write(line)
                if sync:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            except OSError as error:
                raise self._unwritable(error) from error
            self._apply(entry)

    def _load(self) -> None:
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"The journal of a recording is damaged at byte {whole}.",
                    code="bad_journal",
                    where=str(self.path),
                    fix="record into another file; this one is left as it is",
                ) from error
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(0, os.SEEK_END)

    def _apply(self, entry: dict[str, Any]) -> None:
        state, id, kind = self.state, str(entry["id"]), entry["t"]
        if kind == "prompt":
            state.prompts[id] = Prompt.of_line(entry)
        elif kind == "truth":
            state.prompts[id].truth = entry["truth"]
        elif kind == "ask":
            state.open.setdefault(id, []).append(entry["usd"])
        elif kind == "draw":
            state.prompts[id].draws.append(entry["draw"])
            state.usd += entry.get("usd") or 0.0
            if entry.get("asked"):
                state.calls += 1
                self._closed(id)
        elif kind == "free":
            self._closed(id)
        elif kind == "refused":
            state.refused[id] = {"code": entry["code"], "message": entry["message"]}
            self._closed(id)

    def _closed(self, id: str) -> None:
        left = self.state.open.get(id, [])[1:]
        if left:
            self.state.open[id] = left
        else:
            self.state.open.pop(id, None)

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            f"The recording cannot be written: {error.strerror}.",
            code="unwritable",
            where=str(self.path),
            fix="make room or give another place with --out; what was written is kept",
        )


def _mark(draw: dict[str, Any]) -> str:
    """Two draws from one log are the same draw if they were made at the same time."""
    return json.dumps([draw["message"], draw.get("at")], sort_keys=True)
