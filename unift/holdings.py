"""What a customer has at a vendor: models, jobs, checkpoints, files, and until when.

The types of the seam's optional verbs (`unift.verbs.Inventoried`, `unift.verbs.Completes`).
None means everywhere: the vendor does not say. Times are UTC.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field

from unift.errors import ProviderError
from unift.spec import Frozen


class Until(Frozen):
    """When something stops, and who says so: ``models endpoint``, ``catalogue`` or ``nobody``.

    `as_of` and `link` belong to the catalogue's facts; what the vendor says live needs neither.
    """

    answers: date | None = Field(default=None, description="stops answering on this day")
    new_jobs: date | None = Field(default=None, description="last day for new jobs")
    source: str = "nobody"
    as_of: date | None = None
    link: str = ""
    replacement: str | None = Field(default=None, description="the vendor's own successor")


class HeldModel(Frozen):
    """A fine-tuned model that answers under `id`, or did."""

    id: str
    base: str
    kind: Literal["final", "checkpoint"] = "final"
    job: str | None = None
    step: int | None = None
    created: datetime | None = None
    listed: bool | None = Field(default=None, description="the vendor still lists it")
    until: Until = Until()
    weights: bool = Field(default=False, description="its weights can be downloaded")
    note: str = ""


class HeldFile(Frozen):
    """A file at the vendor. `downloadable` False or None has its reason in `note`."""

    id: str
    name: str = ""
    purpose: str = ""
    bytes: int | None = None
    created: datetime | None = None
    expires: datetime | None = None
    status: str = ""
    jobs: tuple[str, ...] = Field((), description="ids of the jobs that use it")
    downloadable: bool | None = None
    note: str = ""


class HeldJob(Frozen):
    """A training job. `word` is the vendor's own status; `settings` has its own names."""

    id: str
    base: str
    word: str
    method: str = "sft"
    created: datetime | None = None
    finished: datetime | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    trained_tokens: int | None = None
    model: str | None = None
    training_file: str | None = None
    validation_file: str | None = None
    result_files: tuple[str, ...] = ()
    error: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)


class Holdings(Frozen):
    """Everything that the key can see. `unseen` says, part by part, what it cannot and why."""

    provider: str
    account: str = Field(description="address, project or organisation; never a key")
    at: datetime
    models: tuple[HeldModel, ...] = ()
    jobs: tuple[HeldJob, ...] = ()
    files: tuple[HeldFile, ...] = ()
    unseen: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Completion(Frozen):
    """One answer with all that the vendor says of it, in the OpenAI form.

    `message` is the assistant's message (content, tool_calls, refusal, ...); `logprobs` and `usage`
    are as received. `seconds` is the time from the request to the whole answer.
    """

    message: dict[str, Any]
    finish_reason: str = "stop"
    model: str = ""
    logprobs: dict[str, Any] | None = None
    usage: dict[str, Any] | None = None
    seconds: float | None = None


class Busy(ProviderError):
    """The vendor could not answer now; asking again may help.

    Args:
        after: Seconds to wait, as the vendor asks; None: it does not say.
        billed: The call may have been carried out and charged although no answer came.
    """

    default_code = "busy"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        where: str = "",
        fix: str = "",
        after: float | None = None,
        billed: bool = False,
    ) -> None:
        super().__init__(message, code=code, where=where, fix=fix)
        self.after = after
        self.billed = billed
