"""New facts from a file or an address, checked before they take the place of the old ones."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unift._home import home
from unift.catalog._load import load, merged, stamped
from unift.catalog._schema import Catalog
from unift.errors import ProviderError, UsageError

_MOST_BYTES = 20 * 2**20
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Update:
    """What an update did: where it lies, entries by kind, the oldest and newest day of a fact."""

    path: Path
    entries: dict[str, int]
    oldest: str
    newest: str


def update(source: str) -> Update:
    """Lay the facts of `source` over the shipped ones, in the user's catalogue file.

    Entries replace earlier ones by id; those that `source` does not name stay. Nothing is written
    unless everything fits the schema.

    Args:
        source: A file, or an address that starts with https:// (http:// for this machine only).

    Raises:
        UsageError: It cannot be read, is no JSON object, or an entry does not fit; the first bad
            field is named.
        ProviderError: The address does not answer.
    """
    text = _fetch(source) if "://" in source else _read(Path(source).expanduser())
    try:
        document: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"The catalogue is no JSON: {error}.",
            code="catalog_unreadable",
            where=source,
            fix='give an object such as {"gpus": [...]}',
        ) from error
    today = datetime.now(UTC).date().isoformat()
    try:
        theirs = Catalog.model_validate(stamped(document, source, today))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"The catalogue does not fit: {first['msg']}.",
            code="catalog_invalid",
            where=f"{source}: {'.'.join(str(part) for part in first['loc'])}",
            fix="compare the entry with the ones in unift/catalog/data; nothing was changed",
        ) from None
    entries = {name: len(getattr(theirs, name)) for name in Catalog.model_fields}
    entries = {name: count for name, count in entries.items() if count}
    if not entries:
        raise UsageError(
            "The catalogue holds no entry.",
            code="catalog_invalid",
            where=source,
            fix=f"give any of {', '.join(Catalog.model_fields)}",
        )
    days = sorted(
        one.as_of.isoformat() for name in Catalog.model_fields for one in getattr(theirs, name)
    )
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()  # for time zones
    if days[-1] > tomorrow:
        raise UsageError(
            f"A fact was read on {days[-1]}, which lies ahead: it would never count as old.",
            code="catalog_invalid",
            where=f"{source}: as_of",
            fix="give the day on which it was read; nothing was changed",
        )
    named = os.environ.get("UNIFT_CATALOG")
    path = Path(named).expanduser() if named else home() / "catalog.json"
    kept = Catalog()
    if path.is_file():
        load()  # refuses a file that does not fit, instead of writing over it
        written: Any = json.loads(path.read_text(encoding="utf-8"))
        kept = Catalog.model_validate(stamped(written, str(path), today))
    both = merged(kept, theirs)
    draft = path.with_name(path.name + ".new")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.write_text(both.model_dump_json(indent=1, exclude_defaults=True), encoding="utf-8")
    draft.replace(path)
    return Update(path, entries, days[0], days[-1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The catalogue cannot be read: {error}.",
            code="catalog_unreadable",
            where=str(path),
            fix="give an existing JSON file or an https:// address",
        ) from error


def _fetch(address: str) -> str:
    import httpx2 as httpx

    local = address.startswith(("http://127.0.0.1", "http://localhost"))
    if not address.startswith("https://") and not local:
        raise UsageError(
            "Prices are fetched over https only.",
            code="bad_setting",
            where="from",
            fix="give an https:// address, or a file",
        )
    try:
        answer = httpx.get(address, timeout=_SECONDS, follow_redirects=not local)
        answer.raise_for_status()
    except httpx.HTTPError as error:
        raise ProviderError(
            f"The catalogue cannot be fetched: {error}.",
            code="catalog_unreachable",
            where=address,
            fix="check the address and the network, or give a file",
        ) from error
    if len(answer.content) > _MOST_BYTES:
        raise UsageError(
            f"The catalogue has more than {_MOST_BYTES // 2**20} MB.",
            code="catalog_unreadable",
            where=address,
            fix="check the address",
        )
    return answer.text
