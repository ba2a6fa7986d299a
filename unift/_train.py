"""`unift.plan` and `unift.train`: from words to a journalled, submitted run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

from unift._text import did_you_mean
from unift.errors import DataError, UsageError
from unift.provider import Plan, Provider, Setting, get_provider, provider_names, providers
from unift.runs import Run, Store
from unift.spec import Method, TrainSpec, make_spec


class Settings(TypedDict, total=False):
    """Everything about a training that may be left to the provider. None means the same."""

    validation: str | None  # rows to watch while training; never learnt from
    method: str  # sft, dpo or rft
    name: str | None  # label of the run and of its model, at most 64 characters
    epochs: float | None  # passes over the data
    max_steps: int | None  # stop after so many optimiser steps, whatever `epochs` says
    batch_size: int | None  # effective batch: rows per optimiser step
    learning_rate: float | None  # peak rate, absolute
    learning_rate_multiplier: float | None  # for vendors that hide the absolute rate
    weight_decay: float | None  # decoupled decay of AdamW
    warmup_ratio: float | None  # share of all steps with a rising rate
    max_length: int | None  # tokens per row; a longer row is an error, never cut in silence
    packing: bool | None  # several short rows in one sequence
    seed: int | None  # of order, initialisation and dropout
    rank: int | None  # rank of the adapter
    alpha: float | None  # scale of the adapter; the update is alpha/rank
    dropout: float | None  # inside the adapter
    targets: tuple[str, ...] | None  # names of the modules that get an adapter
    usd: float | None  # refuse to start above this price, US dollars
    hours: float | None  # refuse to start above this duration
    memory_gib: float | None  # refuse to start above this device memory, GiB
    options: Mapping[str, Mapping[str, Any]] | None  # of one provider: {"openai": {...}}


def plan(*, provider: str, model: str, data: str, **settings: Unpack[Settings]) -> Plan:
    """Resolve every setting and estimate the run, without starting anything.

    Takes what `train` takes and raises what `train` raises before it starts.
    """
    from unift.estimate import check_budget

    spec = make_spec(provider=provider, model=model, data=data, **settings)
    asked = get_provider(spec.provider)
    _known_options(spec)
    _able(spec, asked)
    readable, mapped = _readable(spec, asked)
    try:
        resolved = asked.plan(readable)
    except DataError:
        # A provider may stop at the first bad row; whoever mends data wants all of them at once.
        _raise_all_findings(spec)
        raise
    resolved = resolved.model_copy(update={"settings": (*resolved.settings, *mapped)})
    check_budget(resolved.estimate, spec.budget)
    return resolved


def _known_options(spec: TrainSpec) -> None:
    """Options of another provider may stay when one word changes; of nobody they are a typo."""
    for name in spec.options:
        if name not in provider_names():
            raise UsageError(
                f"There is no provider '{name}', so nobody reads its options.",
                code="unknown_provider",
                where=f"options.{name}",
                fix=did_you_mean(name, provider_names()),
            )


def _able(spec: TrainSpec, asked: Provider) -> None:
    """What a provider cannot do fails here, and the error names who can."""
    if spec.method in asked.capabilities(spec.model).methods:
        return
    usable = [one.name for one in providers() if one.available]
    able = [one for one in usable if spec.method in get_provider(one).capabilities().methods]
    raise UsageError(
        f"'{spec.provider}' cannot train by method '{spec.method}'.",
        code="unsupported_method",
        where="method",
        fix=f"method='sft', or a provider that can: {', '.join(able) or 'none is installed'}",
    )


def _readable(spec: TrainSpec, asked: Provider) -> tuple[TrainSpec, list[Setting]]:
    """The spec with its files in a form that the provider reads, and what was done for that."""
    if spec.method != Method.SFT:
        return spec, []
    from unift._home import home
    from unift.data import chat_copy

    native = asked.capabilities(spec.model).formats
    files: dict[str, str] = {}
    mapped: list[Setting] = []
    for part, file in (("data", spec.data), ("validation", spec.validation)):
        copy = chat_copy(file, home() / "data", native) if file is not None else None
        if copy is not None:
            files[part] = copy.file
            mapped.append(
                Setting(
                    name=f"{part}_format",
                    value="openai-chat",
                    origin="mapping rule",
                    why=copy.why,
                )
            )
    return (spec.model_copy(update=files) if files else spec), mapped


def _raise_all_findings(spec: TrainSpec) -> None:
    from unift.data import validate
    from unift.data.formats import LOSSES

    if "://" in spec.data:  # only the provider can read it, and has said what it found
        return
    report = validate(
        spec.data,
        provider=spec.provider,
        model=spec.model,
        validation=spec.validation,
        drop=LOSSES,  # the provider, which converts, has said what would be lost
    )
    if not report.ok:
        error = report.error()
        error.fix += f"; unift validate {spec.data} --provider {spec.provider} shows every finding"
        raise error


def train(*, provider: str, model: str, data: str, **settings: Unpack[Settings]) -> Run:
    """Fine-tune a model. Returns at once with the run; the training goes on by itself.

    Args:
        provider: Who trains: ``local-lora``, ``local-qlora``, ... (see `unift.providers`).
        model: What to start from: ``demo``, a folder, a hub id, or a vendor's model id.
        data: The rows to learn, or ``demo:train``. Chat rows, or a format that becomes chat rows
            without a loss (`unift.data.formats`): then a copy is trained on, and the plan says so.
        settings: See `Settings`; what is left out is decided by the provider, and
            ``run.plan.settings`` says how and why.

    Raises:
        UsageError: An unknown name or an impossible value (exit status 2).
        DataError: The data has errors (3).
        LimitError: Over budget, or it does not fit (4).
        ProviderError: The provider refused (5).
    """
    return start(plan(provider=provider, model=model, data=data, **settings))


def start(resolved: Plan) -> Run:
    """Journal a plan and hand it to its provider; `plan` and `start` together are `train`."""
    store = Store()
    return Run(store.create(resolved), store).submit()
