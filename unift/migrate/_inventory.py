"""Step 1: what there is at the vendor, until when it answers, what of it can be taken home."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unift.errors import UsageError
from unift.holdings import HeldFile, HeldJob, HeldModel, Holdings
from unift.migrate._files import write_text
from unift.migrate._source import parse_source
from unift.migrate._usage import Spend, monthly_spend
from unift.spec import Frozen

FILE = "inventory.json"


class Deadline(Frozen):
    """A day on which something ends, and what."""

    on: date
    what: str
    models: tuple[str, ...] = ()
    source: str = ""


class Inventory(Frozen):
    """Everything that the key can see at a vendor.

    Attributes:
        source: As the user named it.
        holdings: Models, jobs, files; see `unift.holdings.Holdings`.
        spend: Money by model in 30 days; empty where no usage was given.
    """

    source: str
    holdings: Holdings
    spend: tuple[Spend, ...] = ()

    @property
    def deadlines(self) -> tuple[Deadline, ...]:
        """What ends when, soonest first."""
        ends: dict[tuple[date, str], tuple[list[str], list[str]]] = {}

        def add(on: date, what: str, name: str, source: str) -> None:
            names, sources = ends.setdefault((on, what), ([], []))
            if name not in names:
                names.append(name)
            if source not in sources:
                sources.append(source)

        for model in self.holdings.models:
            until = model.until
            if until.answers:
                add(until.answers, "stops answering", model.id, until.source)
            if until.new_jobs:
                add(until.new_jobs, "last day for new jobs", model.base, "catalogue")
        for file in self.holdings.files:
            if file.expires:
                add(file.expires.date(), "file is deleted", file.id, "files endpoint")
        return tuple(
            Deadline(on=on, what=what, models=tuple(names), source="; ".join(sources))
            for (on, what), (names, sources) in sorted(ends.items())
        )

    @property
    def monthly_usd(self) -> float | None:
        """All spend that has a price; None where there is none."""
        known = [spend.usd for spend in self.spend if spend.usd is not None]
        return sum(known) if known else None

    def model(self, id: str) -> HeldModel | None:
        """The model of that id, with or without the provider before it."""
        wanted = id.removeprefix(f"{self.holdings.provider}:")
        return next((one for one in self.holdings.models if one.id == wanted), None)

    def job_of(self, id: str) -> HeldJob | None:
        """The job of a model's id or of a job's own."""
        found = self.model(id)
        wanted = found.job if found else id.removeprefix(f"{self.holdings.provider}:")
        return next((one for one in self.holdings.jobs if one.id == wanted), None)

    def file(self, id: str) -> HeldFile | None:
        return next((one for one in self.holdings.files if one.id == id), None)

    def as_dict(self) -> dict[str, Any]:
        """The ``--json`` shape: source, provider, account, at, models, jobs, files, deadlines,
        spend, monthly_usd, unseen, notes."""
        held = self.holdings.model_dump(mode="json")
        return {
            "source": self.source,
            **held,
            "deadlines": [one.model_dump(mode="json") for one in self.deadlines],
            "spend": [one.model_dump(mode="json") for one in self.spend],
            "monthly_usd": self.monthly_usd,
        }

    def write(self, folder: str | Path) -> Path:
        """Write ``inventory.json`` into a folder; returns its path.

        Raises:
            UsageError: It cannot be written.
        """
        text = json.dumps(self.as_dict(), ensure_ascii=False, indent=2) + "\n"
        return write_text(Path(folder) / FILE, text)

    def write_html(self, path: str | Path) -> Path:
        """Write the page that a person reads; returns its path.

        Raises:
            UsageError: It cannot be written.
        """
        from unift.migrate._inventory_page import render

        return write_text(Path(path).expanduser().absolute(), render(self))

    @classmethod
    def read(cls, path: str | Path) -> Inventory:
        """Read what `write` wrote; `path` is the file or its folder.

        Raises:
            UsageError: There is none, or it is not one of ours.
        """
        file = Path(path).expanduser()
        file = file / FILE if file.is_dir() else file
        try:
            document: dict[str, Any] = json.loads(file.read_text("utf-8"))
            held = {key: document[key] for key in Holdings.model_fields if key in document}
            return cls.model_validate(
                {"source": document["source"], "holdings": held, "spend": document["spend"]}
            )
        except (OSError, ValueError, ValidationError, KeyError, TypeError) as error:
            raise UsageError(
                f"There is no inventory that can be read ({type(error).__name__}).",
                code="no_inventory",
                where=str(file),
                fix="unift migrate inventory --source openai",
            ) from error


def inventory(
    source: str, *, usage: str | Path | Sequence[str] | None = None, usage_days: float | None = None
) -> Inventory:
    """List fine-tuned models, jobs, checkpoints and files, and until when they live.

    It costs nothing and changes nothing at the vendor, and works where training is refused.

    Args:
        source: ``openai``, ``azure``, any provider that can list what it keeps, or an address
            ``https://HOST/v1`` that speaks the OpenAI API. A model after it is ignored.
        usage: See `unift.migrate._usage.monthly_spend`; None: no money in the inventory.
        usage_days: How many days the figures cover; None: what the export says, else 30.

    Raises:
        UsageError: The source is nobody, or the usage cannot be read.
        ProviderError: Nothing can be listed: no key, a wrong one, no network.
    """
    found = parse_source(source)
    spend = monthly_spend(usage, found.name, days=usage_days) if usage is not None else ()
    return Inventory(source=source, holdings=found.keeper.inventory(), spend=spend)


def left(day: date, now: datetime | None = None) -> str:
    """``in 51 days``, ``today``, ``over since 3 days``."""
    days = (day - (now or datetime.now(UTC)).date()).days
    if days == 0:
        return "today"
    count = f"{abs(days)} day{'s' if abs(days) != 1 else ''}"
    return f"in {count}" if days > 0 else f"{count} ago"
