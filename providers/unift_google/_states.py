"""Google's words for the state of a job, each with what it means here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unift.provider import Failure, State, Status

# Every word of the enumeration JobState (google-genai 3.6.1; the discovery document of v1beta1 of
# 2026-11-06 has the same). A word that is not here is shown as it is and taken as not finished.
WORDS: Mapping[str, State] = {
    "JOB_STATE_QUEUED": State.QUEUED,
    "JOB_STATE_PENDING": State.QUEUED,
    "JOB_STATE_RUNNING": State.RUNNING,
    "JOB_STATE_UPDATING": State.RUNNING,  # "the job is being updated", it goes on afterwards
    "JOB_STATE_CANCELLING": State.RUNNING,
    "JOB_STATE_PAUSED": State.PAUSED,
    "JOB_STATE_SUCCEEDED": State.SUCCEEDED,
    # "some results may be missing due to errors": there is a model.
    "JOB_STATE_PARTIALLY_SUCCEEDED": State.SUCCEEDED,
    "JOB_STATE_FAILED": State.FAILED,
    "JOB_STATE_EXPIRED": State.FAILED,
    "JOB_STATE_CANCELLED": State.CANCELLED,
}
# google.rpc.Code, as `TuningJob.error` carries it -> the next step.
_FIXES = {
    3: ("invalid_argument", "unift validate --provider google shows what is wrong with the rows"),
    7: (
        "permission_denied",
        "let the project's Vertex AI service agent read and write the bucket",
    ),
    8: ("resource_exhausted", "ask for a higher quota in the Cloud console, then train again"),
}


def word_of(job: Any) -> str:
    """The state as Google says it."""
    state = job.state
    return str(getattr(state, "value", state) or "JOB_STATE_UNSPECIFIED")


def status_of(job: Any) -> Status:
    """A job's state in Google's word and in ours."""
    word = word_of(job)
    state = WORDS.get(word)
    failure = _failure(job, word) if state is State.FAILED else None
    message = failure.message if failure else ""
    if word == "JOB_STATE_PARTIALLY_SUCCEEDED":
        message = "Google says that some results may be missing."
    if word == "JOB_STATE_CANCELLING":
        message = "being cancelled"
    return Status(state=state, word=word, message=message, failure=failure)


def _failure(job: Any, word: str) -> Failure:
    error = job.error
    number = error.code if error else None
    code, fix = _FIXES.get(number or 0, ("job_failed", "change what it says, then train again"))
    said = (error.message if error else None) or "Google gave no reason."
    if word == "JOB_STATE_EXPIRED":
        code, said = "job_expired", f"The job ran out of time. {said}"
    return Failure(code=code, message=said, where=f"job {job.name}", fix=fix)
