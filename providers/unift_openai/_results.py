"""What a finished job left: the figures of its result file, and its weights where they are ours."""

from __future__ import annotations

import base64
import binascii
import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import openai

from unift._home import home
from unift.errors import RunError
from unift_openai._calls import politely
from unift_openai._submit import pages

_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def metrics(api: openai.OpenAI, job: Any) -> dict[str, float]:
    """The last figures of the run; empty where the host gives none that can be read."""
    found: dict[str, float] = {}
    if isinstance(job.trained_tokens, int | float):
        found["trained_tokens"] = float(job.trained_tokens)
    for file_id in job.result_files or []:
        try:
            raw = politely(lambda id=file_id: api.files.content(id).content)
        except openai.APIStatusError:
            continue  # gone, or not for us: the model is what matters
        found |= last_figures(raw)
    return found


def last_figures(raw: bytes) -> dict[str, float]:
    """The last value of every column of a result file (CSV, plain or in base64).

    A file that is cut off ends with a row that has too few cells or no line end; that row is not
    believed.
    """
    text = _text(raw)
    whole, newline, rest = text.rpartition("\n")
    rows = list(csv.reader(io.StringIO(whole + newline)))
    if rest and rows and rest.count(",") == len(rows[0]) - 1 and not rest.endswith(","):
        rest = ""  # the last number may be cut in the middle
    if not rows or "step" not in rows[0]:
        return {}
    names = {"train_loss": "loss", "valid_loss": "validation_loss"}
    found: dict[str, float] = {}
    for row in rows[1:]:
        if len(row) != len(rows[0]):
            continue
        for column, cell in zip(rows[0], row, strict=True):
            try:
                found[names.get(column, column)] = float(cell)
            except ValueError:
                continue
    return found


def _text(raw: bytes) -> str:
    """The vendor serves some result files as base64 of the CSV."""
    if b"step" not in raw.partition(b"\n")[0]:
        try:
            raw = base64.b64decode(raw, validate=False)
        except binascii.Error:
            return ""
    return raw.decode("utf-8", errors="replace")


def download(api: openai.OpenAI, job: Any, provider: str) -> tuple[Path, dict[str, str]]:
    """The files of the newest checkpoint, in a folder of ours; returns it and their digests.

    Raises:
        RunError: There are none, or they are pickles.
    """
    points = list(pages(lambda: api.fine_tuning.jobs.checkpoints.list(job.id)))
    newest = max(points, key=lambda point: point.step_number, default=None)
    ids = _file_ids(newest)
    if not ids:
        raise RunError(
            "The host lists no files of the trained weights.",
            code="no_weights",
            where=job.id,
            fix="try again later: unift runs show",
        )
    folder = home() / "models" / provider / str(job.id)
    folder.mkdir(parents=True, exist_ok=True)
    digests: dict[str, str] = {}
    for file_id in ids:
        name = Path(politely(lambda id=file_id: api.files.retrieve(id)).filename).name
        if name.endswith(_PICKLES):
            raise RunError(
                f"The host gives the weights as a pickle ('{name}'), which can run any code.",
                code="pickle_weights",
                where=job.id,
                fix="ask the host for safetensors",
            )
        raw = politely(lambda id=file_id: api.files.content(id).content)
        part = folder / f"{name}.part"
        part.write_bytes(raw)
        part.replace(folder / name)
        digests[name] = hashlib.sha256(raw).hexdigest()
    return folder, digests


def _file_ids(point: Any) -> list[str]:
    if point is None:
        return []
    listed = getattr(point, "result_files", None)
    if listed:
        return [str(one) for one in listed]
    model = str(point.fine_tuned_model_checkpoint or "")
    return [model] if model.startswith("file") else []
