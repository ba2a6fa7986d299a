"""The part of the server that hands requests on to vLLM and has it load adapters while it runs."""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from fastapi.responses import Response, StreamingResponse

from unift._home import home
from unift._vllm import Process, Wanted
from unift.errors import UniftError
from unift.serve._errors import ApiError
from unift.serve._requests import ChatBody, CompletionBody, TokenizeBody

if TYPE_CHECKING:
    from unift.serve._server import Settings

Spent = Callable[[int, int], None]  # tokens of the prompt, of the answer


@dataclass
class Starting:
    """What the application and whoever runs it tell each other while it starts."""

    failure: UniftError | None = None
    is_over: Callable[[], bool] = lambda: False  # somebody wants the server to end
    end: Callable[[], None] = lambda: None

    def fail(self, error: UniftError) -> None:
        """The server cannot be used: end it, and say why."""
        self.failure = error
        self.end()


class Vllm:
    """Starts, watches and stops the engine, and hands requests on to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        wanted = Wanted(
            python=settings.vllm_python,
            model=settings.folder,
            name=settings.base,
            instead="--engine local",
            later=settings.max_adapters,
            four_bit=settings.four_bit,
        )
        self._process = Process(wanted, home() / "logs" / "vllm.log")
        self._client = httpx2.AsyncClient(base_url=self._process.url, timeout=None)
        self._loaded: OrderedDict[str, None] = OrderedDict()  # model names, oldest first
        self._loading = asyncio.Lock()

    @property
    def alive(self) -> bool:
        return self._process.alive

    async def start(self, starting: Starting | None = None) -> None:
        """See `Process.start`; it also ends when `starting` is over."""
        over = (lambda: starting.is_over()) if starting is not None else (lambda: False)
        await asyncio.to_thread(self._process.start, over)

    async def stop(self) -> None:
        """Ask it to end, and see to it."""
        await self._client.aclose()
        await asyncio.to_thread(self._process.stop)

    async def forward(
        self,
        path: str,
        body: ChatBody | CompletionBody | TokenizeBody,
        adapter: str | None,
        spent: Spent = lambda prompt, answer: None,
    ) -> Response:
        """Hand a request on; the answer comes back as it is, streamed if it is a stream. `spent`
        hears how many tokens it took."""
        document = body.model_dump(exclude_none=True)
        stream = None if isinstance(body, TokenizeBody) or not body.stream else body
        if stream is not None:
            document["stream_options"] = {"include_usage": True}
        if adapter is not None:
            await self._load(document["model"], adapter)
        request = self._client.build_request("POST", path, json=document)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise ApiError(503, "The engine does not answer.", "engine_failed") from error
        kind = answer.headers.get("content-type", "application/json")
        if stream is not None and answer.status_code == 200:
            pieces = _passed_on(answer, stream.include_usage, spent)
            return StreamingResponse(pieces, media_type=kind)
        content = await answer.aread()
        await answer.aclose()
        if answer.status_code == 200:
            usage: dict[str, Any] = json.loads(content).get("usage") or {}
            spent(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
        return Response(content, answer.status_code, media_type=kind)

    async def _load(self, name: str, folder: str) -> None:
        async with self._loading:
            if name in self._loaded:
                self._loaded.move_to_end(name)
                return
            if len(self._loaded) >= self._settings.max_adapters:
                oldest, _ = self._loaded.popitem(last=False)
                await self._client.post("/v1/unload_lora_adapter", json={"lora_name": oldest})
            wanted = {"lora_name": name, "lora_path": folder}
            answer = await self._client.post("/v1/load_lora_adapter", json=wanted)
            if answer.status_code != 200:
                raise ApiError(500, f"vLLM refuses the adapter: {answer.text}", "engine_failed")
            self._loaded[name] = None


async def _passed_on(answer: httpx2.Response, usage: bool, spent: Spent) -> AsyncIterator[str]:
    """The events as they come; the one with the usage only for whoever asked for it."""
    prompt = completion = 0
    try:
        async for line in answer.aiter_lines():
            if not line.startswith("data: {"):
                if line:
                    yield f"{line}\n\n"
                continue
            event: dict[str, Any] = json.loads(line.removeprefix("data: "))
            counted: dict[str, int] = event.get("usage") or {}
            if counted:
                prompt, completion = counted["prompt_tokens"], counted["completion_tokens"]
            elif event.get("choices"):
                completion += 1  # in case the client leaves before the end
            if usage or not counted or event.get("choices"):
                yield f"{line}\n\n"
    finally:
        await answer.aclose()
        spent(prompt, completion)
