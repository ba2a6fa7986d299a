"""``migration.yaml`` as the plan writes it: every value with the reason beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from unift._text import dollars
from unift.migrate._spec import MigrationSpec


def yaml_text(spec: MigrationSpec, plan: Mapping[str, Any]) -> str:
    """The file. Reading it gives a migration that does what the plan says."""
    old = plan["old"]
    lines = [
        f"# Migration of {old['reference']}",
        f"# written by unift migrate plan on {datetime.now(UTC):%Y-%m-%d}; review and change it.",
        "#   unift migrate run migration.yaml     does everything that is not done yet",
        "#   unift migrate status NAME            says what is done",
        "",
        "version: 1",
        f"name: {_value(spec.name)}",
        "",
    ]
    if old.get("ends"):
        lines += [f"# The old model stops answering on {old['ends']} ({old['ends_source']})."]
    lines += _section("source", spec.source.model_dump(), {
        "model": "the model that is left",
        "job": "its fine-tuning job; null: found by the model",
        "successor": "the vendor's untuned successor, to compare with; null: none",
        "successor_prompt": "file with the best system prompt you have for it",
    })  # fmt: skip
    lines += [*_data(spec, plan), *_record(spec), *_target(spec, plan), *_training(plan)]
    lines += _section("sweep", spec.sweep.model_dump(), {
        "rank": "ranks to try, such as [8, 32]; empty: no search",
        "learning_rate": "learning rates to try",
        "model": "other bases to try",
        "trials": "trainings at most; the plan's own settings are the first",
        "usd": "estimated price of all trainings at most",
        "hours": "estimated hours of all trainings at most",
        "limit": "validation rows that decide; no test row is looked at",
    })  # fmt: skip
    lines += _section("compare", spec.compare.model_dump(), {
        "metric": "the deciding metric; null: chosen by the data",
        "margin": "a loss that would matter, in units of the metric (0.03 is 3 points)",
        "confidence": "of the intervals and the verdict",
        "slices": "keys of the rows that are looked at one by one, such as [customer]",
        "limit": "test rows at most",
        "few_shot": "examples in the successor's prompt",
    })  # fmt: skip
    lines += _section("cutover", spec.cutover.model_dump(), {
        "name": "model name for the application; null: the migration's",
        "env_file": "the application's .env, for a diff of your own lines",
        "checked_rows": "rows whose tokens are compared between training and serving",
        "despite_verdict": "true prepares the switch although the verdict is no",
    })  # fmt: skip
    lines += _section("report", spec.report.model_dump(), {
        "owner": "whose migration it is",
        "approvers": "who signs the page",
    })  # fmt: skip
    return "\n".join(lines).rstrip() + "\n"


def _data(spec: MigrationSpec, plan: Mapping[str, Any]) -> list[str]:
    rows = plan["data"]["rows"]
    head = [
        f"# {rows['train']} rows to learn, {rows['validation']} to choose by, {rows['test']} to "
        "test with. No prompt is in two of them.",
        *(f"# {_one_line(note)}" for note in plan["data"]["notes"]),
    ]
    return head + _section("data", spec.data.model_dump(), {
        "train": "null: the fetched training file",
        "validation": "null: the fetched validation file",
        "test": "null: held out from the two above",
        "held_out": "share of the training file, where no validation file will do",
        "drop": "what a conversion may lose",
    })  # fmt: skip


def _record(spec: MigrationSpec) -> list[str]:
    return _section("record", spec.record.model_dump(), {
        "prompts": "more files with real prompts",
        "held_out": "ask the rows that are tested with",
        "draws": "answers to each prompt; two or more show the old model's own noise",
        "limit": "prompts at most",
        "usd": "stop before it costs more",
        "rate": "requests per minute at most",
        "scrub": "take secrets and personal data out of what is kept",
    })  # fmt: skip


def _target(spec: MigrationSpec, plan: Mapping[str, Any]) -> list[str]:
    named = {**spec.target.model_dump(), "provider": plan["provider"], "model": plan["model"]}
    best = next((one for one in plan["candidates"] if one["recommended"]), None)
    head: list[str] = []
    if best is not None:
        head.append(
            f"# Recommended: {best['base']} by {best['provider']}: {_one_line(best['why'])}."
        )
    others = [one for one in plan["candidates"] if not one["recommended"] and not one["against"]]
    for one in others[:4]:
        price = dollars(one["price_usd"], "price unknown")
        place = f" on {one['hardware']}" if one["hardware"] else ""
        head.append(
            f"#   also: {one['base']} by {one['provider']}{place}, {price}, {one['licence']}, "
            f"{_one_line(one['date_risk'])}"
        )
    return head + _section("target", named, {
        "provider": "who trains",
        "model": "the new base",
        "gpu": "such as h100-sxm-80gb; null: what is present",
        "usd_per_hour": "what an hour of it costs you",
        "answers_per_month": "traffic, for the price of running it and the break-even",
        "licence": "licences that are allowed, such as [Apache-2.0]; empty: all",
        "languages": "ISO 639-1 codes that it must know",
    })  # fmt: skip


def _training(plan: Mapping[str, Any]) -> list[str]:
    lines = ["training:"]
    for one in plan["mapping"]:
        name = "not carried over" if one["new"] is None else one["setting"]
        old = f"{one['old_name']} {one['old']}" if one["old"] is not None else "not set"
        lines.append(
            f"  # {one['old_name'] or one['setting']}: was {old}; {_one_line(one['rule'])}"
        )
        lines.append(
            f"  #   certainty: {one['certainty']}" + (f"; {one['source']}" if one["source"] else "")
        )
        if one["new"] is not None and name in plan["training"]:
            lines.append(f"  {one['setting']}: {_value(one['new'])}")
    if plan["training"].get("options"):
        lines.append(f"  options: {_value(plan['training']['options'])}")
    if not any(line.startswith("  ") and not line.startswith("  #") for line in lines):
        lines[0] = "training: {}"
    return [*lines, ""]


def _section(name: str, values: Mapping[str, Any], about: Mapping[str, str]) -> list[str]:
    lines = [f"{name}:"]
    for key, value in values.items():
        told = f"  # {about[key]}" if key in about else ""
        lines.append(f"  {key}: {_value(value)}{told}")
    return [*lines, ""]


def _value(value: Any) -> str:
    """A value in YAML's flow form, which for these is JSON; plain words stay without quotes."""
    if isinstance(value, tuple):
        value = list(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # any JSON
    return json.dumps(value, ensure_ascii=False)


def _one_line(text: str) -> str:
    return " ".join(str(text).split())
