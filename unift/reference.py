"""Model references: one string that names anything that can answer.

demo                          the embedded base model
run:ID                        what a run of ours trained
path:./adapter, ./adapter     a folder with weights or an adapter
hf:Qwen/Qwen3-8B              a model on the Hugging Face hub
openai:ft:gpt-4o-mini:...     PROVIDER:ID, any registered provider
http://127.0.0.1:8000/v1#name any server that speaks the OpenAI API
"""

from __future__ import annotations

from pathlib import Path

from unift._text import did_you_mean
from unift.errors import RunError, UsageError
from unift.provider import Model, claimant, get_provider, providers
from unift.runs import run as get_run
from unift.spec import Frozen


class Reference(Frozen):
    """A parsed reference: who answers, and the name that the answerer knows."""

    scheme: str
    rest: str

    def __str__(self) -> str:
        return f"{self.scheme}:{self.rest}"


def parse(reference: str) -> Reference:
    """Tell what a reference names, without loading anything.

    Raises:
        UsageError: It names nothing that unift knows.
    """
    if reference == "demo":
        return Reference(scheme="demo", rest="demo")
    if reference.startswith(("http://", "https://")):
        return Reference(scheme="http", rest=reference)
    scheme, colon, rest = reference.partition(":")
    if colon and scheme in ("run", "path", "hf"):
        return Reference(scheme=scheme, rest=rest)
    if colon:
        known = [info.name for info in providers()]
        if scheme in known:
            return Reference(scheme=scheme, rest=rest)
        raise UsageError(
            f"Nothing answers to '{reference}'.",
            code="unknown_reference",
            where="model",
            fix=did_you_mean(scheme, ["run", "path", "hf", *known]) + " (before the colon)",
        )
    if Path(reference).expanduser().is_dir():
        return Reference(scheme="path", rest=reference)
    if reference.count("/") == 1 and not reference.startswith((".", "/", "~")):
        return Reference(scheme="hf", rest=reference)
    raise UsageError(
        f"'{reference}' is neither a folder nor a known kind of model reference.",
        code="unknown_reference",
        where="model",
        fix="give demo, run:ID, path:FOLDER, hf:OWNER/NAME or PROVIDER:ID",
    )


def load(reference: str, reuse: Model | None = None) -> Model:
    """Load something that answers.

    Args:
        reference: What it is.
        reuse: A model in memory that is not needed any more as it is. If it stands on the same
            weights it becomes the new one and is returned, which saves loading them again.

    Raises:
        UsageError: The reference names nothing.
        RunError: It names a run that has no model (yet).
        MissingDependency: What loads it is not installed.
    """
    found = parse(reference)
    if found.scheme == "run":
        run = get_run(found.rest)
        if run.artifact is None:
            raise RunError(
                f"The run is {run.status} and has no model.",
                code="run_without_model",
                where=f"run {run.id}",
                fix=f"unift runs show {run.id}",
            )
        owner, name = get_provider(run.provider), run.artifact.reference
    else:
        name = found.rest
        claimed = found.scheme in ("demo", "path", "hf", "http")
        owner = (claimant if claimed else get_provider)(found.scheme)
    become = getattr(reuse, "become", None)
    if reuse is not None and become is not None and owner.capabilities().place == "local":
        return reuse if become(name) else owner.model(name)
    return owner.model(name)
