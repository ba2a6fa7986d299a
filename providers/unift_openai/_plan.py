"""A spec -> the settings, the price and the body of one job at one host. Nothing is started."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift import catalog
from unift._text import did_you_mean
from unift.errors import DataError, UniftError, UsageError
from unift.provider import Origin, Plan, Setting
from unift.spec import Method, TrainSpec, typed_options
from unift_openai import _shutdown
from unift_openai.hosts import Site, site
from unift_openai.options import OpenAIOptions

_MIN_ROWS = 10  # OpenAI's guide "Supervised fine-tuning"
# OpenAI cookbook, "Data preparation and analysis for chat model fine-tuning": three epochs, more
# for less than 100 examples in all, fewer above 25,000.
_EPOCHS, _FEW, _MANY = 3, 100, 25_000
_FORMAT = {Method.SFT: "openai-chat", Method.DPO: "openai-preference"}
_KIND = {Method.SFT: "supervised", Method.DPO: "dpo", Method.RFT: "reinforcement"}
# Settings of a spec that a host may have under a name of its own (`Host.extra`).
_LORA = ("rank", "alpha", "dropout", "targets")
_HYPER = ("max_steps", "weight_decay", "warmup_ratio", "max_length", "packing")


@dataclass(frozen=True)
class _Counted:
    rows: int
    tokens: int | None
    how: str
    warnings: tuple[str, ...] = ()


def make_plan(spec: TrainSpec, name: str) -> Plan:
    """Resolve a spec for a host.

    Raises:
        UsageError: A setting, method or model that this host cannot honour.
        DataError: Rows that it would refuse.
        LimitError: The model ends too soon.
    """
    options = typed_options(OpenAIOptions, name, spec)
    place = site(name, options.base_url, options.metadata)
    _refuse(spec, place, options)
    _check_model(spec, place)
    paths = {"data": _found(spec.data)}
    if spec.validation is not None:
        paths["validation"] = _found(spec.validation)
    counted = _count(spec, name, paths)
    settings = _settings(spec, place, options, counted.rows)
    ends = _shutdown.deadlines(place, spec.model, options.look_up_shutdown)
    warnings = _shutdown.check(ends, spec, options.accept_shutdown)
    epochs = next(one.value for one in settings if one.name == "epochs")
    from unift.data import fingerprint

    return Plan(
        spec=spec,
        settings=tuple(settings),
        estimate=_price(spec, place, counted, epochs),
        fingerprints={part: fingerprint(path) for part, path in paths.items()},
        warnings=(*warnings, *counted.warnings),
        payload={
            "base_url": place.url,
            "metadata": place.host.keeps_metadata,
            "files": {part: str(path) for part, path in paths.items()},
            "sha256": {part: digest(path) for part, path in paths.items()},
            "body": _body(spec, place, options, settings),
            "accept_shutdown": options.accept_shutdown,
            "shutdown": ends.shutdown.isoformat() if ends.shutdown else None,
        },
    )


def content(path: Path) -> bytes:
    """The rows of a file as the host takes them: plain JSON lines."""
    raw = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(raw)
    if path.suffix == ".zst":
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(raw) as stream:
            return stream.read()
    return raw


def digest(path: Path) -> str:
    """sha256 of what will be uploaded."""
    return hashlib.sha256(content(path)).hexdigest()


def _found(name: str) -> Path:
    from unift.demo import resolve

    path = Path(resolve(name)).absolute()
    if not path.is_file():
        raise UsageError(
            "The data file does not exist.",
            code="file_not_found",
            where=str(name),
            fix="check the path",
        )
    return path


def _count(spec: TrainSpec, name: str, paths: dict[str, Path]) -> _Counted:
    from unift.data import count_rows, validate

    if spec.method == Method.RFT:
        return _Counted(count_rows(paths["data"]), None, "billed by the hour")
    report = validate(
        paths["data"],
        provider=name,
        model=spec.model,
        validation=paths.get("validation"),
        format=_FORMAT[spec.method],
    )
    report.raise_if_bad()
    if report.rows < _MIN_ROWS:
        raise DataError(
            f"There are {report.rows} rows, at least {_MIN_ROWS} are needed.",
            code="too_few_rows",
            where=spec.data,
            fix="add rows",
        )
    found = [one for one in report.findings if one.severity == "warning"][:1]
    warnings = tuple(
        f"data: {one.message} ({one.where}; {report.warnings} warnings in all, unift validate "
        "shows them)"
        for one in found
    )
    return _Counted(report.rows, report.tokens, report.tokens_method, warnings)


def _refuse(spec: TrainSpec, place: Site, options: OpenAIOptions) -> None:
    host = place.host
    if spec.method not in host.methods:
        raise UsageError(
            f"{host.name} cannot train by '{spec.method}' (it can: {', '.join(host.methods)}).",
            code="unsupported_method",
            where="method",
            fix="use one of these, or another provider: unift providers",
        )
    given = {key: getattr(spec.hyperparameters, key) for key in _HYPER}
    given |= {key: getattr(spec.lora, key) for key in _LORA}
    for key, value in given.items():
        if value is not None and key not in host.extra:
            raise UsageError(
                f"{host.name} has no setting '{key}'.",
                code="unsupported_setting",
                where=key,
                fix="leave it out, or train with local-lora, which has it",
            )
    absolute = host.learning_rate == "absolute"
    wrong = "learning_rate_multiplier" if absolute else "learning_rate"
    right = "learning_rate" if absolute else "learning_rate_multiplier"
    if getattr(spec.hyperparameters, wrong) is not None:
        raise UsageError(
            f"{host.name} takes no {wrong}.",
            code="unsupported_setting",
            where=wrong,
            fix=f"set {right}" + ("" if absolute else ": it multiplies a rate that is not public"),
        )
    if spec.method == Method.RFT and options.grader is None:
        raise UsageError(
            "Reinforcement needs a grader.",
            code="no_grader",
            where=f"options.{host.name}.grader",
            fix="give the vendor's grader object, e.g. {'type': 'string_check', ...}",
        )
    epochs = spec.hyperparameters.epochs
    if epochs is not None and (epochs != int(epochs) or not 1 <= epochs <= 50):
        raise UsageError(
            f"{host.name} trains for 1 to 50 whole epochs, not {epochs:g}.",
            code="bad_setting",
            where="epochs",
            fix=f"set epochs={min(50, max(1, round(epochs)))}",
        )


def _check_model(spec: TrainSpec, place: Site) -> None:
    known = _shutdown.entry(place, spec.model)
    if known and spec.model in known.aliases:
        raise UsageError(
            f"'{spec.model}' is an alias; only dated snapshots can be trained.",
            code="model_not_dated",
            where="model",
            fix=f"use {known.id}",
        )
    if not place.host.priced or (known and known.methods):
        return
    names = [one.id for one in catalog.models(place.host.name) if one.methods]
    if place.host.name == "openai" and not spec.model.startswith("ft:"):
        raise UsageError(
            f"OpenAI does not train '{spec.model}'.",
            code="model_not_trainable",
            where="model",
            fix=did_you_mean(spec.model, names),
        )


def _settings(spec: TrainSpec, place: Site, options: OpenAIOptions, rows: int) -> list[Setting]:
    wanted, found = spec.hyperparameters, list[Setting]()

    def take(
        name: str, given: Any, default: Any, why: str, origin: Origin = "provider default"
    ) -> None:
        chosen = given is not None
        found.append(
            Setting(
                name=name,
                value=given if chosen else default,
                origin="user" if chosen else origin,
                why="" if chosen else why,
            )
        )

    take(
        "epochs",
        None if wanted.epochs is None else int(wanted.epochs),
        _epochs(rows),
        f"three passes suit most data ({rows} rows); pinned so that the bill is known",
        "mapping rule",
    )
    take("batch_size", wanted.batch_size, "auto", "the vendor chooses by the size of the data")
    rate = (
        "learning_rate" if place.host.learning_rate == "absolute" else ("learning_rate_multiplier")
    )
    take(rate, getattr(wanted, rate), "auto", "the vendor chooses")
    if spec.method == Method.DPO:
        take("beta", options.beta, "auto", "the vendor chooses")
    take("seed", wanted.seed, 42, "so that the vendor repeats what it can")
    for name in place.host.extra:
        value = getattr(spec.lora, name, None)
        value = getattr(wanted, name, None) if value is None else value
        if value is not None:
            take(name, value, None, "")
    return found


def _epochs(rows: int) -> int:
    if rows * _EPOCHS < _FEW:
        return min(25, max(_EPOCHS, _FEW // max(rows, 1)))
    return max(1, _MANY // rows) if rows * _EPOCHS > _MANY else _EPOCHS


def _body(
    spec: TrainSpec, place: Site, options: OpenAIOptions, settings: list[Setting]
) -> dict[str, Any]:
    """The create call without what only `submit` knows: file ids and the token."""
    values = {one.name: one.value for one in settings}
    hyper: dict[str, Any] = {"n_epochs": values["epochs"]}
    for name, key in (
        ("batch_size", "batch_size"),
        ("learning_rate_multiplier", "learning_rate_multiplier"),
        ("learning_rate", "learning_rate_multiplier"),
        ("beta", "beta"),
    ):
        if values.get(name, "auto") != "auto":
            hyper[key] = values[name]
    extra = {key: values[name] for name, key in place.host.extra.items() if name in values}
    if any(key.startswith("lora_") for key in extra):
        extra["lora"] = True
    hyper.update(extra)
    hyper.update(options.hyperparameters)
    body: dict[str, Any] = {"model": spec.model, "seed": values["seed"]}
    suffix = options.suffix or spec.name
    if suffix:
        body["suffix"] = suffix
    if options.wandb_project:
        body["integrations"] = [{"type": "wandb", "wandb": {"project": options.wandb_project}}]
    if place.host.placement == "top":
        return {**body, "hyperparameters": hyper}
    kind = _KIND[spec.method]
    method: dict[str, Any] = {"hyperparameters": hyper}
    if spec.method == Method.RFT:
        method["grader"] = options.grader
    return {**body, "method": {"type": kind, kind: method}}


def _price(spec: TrainSpec, place: Site, counted: _Counted, epochs: int) -> dict[str, Any]:
    from unift.estimate import vendor_cost

    row: dict[str, Any] = {
        "provider": place.host.name,
        "model": spec.model,
        "tokens": counted.tokens,
        "price_usd": None,
        "assumptions": [f"{epochs} epochs", counted.how],
        "sources": [],
    }
    if not place.host.priced or counted.tokens is None:
        row["assumptions"].append("no price is known for this host")
        return row
    try:
        cost = vendor_cost(
            place.host.name,
            _shutdown.base_of(spec.model),
            tokens=counted.tokens,
            epochs=epochs,
            method=spec.method,
            rows=counted.rows,
        )
    except UniftError:
        cost = None
    if cost is not None:
        row["price_usd"] = cost.usd
        row["assumptions"] += cost.assumptions
        row["sources"] = list(cost.sources)
    return row
