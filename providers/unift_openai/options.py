"""Settings that only these hosts have."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class OpenAIOptions(BaseModel):
    """``options={"openai": {...}}``; the same for ``azure``, ``crusoe`` and ``nebius``."""

    model_config = ConfigDict(extra="forbid")

    base_url: str | None = Field(default=None, description="another host that speaks this API")
    metadata: bool | None = Field(
        default=None, description="that host keeps metadata of jobs and filters by it"
    )
    suffix: str | None = Field(default=None, min_length=1, max_length=64)
    beta: float | None = Field(
        default=None, gt=0, le=2, description="dpo: weight of staying close to the base"
    )
    grader: dict[str, Any] | None = Field(default=None, description="rft: the vendor's grader")
    wandb_project: str | None = Field(default=None, description="the vendor reports there")
    hyperparameters: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="further keys, sent as they are"
    )
    accept_shutdown: bool = Field(
        default=False, description="train although the model ends within 14 days"
    )
    look_up_shutdown: bool = Field(
        default=True, description="ask the host when the model ends; else the catalogue alone"
    )
