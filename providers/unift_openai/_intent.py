"""What this machine remembers of a submission: written before the host hears of it.

The host keeps the truth. This file only says where to look for it, which uploads are ours, and
since when a job may exist that no list shows yet.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from unift._home import home
from unift.errors import UsageError


class Upload(BaseModel):
    """A file at the host; `ours` if this submission put it there."""

    id: str
    ours: bool
    name: str = ""


class Intent(BaseModel):
    """One submission."""

    model_config = ConfigDict(extra="ignore")

    token: str
    base_url: str
    metadata: bool
    begun: list[str] = []  # names of files that we began to upload
    uploads: dict[str, Upload] = {}
    attempted: float | None = None  # our clock, when the create call with unknown end was sent
    job: str | None = None

    def save(self, provider: str) -> None:
        """On disk, whole, before anything else happens."""
        path = _path(provider, self.token)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("w") as file:
            file.write(self.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)


def load(provider: str, token: str) -> Intent | None:
    """The intent of a token, or None if this machine never had one."""
    path = _path(provider, token)
    return Intent.model_validate_json(path.read_bytes()) if path.exists() else None


def _path(provider: str, token: str) -> Path:
    if not token or "/" in token or token.startswith(".") or "\0" in token:
        raise UsageError(f"'{token}' cannot be the name of a run.", where="token")
    return home() / "submissions" / provider / f"{token}.json"
