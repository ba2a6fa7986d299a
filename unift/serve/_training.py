"""``/v1/files`` and ``/v1/fine_tuning/jobs``: real runs of the run store."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, File, Form, Query, Request, UploadFile
from fastapi.responses import FileResponse

from unift._train import plan as make_plan
from unift.errors import DataError, UniftError
from unift.estimate import local_provider
from unift.provider import State
from unift.runs import Store
from unift.serve._conductor import Conductor
from unift.serve._errors import ApiError
from unift.serve._keys import Key
from unift.serve._requests import JobBody
from unift.serve._shelf import Job, Shelf, StoredFile
from unift.serve._views import checkpoint_views, event_views, job_view
from unift.serve._who import Reader, Trainer

#: The vendor multiplies a rate that it does not publish; we multiply the local provider's own
#: default for adapters (2e-4, Dettmers et al. 2023). The same number means about the same boldness,
#: no more.
_RATE = 2e-4
_PURPOSES = ("fine-tune", "user_data", "batch", "assistants", "vision", "evals")
Limit = Annotated[int, Query(ge=1, le=10_000)]


def router(base: str, source: str, shelf: Shelf, store: Store, conductor: Conductor) -> APIRouter:
    """The endpoints. What a key may not see does not exist for it. `base` is the name of the model
    that is trained, `source` what the trainer loads."""
    routes = APIRouter(prefix="/v1")

    def known_file(file_id: str, who: Key) -> StoredFile:
        found = shelf.file(file_id)
        if found is None or not who.may_see(found.owner):
            raise ApiError(404, f"No such File object: {file_id}", "not_found", "id")
        return found

    def known_job(job_id: str, who: Key) -> Job:
        found = shelf.job(job_id)
        if found is None or not who.may_see(found.owner):
            raise ApiError(404, f"Could not find fine tune: {job_id}", "fine_tune_not_found", "id")
        return found

    def own(owner: str, who: Key) -> None:
        if not who.may_change(owner):
            raise ApiError(403, f"This belongs to '{owner}'; you may only see it.", "not_yours")

    def view(job: Job) -> dict[str, Any]:
        return job_view(job, base, store, shelf)

    @routes.post("/files")
    def upload(
        who: Trainer,
        file: Annotated[UploadFile, File()],
        purpose: Annotated[str, Form()],
    ) -> dict[str, Any]:
        if purpose not in _PURPOSES:
            raise ApiError(400, f"purpose is one of {', '.join(_PURPOSES)}.", None, "purpose")
        name = PurePosixPath((file.filename or "file").replace("\\", "/")).name or "file"
        return shelf.add_file(name, file.file, purpose, who.name).as_dict()

    @routes.get("/files")
    def files(
        who: Reader, purpose: str | None = None, after: str | None = None, limit: Limit = 10_000
    ) -> dict[str, Any]:
        seen = [one.as_dict() for one in shelf.files(purpose) if who.may_see(one.owner)]
        return page(seen, after, limit)

    @routes.get("/files/{file_id}")
    def file(who: Reader, file_id: str) -> dict[str, Any]:
        return known_file(file_id, who).as_dict()

    @routes.get("/files/{file_id}/content", response_class=FileResponse)
    def content(who: Reader, file_id: str) -> FileResponse:
        known_file(file_id, who)
        return FileResponse(shelf.path(file_id), media_type="application/octet-stream")

    @routes.delete("/files/{file_id}")
    def delete(who: Trainer, file_id: str) -> dict[str, Any]:
        own(known_file(file_id, who).owner, who)
        for job in shelf.open_jobs():
            used = file_id in (job.body["training_file"], job.body.get("validation_file"))
            if used and not store.get(job.run).state.finished:
                raise ApiError(409, f"{job.id} still needs the file.", "file_in_use", "id")
        shelf.delete_file(file_id)
        return {"id": file_id, "object": "file", "deleted": True}

    @routes.post("/fine_tuning/jobs")
    async def create(who: Trainer, body: JobBody) -> dict[str, Any]:
        if body.model != base:
            raise ApiError(
                400, f"This server trains '{base}' only.", "model_not_available", "model"
            )
        _check_method(body)
        known_file(body.training_file, who)
        if body.validation_file:
            known_file(body.validation_file, who)
        return await to_thread.run_sync(
            lambda: view(_create(body, source, who, shelf, store, conductor))
        )

    @routes.get("/fine_tuning/jobs")
    def jobs(
        who: Reader, request: Request, after: str | None = None, limit: Limit = 20
    ) -> dict[str, Any]:
        wanted: dict[str, str] = {}
        for key, value in request.query_params.items():
            if match := re.fullmatch(r"metadata\[(.+)\]", key):
                wanted[match[1]] = value
        bare = request.query_params.get("metadata") == "null"
        found = [
            job
            for job in shelf.jobs()
            if who.may_see(job.owner)
            and wanted.items() <= (job.body.get("metadata") or {}).items()
            and not (bare and job.body.get("metadata"))
        ]
        return page(
            [{"id": job.id} for job in found],
            after,
            limit,
            lambda one: view(known_job(one["id"], who)),
        )

    @routes.get("/fine_tuning/jobs/{job_id}")
    def job(who: Reader, job_id: str) -> dict[str, Any]:
        return view(known_job(job_id, who))

    @routes.get("/fine_tuning/jobs/{job_id}/events")
    def events(
        who: Reader, job_id: str, after: str | None = None, limit: Limit = 20
    ) -> dict[str, Any]:
        return page(event_views(known_job(job_id, who), store), after, limit)

    @routes.get("/fine_tuning/jobs/{job_id}/checkpoints")
    def checkpoints(
        who: Reader, job_id: str, after: str | None = None, limit: Limit = 10
    ) -> dict[str, Any]:
        return page(checkpoint_views(known_job(job_id, who), base, store), after, limit)

    def act(who: Key, job_id: str, wish: str) -> dict[str, Any]:
        found = known_job(job_id, who)
        own(found.owner, who)
        state = store.get(found.run).state
        paused = found.wish == "pause" or (state is State.PAUSED and found.wish != "resume")
        if state.finished or (wish == "resume" and not paused) or (wish == "pause" and paused):
            now = view(found)["status"]
            raise ApiError(400, f"The job is {now}; it cannot {wish}.", "invalid_state")
        if not shelf.wish(found.run, wish):
            raise ApiError(400, f"The job is being cancelled; it cannot {wish}.", "invalid_state")
        conductor.wake()
        return view(known_job(job_id, who))

    @routes.post("/fine_tuning/jobs/{job_id}/cancel")
    def cancel(who: Trainer, job_id: str) -> dict[str, Any]:
        return act(who, job_id, "cancel")

    @routes.post("/fine_tuning/jobs/{job_id}/pause")
    def pause(who: Trainer, job_id: str) -> dict[str, Any]:
        return act(who, job_id, "pause")

    @routes.post("/fine_tuning/jobs/{job_id}/resume")
    def resume(who: Trainer, job_id: str) -> dict[str, Any]:
        return act(who, job_id, "resume")

    del upload, files, file, content, delete, create, jobs, job  # registered, not called
    del events, checkpoints, cancel, pause, resume
    return routes


def page(
    items: list[dict[str, Any]],
    after: str | None,
    limit: int,
    shown: Callable[[dict[str, Any]], dict[str, Any]] = lambda one: one,
) -> dict[str, Any]:
    """A cursor page as the vendor's lists are."""
    start = 0
    if after is not None:
        ids = [item["id"] for item in items]
        if after not in ids:
            raise ApiError(400, f"No item '{after}'.", "bad_cursor", "after")
        start = ids.index(after) + 1
    data = [shown(item) for item in items[start : start + limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": start + limit < len(items),
    }


def _check_method(body: JobBody) -> None:
    """Refuse what nobody here can train, before a file is read."""
    kind = body.method.type if body.method else "supervised"
    if kind != "supervised":
        raise ApiError(
            400,
            f"This server trains by method 'supervised' alone, not by '{kind}'. Nothing was "
            "started. Rows with a preferred answer can be trained as supervised ones: unift "
            "convert FILE --to openai-chat",
            "unsupported_method",
            "method.type",
        )


def _create(
    body: JobBody, source: str, who: Key, shelf: Shelf, store: Store, conductor: Conductor
) -> Job:
    """Plan now, so that a bad file is refused at once; train when it is its turn."""

    def number(value: Any) -> Any:
        return None if value == "auto" else value

    multiplier = number(body.hyper.learning_rate_multiplier)
    try:
        planned = make_plan(
            provider=local_provider("lora"),
            model=source,
            data=str(shelf.path(body.training_file)),
            validation=str(shelf.path(body.validation_file)) if body.validation_file else None,
            name=body.suffix,
            epochs=number(body.hyper.n_epochs),
            batch_size=number(body.hyper.batch_size),
            learning_rate=None if multiplier is None else multiplier * _RATE,
            seed=body.seed,
        )
    except DataError as error:
        text = f"{error.where}: {error.message} {error.fix}"
        # The owner knows the file by the name it was uploaded under, not by its place here.
        for file_id in (body.training_file, body.validation_file):
            kept_as = shelf.file(file_id) if file_id else None
            if kept_as is not None:
                text = text.replace(str(shelf.path(kept_as.id)), kept_as.filename)
        raise ApiError(400, text, "invalid_training_file", "training_file") from error
    except UniftError as error:
        raise ApiError(400, f"{error.message} {error.fix}", error.code, error.where) from error
    kept = body.model_dump(exclude_none=True, include={"training_file", "validation_file"})
    kept |= {"suffix": body.suffix, "metadata": body.metadata}
    if multiplier is not None:
        kept["multiplier"] = multiplier
    job = shelf.add_job(store.create(planned).id, kept, who.name)
    conductor.wake()
    return job
