"""API keys: hashed at rest, compared in constant time, each with scopes, limits and things of its
own.

Whatever a key makes (files, jobs, models) belongs to its name. It sees its own, and what belongs to
the names in `sees`; it changes its own alone. The scope "admin" sees and changes everything. A name
that is given out again, with a new key, keeps what it had: that is how a key is renewed.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import math
import os
import secrets
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.serve._errors import ApiError

log = logging.getLogger("unift.serve")
Scope = Literal["read", "train", "chat", "admin"]
SCOPES: tuple[Scope, ...] = ("read", "train", "chat", "admin")
_USUAL: tuple[Scope, ...] = ("read", "train", "chat")
#: What else a scope includes: who trains follows the training.
_INCLUDES: dict[Scope, tuple[Scope, ...]] = {"train": ("read",), "admin": SCOPES}
_PREFIX = "sk-unift-"


class Key(BaseModel):
    """One line of the key file. A key is 256 random bits, so a plain SHA-256 hides it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    sha256: str
    scopes: tuple[Scope, ...] = _USUAL
    sees: tuple[str, ...] = ()
    requests_per_minute: int | None = Field(default=None, gt=0)
    tokens_per_minute: int | None = Field(default=None, gt=0)

    def can(self, scope: Scope) -> bool:
        return any(scope in (own, *_INCLUDES.get(own, ())) for own in self.scopes)

    def may_see(self, owner: str) -> bool:
        return "admin" in self.scopes or owner == self.name or owner in self.sees

    def may_change(self, owner: str) -> bool:
        return "admin" in self.scopes or owner == self.name


#: Whoever comes to a server without keys, which only this machine can reach.
LOOPBACK = Key(name="loopback", sha256="", scopes=SCOPES)


class KeyFile(BaseModel):
    """The key file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[Key] = []


def scopes_of(names: Sequence[str] | None) -> tuple[Scope, ...]:
    """Names of scopes as scopes; for none all but "admin".

    Raises:
        UsageError: There is no such scope.
    """
    for name in names or ():
        if name not in SCOPES:
            raise UsageError(
                f"There is no scope '{name}'.",
                code="unknown_scope",
                where="--scope",
                fix=did_you_mean(name, SCOPES),
            )
    return tuple(scope for scope in SCOPES if scope in (names or _USUAL))


def read_keys(path: Path) -> list[Key]:
    """The keys of a file.

    Raises:
        UsageError: It cannot be read, or holds none.
    """
    try:
        keys = KeyFile.model_validate_json(path.read_bytes()).keys
    except (OSError, ValidationError) as error:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise UsageError(
            f"The key file cannot be read: {why}.",
            code="bad_key_file",
            where=str(path),
            fix=f"make one: unift serve --add-key NAME --key-file {path}",
        ) from error
    if not keys:
        raise UsageError(
            "The key file holds no key.",
            code="bad_key_file",
            where=str(path),
            fix=f"unift serve --add-key NAME --key-file {path}",
        )
    return keys


def add_key(
    path: Path,
    name: str,
    scopes: tuple[Scope, ...] = _USUAL,
    *,
    sees: Sequence[str] = (),
    requests_per_minute: int | None = None,
    tokens_per_minute: int | None = None,
) -> str:
    """Make a key and add its hash to the file (mode 600). Returns the key, which is kept nowhere.

    Raises:
        UsageError: The file is broken, or has a key of that name.
    """
    keys = read_keys(path) if path.exists() else []
    if any(key.name == name for key in keys):
        raise UsageError(
            f"There is a key named '{name}' already.",
            code="key_exists",
            where=str(path),
            fix="take another name, or delete that line first",
        )
    made = _PREFIX + secrets.token_urlsafe(32)
    keys.append(
        Key(
            name=name,
            sha256=_hash(made),
            scopes=scopes,
            sees=tuple(sees),
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
        )
    )
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(KeyFile(keys=keys).model_dump(mode="json"), file, indent=2)
    part.replace(path)
    return made


class Gate:
    """Lets requests in. Without a key file (loopback only) everybody may do everything.

    The file is read again when it changes, so that keys come and go without a restart.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._seen = _stamp(path) if path else None
        self._keys = read_keys(path) if path else []
        self._requests = _Buckets("ask {} times")
        self._tokens = _Buckets("use {} tokens")

    def admit(self, header: str | None, scope: Scope | None) -> Key:
        """The key of a request.

        Raises:
            ApiError: 401 no or a wrong key, 403 not for this, 429 too many requests.
        """
        key = self.known(header)
        if scope is not None and not key.can(scope):
            raise ApiError(403, f"This key is not for '{scope}'.", "wrong_scope")
        self._requests.take(key.name, key.requests_per_minute, 1)
        return key

    def known(self, header: str | None) -> Key:
        """Whose key it is, nothing charged.

        Raises:
            ApiError: 401 no or a wrong key.
        """
        if self._path is None:
            return LOOPBACK
        self._reread(self._path)
        given = _hash((header or "").removeprefix("Bearer ").strip())
        # All of them, always: the time tells nothing about which one was near.
        matches = [key for key in self._keys if hmac.compare_digest(key.sha256, given)]
        if not matches:
            raise ApiError(401, "The API key is missing or wrong.", "invalid_api_key")
        return matches[0]

    def before(self, key: Key, prompt: int) -> None:
        """Charge the tokens of a question.

        Raises:
            ApiError: 429 too many tokens.
        """
        self._tokens.take(key.name, key.tokens_per_minute, max(1, prompt))

    def after(self, key: Key, completion: int) -> None:
        """Charge the tokens of an answer, whose number nobody knew before; the next one waits."""
        self._tokens.owe(key.name, key.tokens_per_minute, completion)

    def _reread(self, path: Path) -> None:
        stamp = _stamp(path)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            self._keys = read_keys(path)
        except UsageError as error:  # the keys that were good a moment ago still are
            log.warning("%s; the keys read before go on", error.message)


class _Buckets:
    """One for a name: it holds a minute's worth and refills evenly. Owing makes the next wait."""

    def __init__(self, does: str) -> None:
        self._does = does
        self._left: dict[str, tuple[float, float]] = {}  # name -> (left, as of)
        self._lock = threading.Lock()

    def take(self, name: str, rate: int | None, amount: int) -> None:
        if rate is None:
            return
        with self._lock:
            left, now = self._now(name, rate)
            if left < min(amount, rate):
                wait = (min(amount, rate) - left) * 60 / rate
                raise ApiError(
                    429,
                    f"This key may {self._does.format(rate)} a minute.",
                    "rate_limit_exceeded",
                    headers={"Retry-After": str(max(1, math.ceil(wait)))},
                )
            self._left[name] = (left - amount, now)

    def owe(self, name: str, rate: int | None, amount: int) -> None:
        if rate is not None:
            with self._lock:
                left, now = self._now(name, rate)
                self._left[name] = (left - amount, now)

    def _now(self, name: str, rate: int) -> tuple[float, float]:
        now = time.monotonic()
        left, since = self._left.get(name, (float(rate), now))
        return min(float(rate), left + (now - since) * rate / 60), now


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
