"""Step 4: where to, with which settings, on which rows, at what cost and until when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from unift import catalog
from unift.errors import DataError, UniftError, UsageError
from unift.estimate import local_provider, local_providers
from unift.migrate._candidates import Candidate, Needs, candidates, usual_size
from unift.migrate._files import items, part
from unift.migrate._hold_out import HeldOut
from unift.migrate._settings import Mapped, map_settings, training_of
from unift.migrate._spec import MigrationSpec
from unift.migrate._trials import Trial, trials
from unift.provider import Setting, claimant

# Vendors whose fine-tunes are named ``ft:BASE:...``.
_FT = "ft:"


@dataclass(frozen=True)
class OldModel:
    """What is known of the model that is left.

    `ends` is the day on which it stops answering, `last_job` the last day for new jobs; `settings`
    has ``hyperparameters``, ``seed``, ``suffix`` and ``method`` in the vendor's words.
    """

    reference: str
    vendor: str
    id: str
    base: str
    ends: str | None = None
    ends_source: str = ""
    last_job: str | None = None
    replacement: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trained_tokens: int | None = None
    job: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class MigrationPlan:
    """The outcome of the plan.

    Attributes:
        provider: Who trains.
        model: The new base.
        old: The model that is left.
        needs: What the data asks of a base.
        candidates: Every way out, the best first.
        mapping: Each old setting, its successor, the rule and how sure it is.
        training: Settings of the training; what is missing is the provider's default.
        trials: The trainings of the sweep; one without a sweep.
        data: The three files.
        estimate: Memory, time and money of one training.
        resolved: Every setting of the provider's own plan, with its origin.
        warnings: What a reader should know before anything is paid.
        answers_per_month: The traffic that prices were made for.
    """

    provider: str
    model: str
    old: OldModel
    needs: Needs
    candidates: tuple[Candidate, ...]
    mapping: tuple[Mapped, ...]
    training: Mapping[str, Any]
    trials: tuple[Trial, ...]
    data: HeldOut
    estimate: Mapping[str, Any]
    resolved: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    break_even: Mapping[str, Any] | None = None
    answers_per_month: int | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.provider,
            "model": self.model,
            "old": self.old.as_dict(),
            "needs": asdict(self.needs),
            "candidates": [one.as_dict() for one in self.candidates],
            "mapping": [one.as_dict() for one in self.mapping],
            "training": dict(self.training),
            "trials": [one.as_dict() for one in self.trials],
            "data": self.data.as_dict(),
            "estimate": dict(self.estimate),
            "resolved": [dict(one) for one in self.resolved],
            "break_even": None if self.break_even is None else dict(self.break_even),
            "warnings": list(self.warnings),
            "answers_per_month": self.answers_per_month,
        }


def make_plan(spec: MigrationSpec, old: OldModel, held: HeldOut) -> MigrationPlan:
    """Resolve everything that can be known before anything is paid.

    Raises:
        UsageError: An unknown provider or base, or a setting that the provider refuses.
        DataError: The training rows have errors for the provider.
        LimitError: The sweep is over its budget.
    """
    today = datetime.now(UTC).date()
    needs = _needs(spec, old, held)
    epochs = float(spec.training.epochs or _epochs(old) or 3.0)
    found = candidates(
        needs,
        spec.target,
        epochs=epochs,
        old_base=old.base,
        old_vendor=old.vendor,
        old_ends=date.fromisoformat(old.ends) if old.ends else None,
        today=today,
    )
    provider, model = _destination(spec, found)
    mapping = map_settings(
        {**old.settings, "model": old.base},
        spec.training.model_dump(exclude_none=True, exclude={"options"}),
        provider=provider,
        base=model,
    )
    training = training_of(mapping)
    if spec.training.options:
        training["options"] = {key: dict(value) for key, value in spec.training.options.items()}
    resolved = _resolve(spec, provider, model, held, training)
    planned = trials(spec, provider, model, training, resolved.estimate)
    warnings = [*held.notes, *resolved.warnings, *_warnings(found, provider, model, old, today)]
    return MigrationPlan(
        provider=provider,
        model=model,
        old=old,
        needs=needs,
        candidates=tuple(found),
        mapping=tuple(mapping),
        training=training,
        trials=tuple(planned),
        data=held,
        estimate=resolved.estimate,
        resolved=tuple(one.model_dump(mode="json") for one in resolved.settings),
        warnings=tuple(dict.fromkeys(warnings)),
        break_even=_break_even(spec, old, needs, model),
        answers_per_month=spec.target.answers_per_month,
    )


def old_model(reference: str, inventory: Mapping[str, Any] | None, job: str | None) -> OldModel:
    """What the inventory and the catalogue know of a model, by its reference."""
    vendor, _, name = reference.partition(":")
    if reference.startswith(("http://", "https://")):
        vendor, name = claimant("http").name, reference.partition("#")[2] or reference
    base = name.split(":")[1] if name.startswith(_FT) and ":" in name[3:] else name
    ends, last, said, replacement = _dates(base, vendor)
    settings: dict[str, Any] = {}
    tokens = None
    for one in items(inventory, "jobs"):
        if (job and one.get("id") == job) or (not job and one.get("model") == name):
            given = part(one, "settings")
            settings = {
                "hyperparameters": part(given, "hyperparameters") or given,
                "seed": given.get("seed"),
                "suffix": given.get("suffix"),
                "method": one.get("method", "sft"),
            }
            base, tokens, job = one.get("base") or base, one.get("trained_tokens"), one["id"]
            break
    for one in items(inventory, "models"):
        until = part(one, "until")
        if one.get("id") == name and until.get("source") != "nobody":
            ends, said = until.get("answers") or ends, until.get("source") or said
            last = until.get("new_jobs") or last
            replacement = until.get("replacement") or replacement
    return OldModel(
        reference=reference,
        vendor=vendor,
        id=name,
        base=base,
        ends=ends,
        ends_source=said,
        last_job=last,
        replacement=replacement,
        settings=settings,
        trained_tokens=tokens,
        job=job,
    )


def _dates(base: str, vendor: str) -> tuple[str | None, str | None, str, str | None]:
    try:
        known = catalog.model(base, vendor)
    except UsageError:
        return None, None, "", None
    ends, last = known.shutdown_date, known.new_jobs_until
    return (
        ends.isoformat() if ends else None,
        last.isoformat() if last else None,
        f"catalogue ({known.source[0]}, {known.as_of})" if ends or last else "",
        known.replacement,
    )


def _needs(spec: MigrationSpec, old: OldModel, held: HeldOut) -> Needs:
    from unift.data import read_examples, validate

    report = validate(held.train)
    if not report.rows or not report.tokens:
        raise DataError(
            "The training file has no row that could be counted.",
            code="no_rows",
            where=held.train,
            fix=f"unift validate {held.train}",
            findings=report.findings,
        )
    return Needs(
        rows=report.rows,
        tokens=float(report.tokens),
        longest=report.longest_row[0] if report.longest_row else 0,
        tools=any(example.tools for example in read_examples(held.train)),
        languages=spec.target.languages,
        licences=spec.target.licence,
        max_params_b=spec.target.max_params_b,
        usual_b=usual_size(old.base),
    )


def _epochs(old: OldModel) -> float | None:
    value = part(old.settings, "hyperparameters").get("n_epochs")
    return float(value) if isinstance(value, int | float) else None


def _destination(spec: MigrationSpec, found: list[Candidate]) -> tuple[str, str]:
    best = next((one for one in found if one.recommended), None)
    provider, model = spec.target.provider, spec.target.model
    if (provider is None or model is None) and best is None:
        raise UsageError(
            "No base will do: every one has something against it.",
            code="no_candidate",
            where="target",
            fix="loosen target.licence, target.languages or target.max_params_b, or name "
            "target.model and target.provider",
        )
    if model is None and best is not None:
        model = best.base
    if provider is None:
        same = [one for one in found if one.base == model and not one.against]
        provider = same[0].provider if same else (best.provider if best else local_provider("lora"))
    assert model is not None
    return provider, model


@dataclass(frozen=True)
class _Resolved:
    estimate: Mapping[str, Any]
    settings: tuple[Setting, ...] = ()
    warnings: tuple[str, ...] = ()


def _resolve(
    spec: MigrationSpec, provider: str, model: str, held: HeldOut, training: Mapping[str, Any]
) -> _Resolved:
    """The provider's own plan. A hub model that is not on this machine is only estimated: planning
    it would download its weights, and nobody has decided for it yet."""
    import unift
    from unift.estimate._resolve import cached_config

    name = model.removeprefix("hf:")
    here = name == "demo" or Path(name.removeprefix("path:")).expanduser().is_dir()
    if provider in local_providers() and not here and cached_config(name) is None:
        known = ("epochs", "batch_size", "rank", "max_length")
        table = unift.estimate(
            model=model,
            data=held.train,
            providers=[provider],
            gpu=spec.target.gpu,
            usd_per_hour=spec.target.usd_per_hour,
            **{key: training[key] for key in known if training.get(key) is not None},
        )
        note = f"{model} is not on this machine: its other settings are chosen when it is trained"
        return _Resolved(table.rows[0].as_dict(), warnings=(note,))
    plan = unift.plan(
        provider=provider,
        model=model,
        data=held.train,
        validation=held.validation,
        **training,
    )
    return _Resolved(plan.estimate, plan.settings, plan.warnings)


def _break_even(
    spec: MigrationSpec, old: OldModel, needs: Needs, model: str
) -> Mapping[str, Any] | None:
    """At which traffic a card of one's own costs the same as paying the old vendor per answer."""
    from unift.estimate import estimate

    try:
        table = estimate(
            model=old.base,
            tokens=needs.tokens,
            rows=needs.rows,
            providers=[old.vendor],
            traffic=spec.target.answers_per_month,
        )
        card = estimate(
            model=model,
            tokens=needs.tokens,
            rows=needs.rows,
            max_length=needs.longest,
            providers=[local_provider("lora"), local_provider("qlora")],
            gpu=spec.target.gpu or "rtx4090-24gb",
            usd_per_hour=spec.target.usd_per_hour,
            traffic=spec.target.answers_per_month,
        )
    except UniftError:
        return None
    rows = [row for row in table.rows if row.model == old.base]
    if not rows:  # the vendor has no price for it: nothing to break even with
        return None
    from unift.estimate._break_even import break_even, make_traffic
    from unift.estimate._resolve import count

    work = count(None, None, needs.tokens, needs.rows, model=model)
    return break_even([*rows, *card.rows], make_traffic(spec.target.answers_per_month), work)


def _warnings(
    found: list[Candidate], provider: str, model: str, old: OldModel, today: date
) -> list[str]:
    said: list[str] = []
    for one in found:
        if (one.base, one.provider) == (model, provider):
            said += [f"{model}: {reason}" for reason in one.against]
            if one.licence_conditions:
                said.append(
                    f"{model} comes with conditions ({one.licence}): {one.licence_conditions}"
                )
            break
    if old.ends:
        days = (date.fromisoformat(old.ends) - today).days
        if days < 0:
            said.append(f"the old model stopped on {old.ends}; only recorded answers remain")
        elif days < 60:
            said.append(f"the old model stops on {old.ends}, in {days} days ({old.ends_source})")
    return said
