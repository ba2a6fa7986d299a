"""Who answers: a small file that any process may change, and that counts at once.

``{"share": 0.1, "shadow": 0.2}``: a tenth of the users are answered by the new model, a fifth of
the other requests are also sent to it and compared. A rollback sets both to 0 and says why.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from unift.errors import UniftError, UsageError
from unift.migrate._files import write_json
from unift.spec import Frozen

FILE = "traffic.json"
_WINDOW = 50  # answers of the new model that the error rate is taken from
_ENOUGH = 10
_log = logging.getLogger("unift.proxy")


class Traffic(Frozen):
    """Shares between 0 and 1. `rolled_back` says when and why, or is empty."""

    share: float = Field(default=0.0, ge=0, le=1)
    shadow: float = Field(default=0.0, ge=0, le=1)
    rolled_back: str = ""


def read_traffic(folder: Path) -> Traffic:
    """What the folder says; nobody but the old model where there is no file.

    Raises:
        UsageError: The file cannot be understood.
    """
    file = folder / FILE
    try:
        return Traffic.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return Traffic()
    except (OSError, ValidationError, ValueError) as error:
        raise UsageError(
            f"The file that steers the traffic cannot be understood ({type(error).__name__}).",
            code="bad_traffic",
            where=str(file),
            fix='{"share": 0.1, "shadow": 0.2}, or delete it: then the old model answers all',
        ) from error


def write_traffic(
    folder: Path, *, share: float | None = None, shadow: float | None = None
) -> Traffic:
    """Change one share or both; a running proxy follows with the next request.

    Raises:
        UsageError: A share is not between 0 and 1, or the file cannot be written.
    """
    before = read_traffic(folder)
    try:
        after = Traffic(
            share=before.share if share is None else share,
            shadow=before.shadow if shadow is None else shadow,
        )
    except ValidationError as error:
        raise UsageError(
            "A share lies between 0 and 1.",
            code="bad_value",
            where="share",
            fix="0.1 is a tenth of the users",
        ) from error
    write_json(folder / FILE, after.model_dump())
    return after


def roll_back(folder: Path, why: str) -> Traffic:
    """Everything back to the old model, at once.

    Raises:
        UsageError: The file cannot be written.
    """
    after = Traffic(rolled_back=f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: {why}")
    write_json(folder / FILE, after.model_dump())
    return after


class Control:
    """The traffic as of now, for the proxy: looks at the file before each decision.

    Args:
        rollback_at: Share of failed answers of the new model, of the last 50, that ends it.
    """

    def __init__(self, folder: Path, rollback_at: float) -> None:
        self._folder, self._rollback_at = folder, rollback_at
        self._seen: tuple[int, int] | None = None
        self._traffic = Traffic()
        self._window: deque[bool] = deque(maxlen=_WINDOW)
        self.now()

    def now(self) -> Traffic:
        try:
            stat = (self._folder / FILE).stat()
            stamp = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            stamp = None
        if stamp != self._seen:
            self._seen = stamp
            self._window.clear()
            try:
                self._traffic = read_traffic(self._folder)
            except UsageError as error:
                _log.warning("%s The old model answers everything.", error)
                self._traffic = Traffic(rolled_back=error.message)
        return self._traffic

    def outcome(self, good: bool) -> None:
        """An answer of the new model that a client waited for came, or did not."""
        self._window.append(good)
        bad = self._window.count(False)
        if len(self._window) >= _ENOUGH and bad / len(self._window) >= self._rollback_at:
            self.roll_back(f"{bad} of the last {len(self._window)} answers of the new model failed")

    def roll_back(self, why: str) -> Traffic:
        """Counts even if the file cannot be written."""
        try:
            self._traffic = roll_back(self._folder, why)
            self.now()
        except UniftError as error:
            self._traffic = Traffic(rolled_back=why)
            _log.warning("%s", error)
        _log.warning("rolled back: %s", self._traffic.rolled_back)
        return self._traffic


def place(key: str) -> float:
    """A user's place between 0 and 1, the same for ever: whoever is in at 10% is in at 20%."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def user_key(body: dict[str, Any], header: str | None) -> str:
    """Who asks: the header ``x-unift-user``, what the request says, or else how the conversation
    begins, so that one conversation stays with one model."""
    if header:
        return header
    for name in ("user", "safety_identifier", "prompt_cache_key"):
        if isinstance(body.get(name), str):
            return str(body[name])
    messages: list[Any] = body.get("messages") or []
    first = next((one for one in messages if one.get("role") == "user"), None)
    return json.dumps(first, sort_keys=True)
