"""What the key can see at a host: each list read politely, each failure named and not fatal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, TypeVar

import openai

from unift import catalog
from unift.errors import UniftError, UsageError
from unift.holdings import HeldFile, HeldJob, HeldModel, Holdings, Until
from unift.remote import clock
from unift_openai._calls import client, politely, translate
from unift_openai._shutdown import base_of
from unift_openai._submit import pages
from unift_openai.hosts import Site

_T = TypeVar("_T")
_PAGE = 100
_AT_ONCE = 8
_METHODS = {"supervised": "sft", "dpo": "dpo", "reinforcement": "rft"}
# "Not allowed to download files of purpose: ..." is what the host says for these.
_KEPT_BACK = ("assistants", "user_data", "vision")
_OLD = "babbage-002", "davinci-002"


def look(place: Site) -> Holdings:
    """Everything that can be listed.

    Raises:
        ProviderError: Nothing can be listed.
    """
    return _Look(place).run()


@dataclass
class _Look:
    place: Site
    unseen: list[str] = field(default_factory=list[str])
    failures: list[UniftError] = field(default_factory=list[UniftError])

    def run(self) -> Holdings:
        api = client(self.place)
        jobs_api = api.fine_tuning.jobs
        jobs = self._try("jobs", lambda: list(pages(lambda: jobs_api.list(limit=_PAGE))))
        files = self._try("files", lambda: list(pages(lambda: api.files.list(limit=_PAGE))))
        models = self._try("models", lambda: list(politely(api.models.list).data))
        if jobs is None and files is None and models is None:
            raise self.failures[0]
        points = self._checkpoints([job for job in jobs or [] if job.fine_tuned_model])
        listed = {str(model.id): model for model in models} if models is not None else None
        held_jobs = tuple(_job(job) for job in jobs or [])
        return Holdings(
            provider=self.place.host.name,
            account=self._account(jobs or []),
            at=datetime.fromtimestamp(clock.now(), UTC),
            models=tuple(self._models(held_jobs, points, listed)),
            jobs=held_jobs,
            files=tuple(_files(held_jobs, files, points)),
            unseen=tuple(self.unseen),
            notes=tuple(self._notes(held_jobs)),
        )

    def _try(self, part: str, call: Callable[[], _T]) -> _T | None:
        try:
            return call()
        except (openai.OpenAIError, UniftError) as error:
            told = error if isinstance(error, UniftError) else translate(error, self.place, part)
            if told.code in ("no_key", "bad_key"):
                raise told from error
            self.failures.append(told)
            self.unseen.append(f"{part}: {told.message}")
            return None

    def _account(self, jobs: list[Any]) -> str:
        names = sorted({str(job.organization_id) for job in jobs if job.organization_id})
        return f"{self.place.url} ({', '.join(names)})" if names else self.place.url

    def _checkpoints(self, jobs: list[Any]) -> dict[str, list[Any]]:
        """Job -> its checkpoints. One call a job, eight at a time."""
        api = client(self.place).fine_tuning.jobs

        def of(job: Any) -> list[Any]:
            try:
                return list(pages(lambda: api.checkpoints.list(job.id, limit=_PAGE)))
            except openai.NotFoundError:
                return []  # not every host has them

        found: dict[str, list[Any]] = {}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for job, answer in zip(
                jobs, pool.map(lambda job: _outcome(of, job), jobs), strict=True
            ):
                if isinstance(answer, Exception):
                    self._try(f"checkpoints of {job.id}", lambda error=answer: _raise(error))
                else:
                    found[str(job.id)] = answer
        return found

    # --- models -------------------------------------------------------------------------------

    def _models(
        self,
        jobs: tuple[HeldJob, ...],
        points: Mapping[str, list[Any]],
        listed: Mapping[str, Any] | None,
    ) -> Iterator[HeldModel]:
        weights = self.place.host.weights
        seen: set[str] = set()
        for job in jobs:
            if not job.model:
                continue
            named: list[tuple[str, str, int | None, datetime | None]] = [
                (job.model, "final", None, job.finished)
            ]
            for point in points.get(job.id, []):
                model = str(point.fine_tuned_model_checkpoint or "")
                if model and not model.startswith("file"):
                    made = _time(point.created_at)
                    named.append((model, "checkpoint", int(point.step_number), made))
            for model, kind, step, made in named:
                if model in seen:
                    continue
                seen.add(model)
                yield HeldModel(
                    id=model,
                    base=job.base,
                    kind="final" if kind == "final" else "checkpoint",
                    job=job.id,
                    step=step,
                    created=made,
                    listed=None if listed is None else model in listed,
                    until=self._until(model, job.base, listed or {}),
                    weights=weights,
                    note="" if weights else "the weights cannot be downloaded",
                )
        for model, entry in (listed or {}).items():
            if model.startswith("ft:") and model not in seen:
                base = base_of(model)
                yield HeldModel(
                    id=model,
                    base=base,
                    kind="checkpoint" if ":ckpt-" in model else "final",
                    created=_time(getattr(entry, "created", None)),
                    listed=True,
                    until=self._until(model, base, listed or {}),
                    weights=weights,
                    note="its job is not among the jobs that this key can see",
                )

    def _until(self, model: str, base: str, listed: Mapping[str, Any]) -> Until:
        """What the host says now, of the model or else of its base; then the catalogue."""
        known = self._known(base)
        new_jobs = known.new_jobs_until if known else None
        replacement = known.replacement if known else None
        for name in (model, base):
            said = _day(getattr(listed.get(name), "shutdown_date", None))
            if said:
                return Until(
                    answers=said,
                    new_jobs=new_jobs,
                    source="models endpoint" + ("" if name == model else f" (of {base})"),
                    replacement=replacement,
                )
        if known is None or (known.shutdown_date is None and new_jobs is None):
            return Until()
        elsewhere = "" if self.place.own else f", if this address passes on to {known.provider}"
        return Until(
            answers=known.shutdown_date,
            new_jobs=new_jobs,
            source=f"catalogue{elsewhere}",
            as_of=known.as_of,
            link=known.source[0],
            replacement=replacement,
        )

    def _known(self, base: str) -> catalog.VendorModel | None:
        # A vendor's dated model id names that vendor's model behind a gateway too.
        try:
            return catalog.model(base, self.place.host.name)
        except UsageError:
            return None

    def _notes(self, jobs: tuple[HeldJob, ...]) -> Iterator[str]:
        name = self.place.host.name
        if not self.place.host.weights:
            yield (
                f"{name} gives no weights: what a model knows leaves only as recorded answers "
                "(unift migrate record) and as the data that it was trained on (unift migrate "
                "fetch)."
            )
        if name == "azure":
            yield "A fine-tuned model answers only through a deployment: name that as the model."
        if any(job.base.startswith(_OLD) for job in jobs):
            yield "babbage-002 and davinci-002 answer completions, not chat."
        running = [job.id for job in jobs if not job.model and job.finished is None]
        if running:
            yield f"Not finished yet: {', '.join(running[:10])}."


def _outcome(call: Callable[[Any], list[Any]], job: Any) -> list[Any] | Exception:
    try:
        return call(job)
    except (openai.OpenAIError, UniftError) as error:
        return error


def _raise(error: Exception) -> None:
    raise error


def _job(job: Any) -> HeldJob:
    method = getattr(job, "method", None)
    kind = str(getattr(method, "type", None) or "supervised")
    part = getattr(method, kind, None)
    asked = getattr(part, "hyperparameters", None) or job.hyperparameters
    settings = {key: value for key, value in _plain(asked).items() if value is not None}
    grader = getattr(part, "grader", None)
    if grader is not None:
        settings["grader"] = _plain(grader)
    settings["seed"] = job.seed
    suffix = getattr(job, "user_provided_suffix", None) or _suffix(job.fine_tuned_model)
    if suffix:
        settings["suffix"] = suffix
    error = job.error
    return HeldJob(
        id=str(job.id),
        base=str(job.model),
        word=str(job.status),
        method=_METHODS.get(kind, kind),
        created=_time(job.created_at),
        finished=_time(job.finished_at),
        settings=settings,
        trained_tokens=job.trained_tokens,
        model=job.fine_tuned_model or None,
        training_file=job.training_file or None,
        validation_file=job.validation_file or None,
        result_files=tuple(map(str, job.result_files or ())),
        error=f"{error.code}: {error.message}" if error and error.message else "",
        metadata={str(k): str(v) for k, v in (job.metadata or {}).items()},
    )


def _suffix(model: str | None) -> str:
    """``ft:BASE:ORG:SUFFIX:ID`` -> SUFFIX."""
    parts = (model or "").split(":")
    return parts[3] if len(parts) >= 5 and parts[0] == "ft" else ""


def _files(
    jobs: tuple[HeldJob, ...], files: list[Any] | None, points: Mapping[str, list[Any]]
) -> Iterator[HeldFile]:
    used: dict[str, list[str]] = {}
    purposes: dict[str, str] = {}
    for job in jobs:
        named = [(job.training_file, "fine-tune"), (job.validation_file, "fine-tune")]
        named += [(result, "fine-tune-results") for result in job.result_files]
        for point in points.get(job.id, []):
            ids = list(getattr(point, "result_files", None) or [])
            model = str(point.fine_tuned_model_checkpoint or "")
            named += [(str(one), "weights") for one in ids]
            named += [(model, "weights")] if model.startswith("file") else []
        for file, purpose in named:
            if file and job.id not in used.setdefault(file, []):
                used[file].append(job.id)
            if file:
                purposes.setdefault(file, purpose)
    for file in files or []:
        purpose = str(file.purpose or purposes.get(str(file.id), ""))
        kept_back = purpose in _KEPT_BACK
        yield HeldFile(
            id=str(file.id),
            name=str(file.filename or ""),
            purpose=purpose,
            bytes=file.bytes,
            created=_time(file.created_at),
            expires=_time(getattr(file, "expires_at", None)),
            status=str(file.status or ""),
            jobs=tuple(used.pop(str(file.id), ())),
            downloadable=not kept_back,
            note=f"the host gives no files of purpose {purpose} back" if kept_back else "",
        )
    for file, named_by in used.items():
        gone = files is not None
        yield HeldFile(
            id=file,
            purpose=purposes[file],
            status="deleted" if gone else "",
            jobs=tuple(named_by),
            downloadable=False if gone else None,
            note="deleted, or of another project; ask whoever uploaded it"
            if gone
            else "the list of files could not be read",
        )


def _plain(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    dumped: dict[str, Any] = value.model_dump(mode="json") if hasattr(value, "model_dump") else {}
    return dumped


def _time(stamp: Any) -> datetime | None:
    return datetime.fromtimestamp(float(stamp), UTC) if stamp else None


def _day(text: Any) -> date | None:
    try:
        return date.fromisoformat(str(text)[:10]) if text else None
    except ValueError:
        return None
