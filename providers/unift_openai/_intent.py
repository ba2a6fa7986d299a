"""What this machine remembers of an order to an OpenAI-shaped host, and which uploads are ours."""

from __future__ import annotations

from pydantic import BaseModel, Field

from unift import remote


class Upload(BaseModel):
    """A file at the host; `ours` if this submission put it there."""

    id: str
    ours: bool
    name: str = ""


class Intent(remote.Intent):
    """One submission."""

    base_url: str
    metadata: bool
    begun: list[str] = Field(default_factory=list[str])  # names of files that we began to upload
    uploads: dict[str, Upload] = Field(default_factory=dict[str, Upload])
