"""The inventory as a page."""

from __future__ import annotations

from datetime import date
from importlib.metadata import version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unift.report import plain

if TYPE_CHECKING:
    from unift.migrate._inventory import Inventory

_SOON_DAYS = 90


def size(count: int | None) -> str:
    """``12 B``, ``3.4 kB``, ``1.2 GB``; a dash where nobody knows."""
    if count is None:
        return "–"
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.3g} {units[0]}"


def headline(inventory: Inventory) -> dict[str, str]:
    """A word, its tone and the sentence that matters most."""
    from unift.migrate._inventory import left

    held = inventory.holdings
    ends = [one for one in inventory.deadlines if one.what == "stops answering"]
    if not held.models:
        found = f"There is no fine-tuned model at {held.provider} that this key can see."
        return {"word": "Nothing tuned", "tone": "open", "found": found}
    today = held.at.date()
    over = [one for one in ends if one.on < today]
    coming = [one for one in ends if one.on >= today]
    if not coming:
        if over:
            found = f"Every dated model at {held.provider} has stopped answering."
            return {"word": "Over", "tone": "bad", "found": found}
        found = f"Nobody says that a model at {held.provider} ends."
        return {"word": "No date known", "tone": "open", "found": found}
    first = coming[0]
    many = len(first.models)
    found = (
        f"{first.models[0] if many == 1 else f'{many} models and checkpoints'} "
        f"stop{'s' if many == 1 else ''} answering on {first.on}, "
        f"{left(first.on, held.at)}."
    )
    near = (first.on - today).days <= _SOON_DAYS
    return {"word": "Ends soon" if near else "Dated", "tone": "bad" if near else "warn"} | {
        "found": found
    }


def render(inventory: Inventory) -> str:
    """The page as text; needs no network and no script."""
    from unift.migrate._inventory import left

    held = inventory.holdings
    environment = Environment(
        loader=PackageLoader("unift.migrate", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plain"] = plain  # pyright: ignore[reportUnknownMemberType]  # untyped there
    style = files("unift.report").joinpath("templates/style.css").read_text("utf-8")
    takeable = [file for file in held.files if file.downloadable]

    def until(day: date) -> str:
        return left(day, held.at)

    values: dict[str, Any] = {
        "held": held,
        "headline": headline(inventory),
        "deadlines": inventory.deadlines,
        "finals": [model for model in held.models if model.kind == "final"],
        "checkpoints": [model for model in held.models if model.kind == "checkpoint"],
        "failed": sum(1 for job in held.jobs if not job.model),
        "takeable": takeable,
        "takeable_bytes": size(sum(file.bytes or 0 for file in takeable)),
        "lost": len(held.files) - len(takeable),
        "monthly": inventory.monthly_usd,
        "spend": inventory.spend,
        "left": until,
        "size": size,
        "style": Markup(style),
        "version": version("unift"),
    }
    return environment.get_template("inventory.html.j2").render(**values)
