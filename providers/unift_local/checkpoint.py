"""Checkpoints that are whole or not there.

The trainer writes ``checkpoints/checkpoint-STEP``. Only when every file of it has reached the disk
does it get its marker, ``unift.json``, with what the run itself must remember (the best step, how
often validation got worse). A folder without marker is debris of a crash and is deleted on resume.
Old checkpoints go after the new one is whole, never before.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from unift.verbs import Checkpoint
from unift_local.rundir import sync_folder, write_atomic

MARKER = "unift.json"


@dataclass
class Progress:
    """What a run must remember across its lives, beyond weights, optimiser and random numbers."""

    step: int = 0
    best_step: int | None = None
    best_loss: float | None = None
    last_loss: float | None = None
    worse: int = 0
    stopped_early: bool = False
    finished: bool = False
    trained_seconds: float = 0.0
    tokens: int = 0


def path_of(folder: Path, step: int) -> Path:
    """Where the trainer writes the checkpoint of a step."""
    return folder / f"checkpoint-{step}"


def mark_complete(checkpoint: Path, progress: Progress) -> None:
    """Flush every file of a checkpoint, then put the marker in."""
    for path in checkpoint.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    sync_folder(checkpoint)
    write_atomic(checkpoint / MARKER, json.dumps(asdict(progress)).encode())
    sync_folder(checkpoint.parent)


def complete(folder: Path) -> list[Path]:
    """The whole checkpoints, oldest first."""
    return sorted(
        (path.parent for path in folder.glob(f"checkpoint-*/{MARKER}")),
        key=lambda path: int(path.name.rsplit("-", 1)[1]),
    )


def kept(folder: Path) -> list[Checkpoint]:
    """The whole checkpoints as whoever asks for an answer knows them, oldest first."""
    found: list[Checkpoint] = []
    for path in complete(folder):
        seen, at = progress(path), (path / MARKER).stat().st_mtime
        loss = {} if seen.last_loss is None else {"validation_loss": seen.last_loss}
        found.append(
            Checkpoint(
                step=seen.step,
                at=datetime.fromtimestamp(at, UTC),
                reference=str(path),
                metrics={"step": float(seen.step), **loss},
            )
        )
    return found


def latest(folder: Path) -> tuple[Path, Progress] | None:
    """The newest whole checkpoint and its progress."""
    found = complete(folder)
    return (found[-1], progress(found[-1])) if found else None


def progress(checkpoint: Path) -> Progress:
    """What the marker of a whole checkpoint says."""
    return Progress(**json.loads((checkpoint / MARKER).read_bytes()))


def delete_incomplete(folder: Path) -> list[str]:
    """Remove what a crash left half-written; the names of what was removed."""
    debris = [path for path in folder.glob("checkpoint-*") if not (path / MARKER).is_file()]
    for path in debris:
        shutil.rmtree(path)
    return [path.name for path in debris]


def rotate(folder: Path, keep: int, best_step: int | None) -> None:
    """Keep the newest `keep` checkpoints and the best one."""
    found = complete(folder)
    for path in found[:-keep]:
        if best_step is None or path != path_of(folder, best_step):
            (path / MARKER).unlink()  # so that a crash here leaves debris, not a torn checkpoint
            shutil.rmtree(path)
