"""Files of a migration: written whole or not at all, and named by their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from unift.errors import UsageError


def write_text(path: Path, text: str) -> Path:
    """Write a file that appears whole; an old one is replaced.

    Raises:
        UsageError: It cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(
            f"The file cannot be written: {error.strerror}.",
            code="unwritable",
            where=str(path),
            fix="free disk space or mend the permissions; what was paid for is kept",
        ) from error
    return path


def write_json(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a JSON document for people and programs."""
    return write_text(path, json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """A document that a step left, or None if there is none that can be read."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None


def sha256(path: Path) -> str:
    """Digest of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(*parts: Any) -> str:
    """A name for what a step is made from."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def items(document: Mapping[str, Any] | None, key: str) -> list[dict[str, Any]]:
    """The list of objects under a key; empty where there is none."""
    found = (document or {}).get(key)
    return cast("list[dict[str, Any]]", found) if isinstance(found, list) else []


def part(document: Mapping[str, Any] | None, key: str) -> dict[str, Any]:
    """The object under a key; empty where there is none."""
    found = (document or {}).get(key)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def words(document: Mapping[str, Any] | None, key: str) -> list[str]:
    """The list of texts under a key; empty where there is none."""
    found = (document or {}).get(key)
    return [str(one) for one in cast("list[Any]", found)] if isinstance(found, list) else []
