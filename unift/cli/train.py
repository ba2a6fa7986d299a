"""unift train: one call."""

from __future__ import annotations

import json as _json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from unift._text import dollars, duration
from unift.cli._output import Json, emit, err, out
from unift.cli._progress import follow
from unift.errors import UsageError

if TYPE_CHECKING:
    from unift.provider import Plan


def command(
    provider: Annotated[str, typer.Option(help="Who trains; unift providers lists them.")],
    model: Annotated[str, typer.Option(help="demo, a folder, a hub id, or a vendor's model id.")],
    data: Annotated[
        str,
        typer.Option(
            help="Training rows in any format that becomes chat without a loss, or demo:train."
        ),
    ],
    validation: Annotated[
        str | None, typer.Option(help="Rows to watch, never learnt from.")
    ] = None,
    method: Annotated[str, typer.Option(help="sft, dpo or rft.")] = "sft",
    name: Annotated[str | None, typer.Option(help="Label of the run.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Stop after so many steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Effective batch: rows per step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate, absolute.")] = None,
    learning_rate_multiplier: Annotated[
        float | None, typer.Option(help="For vendors that hide the absolute rate.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of AdamW.")] = None,
    warmup_ratio: Annotated[float | None, typer.Option(help="Share of all steps.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens per row.")] = None,
    packing: Annotated[
        bool | None, typer.Option("--packing/--no-packing", help="Short rows share a sequence.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of order, initialisation, dropout.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Scale of the adapter.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Inside the adapter.")] = None,
    target: Annotated[list[str] | None, typer.Option(help="Module that gets an adapter.")] = None,
    usd: Annotated[float | None, typer.Option(help="Refuse to start above this price.")] = None,
    hours: Annotated[float | None, typer.Option(help="Refuse to start above this time.")] = None,
    memory_gib: Annotated[float | None, typer.Option(help="Refuse above this memory.")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="PROVIDER.KEY=VALUE, a setting of one provider alone; repeatable."),
    ] = None,
    accept_shutdown: Annotated[
        bool,
        typer.Option("--accept-shutdown", help="Train although the vendor's model ends soon."),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="Local: trace one step and say where its time went."),
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Show the plan and stop.")] = False,
    detach: Annotated[bool, typer.Option(help="Return at once; the run goes on.")] = False,
    json: Json = False,
) -> None:
    """Fine-tune a model and follow it. Ctrl-C stops following, not training."""
    import unift

    options = parse_options(option or [])
    if accept_shutdown:
        options.setdefault(provider, {})["accept_shutdown"] = True
    if profile:
        options.setdefault(provider, {})["profile"] = True
    plan = unift.plan(
        provider=provider,
        model=model,
        data=data,
        validation=validation,
        method=method,
        name=name,
        epochs=epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        learning_rate_multiplier=learning_rate_multiplier,
        weight_decay=weight_decay,
        warmup_ratio=warmup_ratio,
        max_length=max_length,
        packing=packing,
        seed=seed,
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        targets=tuple(target) if target else None,
        usd=usd,
        hours=hours,
        memory_gib=memory_gib,
        options=options,
    )
    for warning in plan.warnings:
        err.print(f"warning {warning}", style="yellow")
    if not json and plan.estimate:
        if line := expected(plan.estimate):
            err.print(line)
        if plan.estimate.get("advice"):
            err.print(f"advice: {plan.estimate['advice']}")
    if dry_run:
        if json:
            emit(
                {
                    "run": None,
                    "provider": provider,
                    "status": "planned",
                    "plan": plan.model_dump(mode="json"),
                }
            )
        else:
            show_plan(plan)
        return
    run = unift.start(plan)
    if not detach:
        follow(run, headline="" if json else f"run {run.id} on {provider}")
        if run.status != "succeeded":
            raise run.error()
    if json:
        emit(run.as_dict())
    elif detach:
        out.print(f"run {run.id} {run.status}; unift runs events {run.id} --follow")
    else:
        out.print(f"run {run.id} succeeded; the model is {run.model}")
        out.print(f"unift evaluate {run.model} --data TEST.jsonl  says whether it was worth it")


def parse_options(given: list[str]) -> dict[str, dict[str, Any]]:
    """``["local-lora.micro_batch=2"]`` -> ``{"local-lora": {"micro_batch": 2}}``."""
    options: dict[str, dict[str, Any]] = {}
    for text in given:
        name, equals, value = text.partition("=")
        provider, dot, key = name.partition(".")
        if not (equals and dot and provider and key):
            raise UsageError(
                f"'{text}' is not PROVIDER.KEY=VALUE.",
                where="--option",
                fix="for example --option local-lora.micro_batch=2",
            )
        try:
            parsed = _json.loads(value)
        except ValueError:
            parsed = value
        options.setdefault(provider, {})[key] = parsed
    return options


def expected(row: dict[str, Any]) -> str:
    """The estimate of a plan as one line: memory, time, money; empty where none is known."""
    parts: list[str] = []
    if row.get("memory") and row.get("usable_gib"):
        need = row["memory"]["device_gib"]
        parts.append(f"{need:.1f} of {row['usable_gib']:.1f} GiB ({row['hardware']})")
    if row.get("hours") is not None:
        parts.append(duration(row["hours"] * 3600))
    if row.get("price_usd") is not None:
        parts.append(dollars(row["price_usd"]))
    return "expected: " + ", ".join(parts) if parts else ""


def show_plan(plan: Plan) -> None:
    """Every setting with its value, where it came from and why."""
    from rich.table import Table

    table = Table("setting", "value", "from", "why", box=None, pad_edge=False)
    table.columns[0].no_wrap = True  # a name cut short cannot be looked up
    for setting in plan.settings:
        table.add_row(setting.name, str(setting.value), setting.origin, setting.why)
    out.print(table)
