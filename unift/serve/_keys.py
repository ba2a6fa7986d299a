"""API keys: hashed at rest, compared in constant time, each with scopes and a rate."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unift._text import did_you_mean
from unift.errors import UsageError
from unift.serve._errors import ApiError

Scope = Literal["chat", "train"]
SCOPES: tuple[Scope, ...] = ("chat", "train")
_PREFIX = "sk-unift-"


class Key(BaseModel):
    """One line of the key file. A key is 256 random bits, so a plain SHA-256 hides it."""

    model_config = ConfigDict(extra="forbid")

    name: str
    sha256: str
    scopes: tuple[Scope, ...] = SCOPES
    requests_per_minute: int | None = Field(default=None, gt=0)


class KeyFile(BaseModel):
    """The key file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[Key] = []


def scopes_of(names: Sequence[str] | None) -> tuple[Scope, ...]:
    """Names of scopes as scopes; all of them for none.

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
    return tuple(scope for scope in SCOPES if not names or scope in names)


def read_keys(path: Path) -> list[Key]:
    """The keys of a file.

    Raises:
        UsageError: It cannot be read, or holds none.
    """
    try:
        keys = KeyFile.model_validate_json(path.read_bytes()).keys
    except (OSError, ValidationError) as error:
        raise UsageError(
            f"The key file cannot be read: {str(error).splitlines()[0]}",
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
    scopes: tuple[Scope, ...] = SCOPES,
    requests_per_minute: int | None = None,
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
    limit = requests_per_minute
    keys.append(Key(name=name, sha256=_hash(made), scopes=scopes, requests_per_minute=limit))
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(KeyFile(keys=keys).model_dump(mode="json"), file, indent=2)
    part.replace(path)
    return made


class Gate:
    """Lets requests in. Without keys (loopback only) everybody may do everything."""

    def __init__(self, keys: list[Key]) -> None:
        self._keys = keys
        self._used: dict[str, tuple[float, float]] = {}  # name -> (tokens left, as of)

    def admit(self, header: str | None, scope: Scope | None) -> str:
        """The name of the key of a request.

        Raises:
            ApiError: 401 no or a wrong key, 403 not for this, 429 too many requests.
        """
        if not self._keys:
            return "loopback"
        given = _hash((header or "").removeprefix("Bearer ").strip())
        # All of them, always: the time tells nothing about which one was near.
        matches = [key for key in self._keys if hmac.compare_digest(key.sha256, given)]
        if not matches:
            raise ApiError(401, "The API key is missing or wrong.", "invalid_api_key")
        key = matches[0]
        if scope is not None and scope not in key.scopes:
            raise ApiError(403, f"This key is not for '{scope}'.", "wrong_scope")
        if key.requests_per_minute is not None:
            self._charge(key.name, key.requests_per_minute)
        return key.name

    def _charge(self, name: str, rate: int) -> None:
        """A bucket that holds a minute's worth and refills evenly."""
        now = time.monotonic()
        left, since = self._used.get(name, (float(rate), now))
        left = min(float(rate), left + (now - since) * rate / 60)
        if left < 1:
            wait = (1 - left) * 60 / rate
            raise ApiError(
                429,
                f"This key may ask {rate} times a minute.",
                "rate_limit_exceeded",
                headers={"Retry-After": str(max(1, round(wait)))},
            )
        self._used[name] = (left - 1, now)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
