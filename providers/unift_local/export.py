"""What a run leaves: a folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from unift.errors import RunError
from unift.provider import Artifact, Plan
from unift_local.rundir import RunDir, sync_folder

CARD = "unift.json"
#: Files of a checkpoint that are only there for resuming.
_RESUME_ONLY = ("optimizer.*", "scheduler.*", "rng_state*", "trainer_state.json", "*.bin", "*.pt")


def export(run: RunDir, plan: Plan, checkpoint: Path, metrics: dict[str, float]) -> None:
    """Make RUN/model from a checkpoint: safetensors, tokenizer with chat template, and a card."""
    draft = run.folder / ".model"
    shutil.rmtree(draft, ignore_errors=True)
    resume_only = shutil.ignore_patterns(*_RESUME_ONLY, "training_args*", CARD, "README.md")
    shutil.copytree(checkpoint, draft, ignore=resume_only)
    card = {
        "run": run.folder.name,
        "base": plan.payload["base"],
        "revision": plan.payload["revision"],
        "tunes": plan.payload["tunes"],
        "dtype": plan.value("dtype"),
        "four_bit": plan.payload["tunes"] == "qlora",
        "plan_sha256": run.plan_hash(),
        "max_length": plan.value("max_length"),
        "metrics": metrics,
        "sha256": digests(draft),
    }
    (draft / CARD).write_text(json.dumps(card, indent=2) + "\n")
    for path in draft.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(draft)
    shutil.rmtree(run.model, ignore_errors=True)
    draft.rename(run.model)
    sync_folder(run.folder)


def read_card(folder: Path) -> dict[str, Any]:
    """The card beside an exported model; empty for models that unift did not train."""
    try:
        return json.loads((folder / CARD).read_bytes())
    except FileNotFoundError:
        return {}


def artifact(run: RunDir) -> Artifact:
    """The exported model, its files checked against their digests.

    Raises:
        RunError: There is none, or a file changed since.
    """
    card = read_card(run.model)
    if not card:
        raise RunError(
            "The run has left no model.",
            code="no_artifact",
            where=run.folder.name,
            fix="wait for it to succeed, or resume it",
        )
    now = digests(run.model)
    changed = sorted(name for name, digest in card["sha256"].items() if now.get(name) != digest)
    if changed:
        raise RunError(
            f"The model was changed or damaged after training: {', '.join(changed)}.",
            code="artifact_changed",
            where=str(run.model),
            fix="delete that folder and resume the run; it exports the model again",
        )
    return Artifact(
        kind="weights" if card["tunes"] == "full" else "adapter",
        reference=str(run.model),
        base=card["base"],
        sha256=card["sha256"],
        metrics=card["metrics"],
    )


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every file but the card."""
    found: dict[str, str] = {}
    for path in sorted(folder.iterdir()):
        if path.name != CARD:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
