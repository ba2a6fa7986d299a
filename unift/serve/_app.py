"""The application: who may ask what, and which part answers."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import repeat
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unift.engine import open_engine
from unift.errors import UniftError
from unift.estimate import local_provider
from unift.provider import State
from unift.runs import Run, Store
from unift.serve import _errors
from unift.serve._answers import Answer
from unift.serve._batcher import Batcher
from unift.serve._conductor import Conductor, cards
from unift.serve._errors import ApiError
from unift.serve._keys import Gate, Key
from unift.serve._metrics import Metrics
from unift.serve._named import adapter_folders
from unift.serve._requests import ChatBody, CompletionBody, TokenizeBody
from unift.serve._shelf import Shelf
from unift.serve._training import router
from unift.serve._views import ORGANIZATION, model_name
from unift.serve._vllm import Starting, Vllm
from unift.serve._who import Anybody, Chatter, Operator

if TYPE_CHECKING:
    from unift.serve._server import Settings

_MIB = 1 << 20
_UPLOAD_MIB = 512  # the vendor's limit of a file
_BODY_MIB = 8
_T = TypeVar("_T")
# ft:BASE:unift:SUFFIX:RUN, and the name of a checkpoint of it
_TUNED = re.compile(r"ft:.+:unift:[^:]*:([^:]+?)(?::ckpt-step-(\d+))?")


async def _unless_left(work: Coroutine[Any, Any, _T], request: Request) -> _T:
    """What `work` gives; whoever hangs up before takes it along, and frees its place."""
    task = asyncio.ensure_future(work)
    # The body has been read, so the next that comes from the client is its going.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(499, "The client left.", "client_left")  # read by metrics alone
        return task.result()
    finally:
        task.cancel()
        gone.cancel()


def create_app(settings: Settings, starting: Starting | None = None) -> FastAPI:
    """The ASGI application. It trains and answers only while its lifespan runs.

    An engine that cannot start is told to `starting`, or raised by the lifespan without one.

    Raises:
        UsageError: The key file or the base model cannot be used.
    """
    base = settings.base
    shelf, store = Shelf(), Store()
    named = adapter_folders(settings.adapters, settings.folder)
    gate = Gate(settings.key_file)
    conductor = Conductor(shelf, store, settings.jobs, cards(settings.jobs))
    vllm = Vllm(settings) if settings.engine == "vllm" else None
    batcher = None
    if vllm is None:
        # Adapters that were trained on a base in 4 bits correct that one, and want it.
        trainer = local_provider("qlora" if settings.four_bit else "lora")
        batcher = Batcher(open_engine(trainer, settings.source, settings.max_adapters))

    def open_jobs() -> float:
        return float(len(shelf.open_jobs()))

    metrics = Metrics(lambda: float(batcher.waiting) if batcher else 0.0, open_jobs)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        if batcher:
            batcher.start()
        if vllm:
            try:
                await vllm.start(starting)
            except UniftError as error:
                if starting is None:
                    raise
                starting.fail(error)
                yield
                return
        conductor.start()
        yield
        conductor.stop()
        if batcher:
            batcher.drain()
        if vllm:
            await vllm.stop()

    app = FastAPI(title="unift serve", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.gate = gate
    app.add_middleware(_Caps, gate=gate)
    app.add_exception_handler(ApiError, _errors.on_api_error)
    app.add_exception_handler(UniftError, _errors.on_unift_error)
    app.add_exception_handler(RequestValidationError, _errors.on_bad_request)
    app.add_exception_handler(HTTPException, _errors.on_http_error)

    @app.middleware("http")
    async def count(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        answer = await call(request)
        route = request.scope.get("route")
        path = getattr(route, "path", "unknown")
        metrics.requests.labels(path, answer.status_code).inc()
        metrics.seconds.labels(path).observe(time.perf_counter() - began)
        return answer

    app.include_router(router(base, settings.source, shelf, store, conductor))

    # --- models -------------------------------------------------------------------------------

    def model_view(name: str, created: int) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": created, "owned_by": ORGANIZATION}

    def tuned(who: Key) -> list[dict[str, Any]]:
        return [
            model_view(model_name(base, job), job.created_at)
            for job in shelf.jobs()
            if who.may_see(job.owner) and store.get(job.run).state is State.SUCCEEDED
        ]

    def adapter_of(name: str, who: Key) -> str | None:
        """The folder of a tuned model's adapter, or of a checkpoint's; None for the base."""
        if name == base:
            return None
        if name in named:
            return named[name]
        match = _TUNED.fullmatch(name)
        job = shelf.job(f"ftjob-{match[1]}") if match else None
        if match is not None and job is not None and who.may_see(job.owner):
            row = store.get(job.run)
            if match[2] is None and row.artifact is not None:
                return row.artifact.reference
            for point in Run(row, store).checkpoints() if match[2] else ():
                if str(point.step) == match[2]:
                    return point.reference
        raise ApiError(404, f"The model '{name}' does not exist.", "model_not_found", "model")

    @app.get("/v1/models")
    def models(who: Anybody) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [*map(model_view, [base, *named], repeat(0)), *tuned(who)],
        }

    @app.get("/v1/models/{name:path}")
    def model(who: Anybody, name: str) -> dict[str, Any]:
        adapter_of(name, who)
        return model_view(name, 0)

    # --- answers ------------------------------------------------------------------------------

    async def answer(body: ChatBody | CompletionBody, request: Request, who: Key) -> Response:
        adapter = await to_thread.run_sync(adapter_of, body.model, who)
        if vllm is not None:
            gate.before(who, 1)

            def spent(prompt: int, completion: int) -> None:  # the engine counts the prompt, too
                note(prompt, completion)
                gate.after(who, prompt + completion - 1)

            return await vllm.forward(request.url.path, body, adapter, spent)
        assert batcher is not None
        made = Answer(batcher, body, adapter)
        await made.prepare()
        gate.before(who, made.prompt_tokens)
        if body.stream:
            return StreamingResponse(counted(made, who), media_type="text/event-stream")
        try:
            return JSONResponse(await _unless_left(made.whole(), request))
        finally:
            settle(made, who)

    async def counted(made: Answer, who: Key) -> AsyncGenerator[str]:
        try:
            async for event in made.stream():
                yield event
        finally:  # also of whoever hangs up
            settle(made, who)

    def settle(made: Answer, who: Key) -> None:
        note(made.prompt_tokens, made.completion_tokens)
        gate.after(who, made.completion_tokens)

    def note(prompt: int, completion: int) -> None:
        metrics.tokens.labels("prompt").inc(prompt)
        metrics.tokens.labels("completion").inc(completion)

    @app.post("/v1/chat/completions")
    async def chat(who: Chatter, body: ChatBody, request: Request) -> Response:
        return await answer(body, request, who)

    @app.post("/v1/completions")
    async def completions(who: Chatter, body: CompletionBody, request: Request) -> Response:
        return await answer(body, request, who)

    @app.post("/tokenize")
    async def tokenize(who: Chatter, body: TokenizeBody, request: Request) -> Response:
        """What the model will read of a conversation, as vLLM's endpoint of that name says it."""
        adapter = adapter_of(body.model, who)
        if vllm is not None:
            return await vllm.forward(request.url.path, body, adapter)
        assert batcher is not None
        prepared = batcher.engine.prepare(body.turn(adapter, batcher.engine.takes_tools))
        return JSONResponse({"count": len(prepared.tokens), "tokens": list(prepared.tokens)})

    # --- about the server ---------------------------------------------------------------------

    @app.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:
        well = vllm is None or vllm.alive
        response.status_code = 200 if well else 503
        status = "ok" if well else "the engine has ended"
        return {"status": status, "base": base, "engine": settings.engine}

    @app.get("/metrics")
    def shown(_: Operator) -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    del count, models, model, chat, completions, tokenize, healthz, shown  # registered, not called
    return app


class _TooLargeError(Exception):
    """The body passed its cap while it was read."""


class _Caps:
    """Refuses bodies of strangers before they are read, and bodies that are too large, by their
    declared length and by what really comes."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "POST":
            header = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
            try:
                self._gate.known(header)
            except ApiError as error:
                text = _errors.document(error.status, error.message, error.code, None)
                await JSONResponse(text, error.status)(scope, receive, send)
                return
        cap = (_UPLOAD_MIB + 1 if scope["path"] == "/v1/files" else _BODY_MIB) * _MIB
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        seen = 0
        over = False

        async def counted() -> Message:
            nonlocal seen, over
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > cap:
                over = True
                raise _TooLargeError
            return message

        async def unless_over(message: Message) -> None:
            if not over:  # whatever became of the exception on its way up
                await send(message)

        refusal = JSONResponse(
            _errors.document(413, f"The body is larger than {cap // _MIB} MiB.", "too_large", None),
            413,
        )
        if not declared.isdigit() or int(declared) > cap:
            await refusal(scope, receive, send)
            return
        with suppress(_TooLargeError):
            await self._app(scope, counted, unless_over)
        if over:
            await refusal(scope, receive, send)
