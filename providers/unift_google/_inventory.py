"""What the credentials can see in a project: jobs, tuned models, data; each failure named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from unift import catalog
from unift.errors import ProviderError
from unift.holdings import HeldFile, HeldJob, HeldModel, Holdings, Until
from unift.remote import clock
from unift_google import _storage
from unift_google._calls import listed, our_words, politely
from unift_google._events import figures
from unift_google._states import word_of
from unift_google._submit import jobs
from unift_google.families import LOCATIONS, entry
from unift_google.site import Site

_T = TypeVar("_T")
_SPECS = (
    ("supervised_tuning_spec", "sft"),
    ("preference_optimization_spec", "dpo"),
    ("reinforcement_tuning_spec", "rft"),
    ("distillation_spec", "distillation"),
)


def look(place: Site) -> Holdings:
    """Everything that can be listed, in every location where unift may have worked.

    Raises:
        ProviderError: Nothing can be listed.
    """
    unseen: list[str] = []
    failures: list[ProviderError] = []

    def attempt(what: str, call: Callable[[], _T]) -> _T | None:
        try:
            with our_words(what):
                return call()
        except ProviderError as error:
            if error.code in ("no_credentials", "bad_credentials", "api_key_cannot_tune"):
                raise
            failures.append(error)
            unseen.append(f"{what}: {error.message}")
            return None

    found: list[Any] = []
    models: dict[str, HeldModel] = {}
    files: dict[str, HeldFile] = {}
    lists = 0
    for where in dict.fromkeys((place.location, *LOCATIONS)):
        here = place.at(where)
        own = attempt(f"jobs in {where}", lambda here=here: jobs(here))
        kept = attempt(f"models in {where}", lambda here=here: list(_models(here)))
        sets = attempt(f"datasets in {where}", lambda here=here: list(_datasets(here)))
        lists += sum(one is not None for one in (own, kept, sets))
        found += own or []
        models |= {one.id: one for one in kept or []}
        files |= {one.id: one for one in sets or []}
    if not lists and failures:
        raise failures[0]
    held = tuple(_job(job) for job in found)
    for job in found:
        models |= {one.id: one for one in _tuned(job) if one.id not in models}
    files |= {one.id: one for one in _rows(place, held, attempt)}
    return Holdings(
        provider="google",
        account=f"project {place.project}",
        at=datetime.fromtimestamp(clock.now(), UTC),
        models=tuple(models.values()),
        jobs=held,
        files=tuple(files.values()),
        unseen=tuple(unseen),
        notes=(
            f"looked in {', '.join(dict.fromkeys((place.location, *LOCATIONS)))}; "
            "other locations: GOOGLE_CLOUD_LOCATION",
        ),
    )


def _job(job: Any) -> HeldJob:
    spec, method = next(
        ((one, name) for key, name in _SPECS if (one := getattr(job, key)) is not None),
        (None, "sft"),
    )
    hyper = getattr(spec, "hyper_parameters", None)
    tokens = figures(job).get("billable_tokens")
    return HeldJob(
        id=str(job.name),
        base=_base(job),
        word=word_of(job),
        method=method,
        created=job.create_time,
        finished=job.end_time,
        settings=hyper.model_dump(mode="json", exclude_none=True) if hyper else {},
        trained_tokens=None if tokens is None else int(tokens),
        model=(job.tuned_model.endpoint or job.tuned_model.model) if job.tuned_model else None,
        training_file=getattr(spec, "training_dataset_uri", None),
        validation_file=getattr(spec, "validation_dataset_uri", None),
        result_files=(str(job.output_uri),) if job.output_uri else (),
        error=str(job.error.message or "") if job.error else "",
        metadata=dict(job.labels or {}),
    )


def _base(job: Any) -> str:
    return str(job.base_model or (job.pre_tuned_model and job.pre_tuned_model.base_model) or "")


def _tuned(job: Any) -> Iterator[HeldModel]:
    base = _base(job)
    if job.tuned_model is None:
        return
    final = job.tuned_model.endpoint or job.tuned_model.model
    if final:
        yield HeldModel(
            id=final,
            base=base,
            job=str(job.name),
            created=job.end_time,
            until=_until(base),
            weights=bool(job.output_uri),
            note=f"weights in {job.output_uri}" if job.output_uri else "the weights stay at Google",
        )
    for point in job.tuned_model.checkpoints or []:
        if point.endpoint and point.endpoint != final:
            yield HeldModel(
                id=point.endpoint,
                base=base,
                kind="checkpoint",
                job=str(job.name),
                step=point.step,
                created=job.end_time,
                until=_until(base),
            )


def _models(place: Site) -> Iterator[HeldModel]:
    """Tuned models of the registry; they answer by the endpoint that they are deployed to."""
    for model in listed(place, f"{place.parent}/models", "models", pageSize="100"):
        source = (model.get("modelSourceInfo") or {}).get("sourceType", "")
        for deployed in model.get("deployedModels", ()):
            yield HeldModel(
                id=str(deployed["endpoint"]),
                base=str((model.get("labels") or {}).get("base_model", "")),
                kind="checkpoint" if deployed.get("checkpointId") else "final",
                created=_time(model.get("createTime")),
                listed=True,
                note=f"{model.get('displayName', '')} ({model['name']}) {source}".strip(),
            )


def _datasets(place: Site) -> Iterator[HeldFile]:
    for one in listed(place, f"{place.parent}/datasets", "datasets", pageSize="100"):
        yield HeldFile(
            id=str(one["name"]),
            name=str(one.get("displayName", "")),
            purpose="dataset",
            created=_time(one.get("createTime")),
            jobs=(),
            downloadable=False,
            note="a managed dataset: export it with the Cloud console",
        )


def _rows(
    place: Site, held: tuple[HeldJob, ...], attempt: Callable[[str, Callable[[], Any]], Any]
) -> Iterator[HeldFile]:
    """The objects in Cloud Storage that jobs were trained on."""
    users: dict[str, list[str]] = {}
    for job in held:
        for uri in (job.training_file, job.validation_file):
            if uri and uri.startswith("gs://"):
                users.setdefault(uri, []).append(job.id)
    for uri, names in users.items():
        blob = attempt(uri, lambda uri=uri: _blob(place, uri))
        yield HeldFile(
            id=uri,
            name=uri.rpartition("/")[2],
            purpose="training data",
            bytes=int(blob.size) if blob is not None else None,
            created=blob.time_created if blob is not None else None,
            jobs=tuple(names),
            downloadable=blob is not None,
            note="" if blob is not None else "it is not there any more, or not for you",
        )


def _blob(place: Site, uri: str) -> Any:
    bucket, name = _storage.split(uri)
    api = _storage.client(place.project)
    return politely(lambda: api.bucket(bucket).get_blob(name, retry=None))


def content(place: Site, file: HeldFile, start: int) -> Iterator[bytes]:
    """The bytes of an object from `start` on, a mebibyte at a time.

    Raises:
        ProviderError: It cannot be downloaded.
    """
    if not file.id.startswith("gs://"):
        raise ProviderError(
            f"'{file.name or file.id}' cannot be downloaded: {file.note}",
            code="not_downloadable",
            where=file.id,
            fix="export it to Cloud Storage, then name the gs:// object",
        )
    with our_words(file.id):
        blob = _blob(place, file.id)
        if blob is None:
            raise ProviderError("There is no such object.", code="file_not_found", where=file.id)
        while start < blob.size:
            piece = politely(
                lambda at=start: blob.download_as_bytes(
                    start=at,
                    end=min(at + (1 << 20), blob.size) - 1,
                    raw_download=True,
                    if_generation_match=blob.generation,
                    checksum=None,
                    retry=None,
                )
            )
            start += len(piece)
            yield piece


def _until(base: str) -> Until:
    known: catalog.VendorModel | None = entry(base)
    if known is None:
        return Until()
    return Until(
        answers=known.shutdown_date,
        new_jobs=known.new_jobs_until,
        source="catalogue" if known.shutdown_date or known.new_jobs_until else "nobody",
        as_of=known.as_of,
        link=known.source[0],
        replacement=known.replacement,
    )


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None
