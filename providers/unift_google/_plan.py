"""A spec -> the settings, the price and the request of one job. Nothing is started."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from unift.errors import ProviderError, UniftError, UsageError
from unift.provider import Origin, Plan, Setting
from unift.spec import Method, TrainSpec, typed_options
from unift_google import _data, families
from unift_google import site as sites
from unift_google.families import Family
from unift_google.options import GoogleOptions
from unift_google.site import Site

# Settings that Google has no word for, in any family.
_UNKNOWN = ("max_steps", "weight_decay", "warmup_ratio", "max_length", "packing", "seed")
_UNKNOWN_LORA = ("alpha", "dropout", "targets")
# google/skills @1af7775, references/models.md: by rows, below which -> (epochs, rank).
_BY_ROWS = ((100, 2, 8), (1_000, 3, 16), (None, 3, 32))


def make_plan(spec: TrainSpec) -> Plan:
    """Resolve a spec for Google.

    Raises:
        ProviderError: There is only a key of AI Studio, where nothing can be tuned.
        UsageError: A setting, method, location or model that Google cannot honour.
        DataError: Rows that it would refuse, or a split that it does not take.
    """
    options = typed_options(GoogleOptions, "google", spec)
    sites.check_key()
    model = families.base_id(spec.model)
    family = families.family_of(model)
    _refuse(spec, model, family, options)
    place = sites.location(options.location, family)
    remote = any(name and name.startswith("gs://") for name in (spec.data, spec.validation))
    rows = _data.read(spec, family, options, sites.site(options, family) if remote else None)
    settings = _settings(spec, model, family, options, rows.count)
    epochs = next(one.value for one in settings if one.name == "epochs")
    where = Site(sites.project(options.project) or "", place, sites.bucket(options.bucket))
    from unift.data import fingerprint

    return Plan(
        spec=spec,
        settings=tuple([*settings, *_places(where, family, options)]),
        estimate=_price(spec, model, family, rows, epochs),
        fingerprints={name: fingerprint(part.local) for name, part in rows.parts.items()},
        warnings=(*_warnings(model, options), *rows.warnings),
        payload={
            "project": where.project,
            "location": place,
            "bucket": where.bucket,
            "model": model,
            "drop": list(options.drop),
            "parts": {name: asdict(part) for name, part in rows.parts.items()},
            "config": _config(spec, family, options, settings),
        },
    )


def _refuse(spec: TrainSpec, model: str, family: Family, options: GoogleOptions) -> None:
    known = families.entry(model)
    methods = known.methods if known and known.methods else family.methods
    methods = tuple(one for one in methods if one in family.methods)
    if spec.method not in methods:
        raise UsageError(
            f"Google cannot train {model} by '{spec.method}' with unift "
            f"(it can: {', '.join(methods)}).",
            code="unsupported_method",
            where="method",
            fix="use one of these, or another provider: unift providers",
        )
    given = {key: getattr(spec.hyperparameters, key) for key in _UNKNOWN}
    given |= {key: getattr(spec.lora, key) for key in _UNKNOWN_LORA}
    if not family.open:
        given["batch_size"] = spec.hyperparameters.batch_size
    for key, value in given.items():
        if value is not None:
            what = "for open models only" if key == "batch_size" else ""
            raise UsageError(
                f"Google has no setting '{key}' {what}".rstrip() + ".",
                code="unsupported_setting",
                where=key,
                fix="leave it out, or train with local-lora, which has it",
            )
    hyper = spec.hyperparameters
    if hyper.learning_rate is not None and hyper.learning_rate_multiplier is not None:
        raise UsageError(
            "A learning rate and a multiplier exclude each other.",
            code="unsupported_setting",
            where="learning_rate",
            fix=f"keep {family.rate}, which is what {family.name} takes",
        )
    wrong = "learning_rate_multiplier" if family.open else "learning_rate"
    if getattr(hyper, wrong) is not None:
        why = "" if family.open else ": it multiplies a rate that is not public"
        raise UsageError(
            f"{family.name} takes no {wrong}.",
            code="unsupported_setting",
            where=wrong,
            fix=f"set {family.rate}{why}",
        )
    if hyper.epochs is not None and (hyper.epochs != int(hyper.epochs) or hyper.epochs < 1):
        raise UsageError(
            f"Google trains for whole epochs, not {hyper.epochs:g}.",
            code="bad_setting",
            where="epochs",
            fix=f"set epochs={max(1, round(hyper.epochs))}",
        )
    _refuse_options(spec, family, options)


def _refuse_options(spec: TrainSpec, family: Family, options: GoogleOptions) -> None:
    only_open = {"mode": options.mode, "custom_base_model": options.custom_base_model}
    only_gemini = {"last_checkpoint_only": options.last_checkpoint_only or None}
    wrong = only_gemini if family.open else only_open
    if spec.method != Method.DPO:
        wrong = {**wrong, "beta": options.beta}
    for key, value in wrong.items():
        if value is not None:
            whom = "preference tuning" if key == "beta" else "other models than this"
            raise UsageError(
                f"The option '{key}' is for {whom}.",
                code="unsupported_setting",
                where=f"options.google.{key}",
                fix="leave it out",
            )


def _settings(
    spec: TrainSpec, model: str, family: Family, options: GoogleOptions, rows: int
) -> list[Setting]:
    wanted, found = spec.hyperparameters, list[Setting]()

    def take(
        name: str, given: Any, default: Any, why: str, origin: Origin = "provider default"
    ) -> None:
        mine = given is not None
        found.append(
            Setting(
                name=name,
                value=given if mine else default,
                origin="user" if mine else origin,
                why="" if mine else why,
            )
        )

    epochs, rank = next((e, r) for limit, e, r in _BY_ROWS if limit is None or rows < limit)
    take(
        "epochs",
        None if wanted.epochs is None else int(wanted.epochs),
        epochs,
        f"Google's advice for {rows} rows; pinned so that the bill is known",
        "mapping rule",
    )
    if not family.open:
        take(family.rate, wanted.learning_rate_multiplier, "auto", "the vendor chooses")
        found.append(_rank(spec.lora.rank, family, "auto", "the vendor chooses"))
        if spec.method == Method.DPO:
            take("beta", options.beta, "auto", "the vendor chooses")
        last = options.last_checkpoint_only
        take(
            "checkpoints",
            "the last one" if last else None,
            "each epoch",
            "each is an endpoint of its own, to compare; option last_checkpoint_only",
        )
        return found
    mode = families.open_mode(model, options.mode)
    why = "an adapter, where Google offers one" if mode == "peft" else "all that Google offers here"
    take("mode", options.mode, mode, why, "mapping rule")
    rate = families.open_rate(model, mode)
    take(family.rate, wanted.learning_rate, rate, "Google's advice for this model and mode")
    take("batch_size", wanted.batch_size, "auto", "the vendor chooses")
    if mode == "peft":
        found.append(_rank(spec.lora.rank, family, rank, f"Google's advice for {rows} rows"))
    elif spec.lora.rank is not None:
        raise UsageError(
            f"'{model}' is trained in all its weights, which have no rank.",
            code="unsupported_setting",
            where="rank",
            fix="leave it out" + ("" if options.mode is None else ", or --option google.mode=peft"),
        )
    if options.custom_base_model:
        take("custom_base_model", options.custom_base_model, None, "")
    return found


def _rank(wanted: int | None, family: Family, default: Any, why: str) -> Setting:
    if wanted is None:
        return Setting(name="rank", value=default, origin="provider default", why=why)
    size = families.nearest_rank(wanted, family.adapters)
    if size == wanted:
        return Setting(name="rank", value=size, origin="user")
    offered = ", ".join(map(str, family.adapters))
    return Setting(
        name="rank",
        value=size,
        origin="mapping rule",
        why=f"rank {wanted} is not offered; the nearest adapter size of {offered}",
    )


def _places(place: Site, family: Family, options: GoogleOptions) -> list[Setting]:
    asked = options.location is not None
    why = "GOOGLE_CLOUD_LOCATION, or what suits the model"
    if family.locations:
        why += f" ({family.name}: {', '.join(family.locations)})"
    found = [
        Setting(
            name="location",
            value=place.location,
            origin="user" if asked else "mapping rule",
            why="" if asked else why,
        )
    ]
    for job, answers in family.serves:
        if job == place.location:
            text = f"{family.name} tuned in {job} answers in '{answers}' only"
            found.append(
                Setting(name="serving_location", value=answers, origin="mapping rule", why=text)
            )
    output = f"{place.bucket or 'gs://(no bucket yet)'}/runs/RUN" if family.open else None
    if output:
        text = "the weights go into your bucket, one folder a run"
        found.append(Setting(name="output_uri", value=output, origin="mapping rule", why=text))
    found.append(
        Setting(
            name="idle_cost",
            value="hourly" if family.open else "none",
            origin="model",
            why=family.idle,
        )
    )
    return found


def _warnings(model: str, options: GoogleOptions) -> list[str]:
    told = [f"not set up yet: {what} ({fix})" for what, fix in sites.missing(options)]
    if families.entry(model) is None:
        told.append(f"the catalogue does not know {model}: no price, no limits")
    return told


def _config(
    spec: TrainSpec, family: Family, options: GoogleOptions, settings: list[Setting]
) -> dict[str, Any]:
    """What the SDK's `CreateTuningJobConfig` takes, without what only `submit` knows."""
    values = {one.name: one.value for one in settings}
    config: dict[str, Any] = {
        "method": "PREFERENCE_TUNING" if spec.method == Method.DPO else "SUPERVISED_FINE_TUNING",
        "epoch_count": values["epochs"],
    }
    for name in ("learning_rate", "learning_rate_multiplier", "batch_size", "beta"):
        if values.get(name, "auto") != "auto":
            config[name] = values[name]
    if values.get("rank", "auto") != "auto":
        config["adapter_size"] = families.ADAPTER_NAMES[values["rank"]]
    if family.open:
        full = values["mode"] == "full"
        config["tuning_mode"] = "TUNING_MODE_FULL" if full else "TUNING_MODE_PEFT_ADAPTER"
        if options.custom_base_model:
            config["custom_base_model"] = options.custom_base_model
    elif options.last_checkpoint_only:
        config["export_last_checkpoint_only"] = True
    if spec.name:
        config["tuned_model_display_name"] = spec.name
    return config


