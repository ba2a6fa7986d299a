"""The script that does the rest of a migration: through the public API, to be read and changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from unift.migrate._spec import MigrationSpec

_HEAD = '''"""Migration of {old}
to {model}, trained by {provider}.

Written by unift migrate plan on {day}. It is yours: review it, change it, run it in CI. Every step
is journalled, so running it again goes on where it stopped and pays for nothing twice.

    python {file}

Exit status 1 if the new model is not good enough; nothing is switched then.
"""

import sys

import unift

migration = unift.migrate(
    {source!r},{ends}
    name={name!r},
'''

_TAIL = """
migration.inventory()  # what the vendor holds, and until when
migration.fetch()  # training and validation files, settings, curves
golden = migration.record()  # what the old model answers, while it still does
print("recorded", golden["prompts"], "prompts")

plan = migration.plan()
for line in plan.mapping:
    print(f"{line.setting}: {line.new} ({line.certainty})")
for warning in plan.warnings:
    print("note:", warning)

trained = migration.train()  # TRAININGS
print("trained", trained.model)

compared = migration.compare()
print(compared.verdict)

if compared.verdict.code != "do_not":
    ready = migration.cutover()  # start commands, environment diff, archive with checksums
    for way, command in ready.commands.items():
        print(way, command)
    print(ready.environment)

report = migration.report()
print("to be signed:", report.html)
sys.exit(compared.verdict.code == "do_not")
"""


def script_text(spec: MigrationSpec, plan: Mapping[str, Any], file: str = "migrate.py") -> str:
    """The script. It carries the plan's decisions as plain arguments."""
    old = plan["old"]
    ends = f"  # stops answering on {old['ends']}" if old.get("ends") else ""
    lines = [
        _HEAD.format(
            old=old["reference"],
            model=plan["model"],
            provider=plan["provider"],
            day=f"{datetime.now(UTC):%Y-%m-%d}",
            file=Path(file).name,
            source=spec.source.model,
            ends=ends,
            name=spec.name,
        ),
        f"    to={plan['provider']!r},\n",
        f"    model={plan['model']!r},\n",
    ]
    defaults = MigrationSpec(name=spec.name, source=spec.source)
    for section in ("source", "data", "record", "target"):
        skipped = ("model", "provider") if section in ("source", "target") else ()
        lines += _arguments(section, getattr(spec, section), getattr(defaults, section), skipped)
    lines += _training(plan)
    for section in ("sweep", "compare", "cutover", "report"):
        kept = ("margin",) if section == "compare" else ()
        lines += _arguments(section, getattr(spec, section), getattr(defaults, section), (), kept)
    lines.append(")\n")
    count = len(plan["trials"])
    trainings = "one training" if count == 1 else f"{count} trainings, the best by validation rows"
    lines.append(_TAIL.replace("TRAININGS", trainings))
    return "".join(lines)


def _arguments(
    section: str,
    given: Any,
    defaults: Any,
    skipped: tuple[str, ...] = (),
    kept: tuple[str, ...] = (),
) -> list[str]:
    """One section as a keyword argument; what is the default is left out."""
    changed = {
        key: value
        for key, value in given.model_dump().items()
        if key not in skipped
        and (key in kept or (value != getattr(defaults, key) or section == "source"))
        and value is not None
    }
    if not changed:
        return []
    name = "old" if section == "source" else section
    inner = "".join(f"        {key!r}: {value!r},\n" for key, value in changed.items())
    return [f"    {name}={{\n{inner}    }},\n"]


def _training(plan: Mapping[str, Any]) -> list[str]:
    lines = ["    training={\n"]
    told = {one["setting"]: one for one in plan["mapping"]}
    for key, value in plan["training"].items():
        one = told.get(key)
        if one is not None:
            was = "" if one["old"] is None else f"was {one['old_name']} {one['old']}; "
            lines.append(f"        # {was}{' '.join(one['rule'].split())} [{one['certainty']}]\n")
            if one["source"]:
                lines.append(f"        # {one['source']}\n")
        lines.append(f"        {key!r}: {value!r},\n")
    lines.append("    },\n")
    return lines
