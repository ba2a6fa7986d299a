"""Settings that only this provider has."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class GoogleOptions(BaseModel):
    """``options={"google": {...}}``."""

    model_config = ConfigDict(extra="forbid")

    project: str | None = Field(default=None, description="else GOOGLE_CLOUD_PROJECT")
    location: str | None = Field(
        default=None, description="else GOOGLE_CLOUD_LOCATION, else what suits the model"
    )
    bucket: str | None = Field(
        default=None, description="gs://NAME or gs://NAME/FOLDER, else UNIFT_GOOGLE_BUCKET"
    )
    mode: Literal["peft", "full"] | None = Field(
        default=None, description="open models: an adapter, or all weights"
    )
    beta: float | None = Field(
        default=None, gt=0, description="dpo: weight of staying close to the base"
    )
    last_checkpoint_only: bool = Field(
        default=False, description="Gemini: no endpoints for the checkpoints before the last"
    )
    custom_base_model: str | None = Field(
        default=None,
        pattern=r"^gs://[^/]+/.+",
        description="open models: a gs:// folder with safetensors to start from",
    )
    drop: tuple[str, ...] = Field(
        default=(), description="what converting the rows may lose, e.g. weights"
    )
