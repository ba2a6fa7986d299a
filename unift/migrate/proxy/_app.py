"""The proxy as an ASGI application.

Everything is passed on. Of chat completions that the old model answers, request and answer are
recorded; some may also go to the new model (shadow), or to it instead (share).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx2

from unift.migrate.proxy import _forward
from unift.migrate.proxy._control import Control, place, user_key
from unift.migrate.proxy._forward import Answer, Headers, Upstream
from unift.migrate.proxy._log import Recorder
from unift.migrate.proxy._records import Exchange, Shadowed, prepare

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
_CHAT = "/chat/completions"
_SHADOWS_AT_ONCE = 16


@dataclass(frozen=True)
class Settings:
    """What the proxy was told.

    Attributes:
        upstream: The old model's address, with ``/v1``.
        folder: Of the migration: ``proxy.jsonl``, ``shadow.jsonl`` and ``traffic.json``.
        model: Only answers of this model are recorded and shared; None: of every model.
        new: The new model's address, ``URL#NAME``; None: there is none yet.
        new_key: Its key; the client's own never goes there.
        scrub: Take secrets and personal data out of what is recorded.
        body_mib: Larger requests are passed on as they come and not recorded.
        rollback_at: Share of failed answers that takes the traffic away from the new model.
    """

    upstream: str
    folder: Path
    model: str | None = None
    new: str | None = None
    new_key: str = "none"
    scrub: bool = False
    body_mib: float = 32.0
    rollback_at: float = 0.2


class Proxy:
    """Start and stop it with the ASGI lifespan."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.log = settings.folder / "proxy.jsonl"
        self.shadow_log = settings.folder / "shadow.jsonl"
        self.control = Control(settings.folder, settings.rollback_at)
        self.counts: Counter[str] = Counter()
        self._old = Upstream(settings.upstream)
        url, _, self._new_name = (settings.new or "").partition("#")
        self._new = Upstream(url, settings.new_key) if url else None
        self._cap = int(settings.body_mib * (1 << 20))
        self._shadows: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            path = str(scope["path"])
            if path == "/healthz":
                await _json(send, 200, self.health())
            elif path == "/unift/rollback" and scope["method"] == "POST":
                await self._rollback(scope, send)
            else:
                await self._pass(scope, path, receive, send)

    def health(self) -> dict[str, Any]:
        """What ``/healthz`` says."""
        traffic, recorder, counts = self.control.now(), self.recorder, self.counts
        return {
            "status": "ok",
            "requests": counts["requests"],
            "recording": {
                "on": not recorder.why,
                "why": recorder.why,
                "file": str(self.log),
                "written": recorder.written,
                "lost": recorder.lost,
                "too_large": counts["too large"],
                "not_chat": counts["not chat"],
            },
            "upstream_failures": counts["upstream failures"],
            "shadow": {
                "share": traffic.shadow,
                "asked": counts["shadow asked"],
                "failed": counts["shadow failed"],
                "dropped": counts["shadow dropped"],
            },
            "new_model": {
                "share": traffic.share,
                "answered": counts["new answered"],
                "fell_back": counts["fell back"],
            },
            "rolled_back": traffic.rolled_back,
        }

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self.recorder = Recorder(prepare(self.settings.scrub))
        self.recorder.check(self.log)
        self._client = _forward.client()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self._shadows:
            await asyncio.wait(self._shadows, timeout=30)
        await self._client.aclose()
        await asyncio.to_thread(self.recorder.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _rollback(self, scope: Scope, send: Send) -> None:
        """A web page in a browser on this machine must not be able to: it cannot send this."""
        headers = dict(scope["headers"])
        if b"x-unift-rollback" not in headers:
            error = {"message": "Send the header X-Unift-Rollback: REASON.", "code": "no_reason"}
            await _json(send, 400, {"error": error})
            return
        why = headers[b"x-unift-rollback"].decode("latin-1") or "asked for"
        traffic = await asyncio.to_thread(self.control.roll_back, why)
        await _json(send, 200, traffic.model_dump())

    # --- one request --------------------------------------------------------------------------

    async def _pass(self, scope: Scope, path: str, receive: Receive, send: Send) -> None:
        self.counts["requests"] += 1
        began = time.perf_counter()
        chat = scope["method"] == "POST" and path.endswith(_CHAT)
        body, rest = await _read(receive, self._cap)
        if body is None:
            return  # the client left before it had asked
        request = _request(body) if chat and rest is None else None
        if rest is not None:
            self.counts["too large"] += 1
        elif not chat and scope["method"] == "POST":
            self.counts["not chat"] += 1
        model = self.settings.model
        ours = request is not None and model in (None, request.get("model"))
        if ours and request is not None and self._new is not None:
            header = dict(scope["headers"]).get(b"x-unift-user", b"").decode("latin-1")
            user = place(user_key(request, header or None))
            if user < self.control.now().share and await self._by_new(
                scope, path, request, receive, send
            ):
                return
        state = (
            b"on"
            if not self.recorder.why
            else b"off; " + self.recorder.why.encode("latin-1", "replace")
        )
        extra = [(b"x-unift-recording", state)] if ours else []
        content = body if rest is None else _forward.pieces(body, rest)
        answer = Answer()
        try:
            await self._forward(
                self._old, scope, path, content, len(body) if rest is None else None,
                receive, send, extra, answer, keep=ours,
            )  # fmt: skip
        except httpx2.HTTPError as error:
            self.counts["upstream failures"] += 1
            if answer.status:
                raise  # the answer has begun; cutting it off is what the client has to see
            await _json(
                send, 504 if isinstance(error, httpx2.TimeoutException) else 502,
                _forward.problem(error, self.settings.upstream), extra,
            )  # fmt: skip
            return
        if ours and request is not None and answer.whole and answer.status == 200:
            answer.seconds = time.perf_counter() - began
            exchange = Exchange(request, answer, datetime.now(UTC))
            self.recorder.put(self.log, exchange)
            self._maybe_shadow(exchange)

    async def _by_new(
        self, scope: Scope, path: str, request: dict[str, Any], receive: Receive, send: Send
    ) -> bool:
        """Let the new model answer; False if it could not, and nothing was sent yet."""
        assert self._new is not None
        body = self._for_new(request)
        answer = Answer()
        extra = [(b"x-unift-answered-by", b"new")]
        try:
            await self._forward(
                self._new, scope, path, body, len(body), receive, send, extra, answer,
                keep=False, give_up_on_error=True,
            )  # fmt: skip
        except (httpx2.HTTPError, _Refused):
            self.control.outcome(False)
            if answer.status:
                raise
            self.counts["fell back"] += 1
            return False
        self.control.outcome(True)
        self.counts["new answered"] += 1
        return True

    def _for_new(self, request: dict[str, Any]) -> bytes:
        changed = {**request, "model": self._new_name} if self._new_name else request
        return json.dumps(changed, ensure_ascii=False).encode("utf-8", "surrogatepass")

    async def _forward(
        self,
        upstream: Upstream,
        scope: Scope,
        path: str,
        content: bytes | AsyncIterator[bytes],
        length: int | None,
        receive: Receive,
        send: Send,
        extra: Headers,
        answer: Answer,
        *,
        keep: bool,
        give_up_on_error: bool = False,
    ) -> None:
        headers = upstream.headers(scope["headers"], plain=keep)
        if length is not None and (length or scope["method"] in ("POST", "PUT", "PATCH")):
            headers.append((b"content-length", str(length).encode()))
        elif length is None:
            headers += [(k, v) for k, v in scope["headers"] if k == b"content-length"]
        call = self._client.build_request(
            scope["method"],
            upstream.target(path, scope["query_string"]),
            headers=headers,
            content=content if length is None or length else None,
        )
        work = self._answer(call, send, extra, answer, keep, give_up_on_error)
        if length is None:  # the rest of the request is being read: nobody else may listen
            await work
        elif not await _unless_left(receive, work):
            self.counts["clients left"] += 1

    async def _answer(
        self,
        call: httpx2.Request,
        send: Send,
        extra: Headers,
        answer: Answer,
        keep: bool,
        give_up_on_error: bool,
    ) -> None:
        response = await self._client.send(call, stream=True)
        try:
            if give_up_on_error and response.status_code >= 500:
                raise _Refused
            answer.status = response.status_code
            answer.kind = response.headers.get("content-type", "")
            headers = _forward.back(response, extra)
            start = {"type": "http.response.start", "status": answer.status, "headers": headers}
            await send(start)
            async for piece in response.aiter_raw():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                answer.size += len(piece)
                if keep and answer.size <= self._cap:
                    answer.body.append(piece)
            await send({"type": "http.response.body", "body": b""})
            answer.whole = keep and answer.size <= self._cap
        finally:
            await response.aclose()

    # --- shadow -------------------------------------------------------------------------------

    def _maybe_shadow(self, exchange: Exchange) -> None:
        if self._new is None:
            return
        share = self.control.now().shadow
        if not share or place(f"shadow {exchange.at.isoformat()} {id(exchange)}") >= share:
            return
        if len(self._shadows) >= _SHADOWS_AT_ONCE:
            self.counts["shadow dropped"] += 1
            return
        task = asyncio.create_task(self._shadow(exchange))
        self._shadows.add(task)
        task.add_done_callback(self._shadows.discard)

    async def _shadow(self, exchange: Exchange) -> None:
        assert self._new is not None
        asked = {k: v for k, v in exchange.request.items() if k not in ("stream", "stream_options")}
        began = time.perf_counter()
        answer: Any = None
        why = ""
        self.counts["shadow asked"] += 1
        try:
            response = await self._client.post(
                self._new.target(f"/v1{_CHAT}", b""),
                content=self._for_new(asked),
                headers=[
                    (b"content-type", b"application/json"),
                    (b"authorization", b"Bearer " + str(self._new.key).encode()),
                ],
            )
            if response.status_code == 200:
                answer = response.json()
            else:
                why = f"status {response.status_code}"
        except (httpx2.HTTPError, ValueError) as error:
            why = type(error).__name__
        if answer is None:
            self.counts["shadow failed"] += 1
        seconds = time.perf_counter() - began
        self.recorder.put(self.shadow_log, Shadowed(exchange, answer, why, seconds))


class _Refused(Exception):
    """The new model answered with a failure of its own."""


async def _read(receive: Receive, cap: int) -> tuple[bytes | None, AsyncIterator[bytes] | None]:
    """The whole body; or what was read of one that is too large, and the rest of it."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None, None
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        if not message.get("more_body"):
            return b"".join(parts), None
        if size > cap:
            return b"".join(parts), _rest(receive)


async def _rest(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        yield message.get("body", b"")
        if not message.get("more_body"):
            return


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _unless_left(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work; False if the client leaves first. It takes its request with it: nobody pays for
    an answer that nobody reads."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait((left, task), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
            return True
        return False
    finally:
        left.cancel()
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _request(body: bytes) -> dict[str, Any] | None:
    try:
        document: Any = json.loads(body)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return cast("dict[str, Any]", document)


async def _json(send: Send, status: int, document: Any, extra: Headers | None = None) -> None:
    body = json.dumps(document, ensure_ascii=False).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        *(extra or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
