"""From documents to HTML: gather what each section shows, then fill the template."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unift._text import duration
from unift.report import _format
from unift.report._evaluation_view import evaluation_view
from unift.report._run_view import data_view, estimate_view, lineage_view, run_view

if TYPE_CHECKING:
    from unift.runs import Run

Doc = Mapping[str, Any]

# What can change a result; only those that are installed are listed.
_PACKAGES = ("unift", "torch", "transformers", "peft", "trl", "bitsandbytes", "scipy")


def render(
    *,
    run: Run | None,
    evaluation: Doc | None,
    validation: Doc | None,
    estimate: Doc | None,
    diagnosis: Doc | None,
) -> str:
    """The page as text."""
    training = run_view(run) if run is not None else None
    found = diagnosis or (evaluation or {}).get("diagnosis")
    compared = evaluation_view(evaluation) if evaluation else None
    sections = {
        "compared": compared,
        "training": training,
        "diagnosis": found,
        "data": data_view(validation) if validation else None,
        "expected": estimate_view(run, estimate, training),
        "lineage": lineage_view(run, evaluation),
        "headline": _headline(compared, training, found, validation),
    }
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            **sections,
            style=Markup(files("unift.report").joinpath("templates/style.css").read_text("utf-8")),
            written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
            versions=_versions(),
            machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        )
    )


def _headline(
    compared: Doc | None, training: Doc | None, diagnosis: Doc | None, validation: Doc | None
) -> dict[str, str]:
    """Badge (a word and its tone) and the sentence at the top."""
    if compared:
        return {**compared["badge"], **compared["verdict"]}
    if training:
        tones = {"succeeded": "good", "failed": "bad", "lost": "bad"}
        sentence = f"Run {training['id']} trained {training['base']} with {training['provider']}."
        if diagnosis:
            sentence += f" {diagnosis['sentence']}"
        word = str(training["status"])
        return {
            "word": word.capitalize(),
            "tone": tones.get(word, "open"),
            "found": sentence,
            "figures": "",
        }
    if validation and validation.get("file"):
        errors = int(validation.get("errors") or 0)
        state = f"{errors:,} error{'s' if errors != 1 else ''}" if errors else "no errors"
        return {
            "word": "Not ready" if errors else "Ready",
            "tone": "bad" if errors else "good",
            "found": f"{validation['file']} has {state} in {validation.get('rows', 0):,} rows.",
            "figures": "",
        }
    return {
        "word": "Checked",
        "tone": "open",
        "found": "What is known before training.",
        "figures": "",
    }


def environment() -> Environment:
    """Templates of this package: everything escaped, a missing value an error."""
    found = Environment(
        loader=PackageLoader("unift.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "score": _format.score,
        "change": _format.change,
        "p_value": _format.p_value,
        "duration": partial(duration, unknown="–"),
        "plain": _format.plain,
        "percent": partial(_format.score, share=True),
    }
    found.filters.update(filters)  # pyright: ignore[reportUnknownMemberType]  # untyped there
    return found


def _versions() -> list[tuple[str, str]]:
    found = [("Python", sys.version.split()[0])]
    for package in _PACKAGES:
        try:
            found.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return found
