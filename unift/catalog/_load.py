"""Reading the facts: the package's own files, then the user's, which win by id."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from unift._home import home
from unift.catalog._schema import Catalog, Fact, Measured
from unift.errors import UsageError

_FILES = ("models", "size_prices", "providers", "events", "gpus", "open_models", "bases")


def load() -> Catalog:
    """The catalogue: shipped facts with the user's file laid over them. Cached per file state.

    The user's file is ``$UNIFT_CATALOG``, else ``catalog.json`` in the home folder. It has the
    same shape as `Catalog`; entries replace ours by id (models by provider and id, size prices by
    provider, method, kind and upper bound), new ones are added; ``as_of`` defaults to the day the
    file was written, ``source`` to the file's path, ``origin`` is always "user".

    Raises:
        UsageError: The user's file is missing (when named), is no JSON or does not fit the schema.
    """
    path = _user_file()
    if path is None:
        return _shipped()
    stat = path.stat()
    return _merged(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=1)
def measured() -> tuple[Measured, ...]:
    """Training runs measured by this project, the ground truth of the estimates."""
    document = json.loads(_read("measured"))
    return tuple(Measured.model_validate(row) for row in document["runs"])


def _read(name: str) -> str:
    return files("unift.catalog").joinpath("data", f"{name}.json").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _shipped() -> Catalog:
    document: dict[str, Any] = {}
    for name in _FILES:
        document.update(json.loads(_read(name)))
    return Catalog.model_validate(document)


def _user_file() -> Path | None:
    named = os.environ.get("UNIFT_CATALOG")
    if named:
        path = Path(named).expanduser()
        if not path.is_file():
            raise UsageError(
                "The catalogue file named by UNIFT_CATALOG does not exist.",
                code="catalog_missing",
                where=str(path),
                fix="create it or unset UNIFT_CATALOG",
            )
        return path
    path = home() / "catalog.json"
    return path if path.is_file() else None


@lru_cache(maxsize=4)
def _merged(path: Path, mtime_ns: int, size: int) -> Catalog:
    ours = _shipped()
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(
            f"The catalogue file cannot be read: {error}.",
            code="catalog_unreadable",
            where=str(path),
            fix='write a JSON object such as {"gpus": [...]}',
        ) from error
    written = datetime.fromtimestamp(mtime_ns / 1e9, UTC).date().isoformat()
    try:
        theirs = Catalog.model_validate(_stamped(document, path, written))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"The catalogue file does not fit: {first['msg']}.",
            code="catalog_invalid",
            where=f"{path}: {'.'.join(str(part) for part in first['loc'])}",
            fix="compare the entry with the ones in unift/catalog/data",
        ) from None
    return Catalog(
        models=_over(ours.models, theirs.models, "provider", "id"),
        size_prices=_over(
            ours.size_prices, theirs.size_prices, "provider", "method", "tunes", "up_to_b"
        ),
        providers=_over(ours.providers, theirs.providers, "id"),
        events=_over(ours.events, theirs.events, "provider", "date", "what"),
        gpus=_over(ours.gpus, theirs.gpus, "id"),
        open_models=_over(ours.open_models, theirs.open_models, "ids"),
        bases=_over(ours.bases, theirs.bases, "id"),
        rate_rules=_over(ours.rate_rules, theirs.rate_rules, "name"),
    )


_Entry = TypeVar("_Entry", bound=Fact)


def _over(ours: tuple[_Entry, ...], theirs: tuple[_Entry, ...], *key: str) -> tuple[_Entry, ...]:
    """Entries of both, the user's in the place of ours where all fields of `key` agree."""
    merged = {tuple(getattr(entry, part) for part in key): entry for entry in (*ours, *theirs)}
    return tuple(merged.values())


def _stamped(document: Any, path: Path, written: str) -> Any:
    """The user's entries with where and when filled in, at any depth that holds a fact."""
    if not isinstance(document, dict):
        return document
    stamp = {"source": [str(path)], "as_of": written, "verification": "user"}

    def walk(value: Any, is_fact: bool) -> Any:
        if isinstance(value, list):
            return [walk(item, is_fact) for item in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        entry = dict(cast("dict[str, Any]", value))
        for key, is_fact_below in (
            ("offers", True),
            ("billing", False),
            ("hosting", False),
            ("limits", False),
        ):
            if key in entry:
                entry[key] = walk(entry[key], is_fact_below)
        if is_fact:
            return {**stamp, **entry, "origin": "user"}
        return {**entry, "fact": {**stamp, **entry.get("fact", {}), "origin": "user"}}

    return {
        key: walk(value, True) if isinstance(value, list) else value
        for key, value in cast("dict[str, Any]", document).items()
    }
