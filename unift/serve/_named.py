"""Adapters that are served under a name of the user's choice: ``--adapter tickets=run:ID``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from unift.errors import UsageError
from unift.reference import parse
from unift.runs import run as get_run


def adapter_folders(adapters: Mapping[str, str], base: str) -> dict[str, str]:
    """Name -> folder of the adapter; `base` is what the engine loads, a folder or a hub id.

    Raises:
        UsageError: A reference that is no adapter of this base.
    """
    return {name: _folder(name, reference, base) for name, reference in adapters.items()}


def _folder(name: str, reference: str, base: str) -> str:
    found = parse(reference)
    if found.scheme == "run":
        artifact = get_run(found.rest).artifact
        if artifact is None or artifact.kind != "adapter":
            raise _refused(name, reference, "it has no adapter (yet)")
        if _plain(artifact.base) != _plain(base):
            raise _refused(name, reference, f"it was trained on {artifact.base}, not on {base}")
        return artifact.reference
    folder = Path(found.rest).expanduser()
    if found.scheme != "path" or not (folder / "adapter_config.json").is_file():
        raise _refused(name, reference, "it is no folder with an adapter")
    return str(folder.absolute())


def _plain(base: str) -> str:
    folder = Path(base).expanduser()
    return str(folder.resolve()) if folder.is_dir() else base.lower()


def _refused(name: str, reference: str, why: str) -> UsageError:
    return UsageError(
        f"'{reference}' cannot be served as '{name}': {why}.",
        code="bad_adapter",
        where="--adapter",
        fix="give --adapter NAME=run:ID or NAME=FOLDER, and its own base with --model",
    )
