"""What a finished job left: an endpoint, or weights in the user's bucket."""

from __future__ import annotations

from typing import Any

from unift._home import home
from unift.errors import RunError
from unift.provider import Artifact
from unift_google import _storage
from unift_google._events import figures
from unift_google.site import Site

#: Where a job for an open model leaves its weights (google/skills @1af7775, references/models.md).
FINAL = "postprocess/node-0/checkpoints/final"


def artifact(place: Site, job: Any) -> Artifact:
    """The endpoint of a tuned Gemini, or the downloaded weights of an open model.

    Raises:
        RunError: There is neither, or the weights are damaged.
    """
    numbers = figures(job)
    base = str(job.base_model or (job.pre_tuned_model and job.pre_tuned_model.base_model) or "")
    if job.output_uri:
        name = str(job.name).rpartition("/")[2]
        folder = home() / "models" / "google" / name
        folder.mkdir(parents=True, exist_ok=True)
        digests = _storage.fetch_weights(place, f"{job.output_uri.rstrip('/')}/{FINAL}", folder)
        return Artifact(
            kind="adapter" if "adapter_config.json" in digests else "weights",
            reference=str(folder),
            base=base,
            sha256=digests,
            metrics=numbers,
        )
    endpoint = job.tuned_model.endpoint if job.tuned_model else None
    if not endpoint:
        raise RunError(
            "The job succeeded, but names no endpoint.",
            code="no_endpoint",
            where=str(job.name),
            fix="deploy the model in the Cloud console: "
            + str(job.tuned_model.model if job.tuned_model else "it names none either"),
        )
    return Artifact(kind="hosted", reference=endpoint, base=base, metrics=numbers)
