"""vLLM as a subprocess in an environment of its own, adapters loaded while it runs.

It pins other versions of torch and transformers than ours, so it never shares our environment.
Endpoints: vLLM documentation, "LoRA Adapters", "Dynamically serving LoRA Adapters".
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import httpx2
from fastapi.responses import Response, StreamingResponse
from pydantic import BaseModel

from unift.errors import UsageError
from unift.serve._errors import ApiError

if TYPE_CHECKING:
    from unift.serve._server import Settings

_START_SECONDS = 900.0  # large models load for minutes
_GRACE_SECONDS = 30.0


class Vllm:
    """Starts, watches and stops the engine, and hands requests on to it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._port = _free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which(settings.vllm_python) is None:
            raise self._failed("cannot be started: there is no such python")
        self._client = httpx2.AsyncClient(base_url=self._url, timeout=None)
        self._loaded: OrderedDict[str, None] = OrderedDict()  # model names, oldest first
        self._loading = asyncio.Lock()

    @property
    def command(self) -> list[str]:
        """What is run."""
        wanted = self._settings
        return [
            wanted.vllm_python,
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", wanted.folder),
            *("--served-model-name", wanted.base),
            *("--host", "127.0.0.1", "--port", str(self._port)),
            "--enable-lora",
            *("--max-loras", str(min(wanted.max_adapters, 8))),
            *("--max-cpu-loras", str(wanted.max_adapters)),
            *("--max-lora-rank", "64"),
            # vLLM documentation, "BitsAndBytes": quantised while it is loaded, adapters on top.
            *(("--quantization", "bitsandbytes") if wanted.four_bit else ()),
        ]

    async def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            UsageError: It cannot be started, or ends while it starts.
        """
        variables = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        try:
            self._process = subprocess.Popen(self.command, env=variables)
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        loop = asyncio.get_running_loop()
        until = loop.time() + _START_SECONDS
        while loop.time() < until:
            if self._process.poll() is not None:
                raise self._failed(f"ended with exit status {self._process.returncode}")
            try:
                if (await self._client.get("/health", timeout=5.0)).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.2)
        await self.stop()
        raise self._failed(f"did not answer within {_START_SECONDS:.0f} seconds")

    async def stop(self) -> None:
        """Ask it to end, and see to it."""
        await self._client.aclose()
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, _GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    async def forward(self, path: str, body: BaseModel, adapter: str | None) -> Response:
        """Hand a request on; the answer comes back as it is, streamed if it is a stream."""
        document = body.model_dump(exclude_none=True)
        if adapter is not None:
            await self._load(document["model"], adapter)
        request = self._client.build_request("POST", path, json=document)
        try:
            answer = await self._client.send(request, stream=True)
        except httpx2.HTTPError as error:
            raise ApiError(503, "The engine does not answer.", "engine_failed") from error
        kind = answer.headers.get("content-type", "application/json")
        if document.get("stream") and answer.status_code == 200:
            return StreamingResponse(_passed_on(answer), media_type=kind)
        content = await answer.aread()
        await answer.aclose()
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

    def _failed(self, what: str) -> UsageError:
        return UsageError(
            f"vLLM {what}.",
            code="vllm_failed",
            where=" ".join(self.command),
            fix="install vllm into an environment of its own and name its python with "
            "--vllm-python, or use --engine local",
        )


async def _passed_on(answer: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