def _price(
    spec: TrainSpec, model: str, family: Family, rows: _data.Rows, epochs: int
) -> dict[str, Any]:
    from unift.estimate import vendor_cost

    row: dict[str, Any] = {
        "provider": "google",
        "model": model,
        "tokens": rows.tokens,
        "price_usd": None,
        "assumptions": [f"{epochs} epochs", rows.tokens_how, family.idle],
        "sources": [],
    }
    known = families.entry(model)
    cost = None
    if rows.tokens is not None and known is not None:
        try:
            cost = vendor_cost(
                "google",
                known.id,
                tokens=rows.tokens,
                epochs=epochs,
                method=spec.method,
                rows=rows.count,
            )
        except UniftError:
            cost = None
    if cost is None:
        row["assumptions"].append("no price is known for this model")
        return row
    row["price_usd"] = cost.usd
    row["assumptions"] += cost.assumptions
    row["sources"] = list(cost.sources)
    return row


def place_of(payload: dict[str, Any]) -> Site:
    """Where a planned job goes.

    Raises:
        ProviderError: Something is not set up; the first missing thing and how to set it.
    """
    sites.check_key()
    options = GoogleOptions(project=payload["project"] or None, bucket=payload["bucket"])
    for what, fix in sites.missing(options):
        raise ProviderError(
            f"Google needs {what}, and none is set.",
            code=f"no_{what.split()[-1]}",
            where="environment",
            fix=f"{fix}; unift doctor shows what is set",
        )
    named = sites.project(options.project) or ""
    return Site(named, payload["location"], sites.bucket(options.bucket))
