"""The page of a migration: what a manager signs, on paper, on a phone, or as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from unift._text import dollars
from unift.report._format import change, score
from unift.report._render import environment

Doc = Mapping[str, Any]


def migration_page(document: Doc) -> str:
    """One self-contained HTML page of a migration's story (``report.json``)."""
    page = environment()
    shown = partial(dollars, unknown="–")
    page.filters["usd"] = shown  # pyright: ignore[reportUnknownMemberType]  # untyped there
    return page.get_template("migration.html.j2").render(
        story=document,
        style=Markup(files("unift.report").joinpath("templates/style.css").read_text("utf-8")),
        own_style=Markup(
            files("unift.report").joinpath("templates/migration.css").read_text("utf-8")
        ),
    )


def migration_markdown(document: Doc) -> str:
    """The same story as Markdown."""
    old, new = document["old"], document["new"]
    lines = [
        f"# {document['word']}: migration {document['migration']}",
        "",
        document["sentence"],
        "",
        f"- Old: `{old['reference']}`",
        f"- New: `{new['base'] or 'not planned yet'}` by {new['provider'] or 'nobody yet'}"
        + (f", run `{new['run']}`" if new["run"] else ""),
        *(
            f"- {one['label']}: {one['value']} {one['note']}".rstrip()
            for one in document["figures"]
        ),
        f"- Written {document['written']}",
        "",
        "## What was done",
        "",
        *(f"1. {one}" for one in document["story"]),
        "",
    ]
    if document["dates"]:
        lines += ["## Dates", "", "| day | days left | what | says |", "| --- | ---: | --- | --- |"]
        lines += [
            f"| {one['on']} | {one['days']} | {_cell(one['what'])} | {_cell(one['source'])} |"
            for one in document["dates"]
        ]
        lines.append("")
    for title, key in (
        ("Held-out truth", "scores"),
        ("Agreement with the old answers", "agreement"),
    ):
        rows = document[key]
        if rows:
            lines += [f"## {title} ({document['metric']})", ""]
            lines += [
                "| | score | new minus it | interval | n |",
                "| --- | ---: | ---: | ---: | ---: |",
            ]
            lines += [_score_row(one) for one in rows]
            lines.append("")
    if document["slices"]:
        lines += [
            "## Slices, worst first",
            "",
            "| slice | n | new minus old | worse |",
            "| --- | ---: | ---: | --- |",
        ]
        lines += [
            f"| {_cell(one['by'])}: {_cell(one['value'])} | {one['n']} | "
            f"{change(one['difference'], True)} | {'yes' if one['worse'] else 'no'} |"
            for one in document["slices"]
        ]
        lines.append("")
    lines += ["## Settings", "", "| old | new | certainty | rule |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {one['old_name']} {one['old']} | {one['setting']} {one['new']} | {one['certainty']} | "
        f"{_cell(one['rule'])} |"
        for one in document["mapping"]
    ]
    lines += ["", "## Risks", ""]
    lines += [f"- {one['what']} {one['do']}" for one in document["risks"]] or ["- none known"]
    if document["cutover"]:
        lines += ["", "## Switching", "", "```"]
        lines += [*document["cutover"]["commands"].values(), "```", "", "```diff"]
        lines += [document["cutover"]["environment"].rstrip(), "```"]
    lines += ["", "## Signatures", ""]
    lines += [f"- {one}: ______________________ date: __________" for one in document["signatures"]]
    return "\n".join(lines).rstrip() + "\n"


def _score_row(one: Doc) -> str:
    if one["difference"] is None:
        return f"| {_cell(one['name'])} | {score(one['score'], True)} | – | – | {one['n']} |"
    span = f"{change(one['low'], True)} to {change(one['high'], True)}"
    return (
        f"| {_cell(one['name'])} | {score(one['score'], True)} | {change(one['difference'], True)} "
        f"| {span} | {one['n']} |"
    )


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
