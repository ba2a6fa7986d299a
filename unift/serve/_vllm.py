"""vLLM as a subprocess in an environment of its own, adapters loaded while it runs.

It pins other versions of torch and transformers than ours, so it never shares our environment.
Endpoints: vLLM documentation, "LoRA Adapters", "Dynamically serving LoRA Adapters".
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx2
from fastapi.responses import Response, StreamingResponse

from unift._home import home
from unift.errors import RunError, UniftError, UsageError
from unift.serve._errors import ApiError
from unift.serve._requests import ChatBody, CompletionBody, TokenizeBody

if TYPE_CHECKING:
    from unift.serve._server import Settings

_START_SECONDS = 900.0  # large models load for minutes
_GRACE_SECONDS = 30.0


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
        self._port = _free_port()
        self._url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which(settings.vllm_python) is None:
            raise self._failed("cannot be started: there is no such python")
        self._client = httpx2.AsyncClient(base_url=self._url, timeout=None)
        self._loaded: OrderedDict[str, None] = OrderedDict()  # model names, oldest first
        self._loading = asyncio.Lock()
        self._log = home() / "logs" / "vllm.log"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

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

    async def start(self, starting: Starting | None = None) -> None:
        """Start it and wait until it answers, or until nobody wants it any more.

        Raises:
            RunError: It cannot be started, or ends while it starts.
        """
        variables = {**os.environ, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        self._log.parent.mkdir(exist_ok=True)
        try:
            with self._log.open("wb") as log:
                # In a session of its own: a Ctrl-C drains the server first, which then ends it.
                self._process = subprocess.Popen(
                    self.command, env=variables, stdout=log, stderr=log, start_new_session=True
                )
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        loop = asyncio.get_running_loop()
        until = loop.time() + _START_SECONDS
        while loop.time() < until:
            if starting is not None and starting.is_over():
                await self.stop()
                return
            if not self.alive:
                raise self._ended(self._process.returncode)
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

    def _ended(self, status: int | None) -> UniftError:
        text = self._log.read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # The cause is the last exception; what follows it is how the others came down.
        causes = [line for line in lines if re.search(r"(Error|Exception)\b.*: |No module", line)]
        said = (causes or lines or ["nothing"])[-1]
        return RunError(
            f"vLLM ended with exit status {status} while it started. It said: {said[:300]}",
            code="vllm_failed",
            where=str(self._log),
            fix=f"see the log; does {self._settings.vllm_python} have vllm (--vllm-python)? "
            "--engine local does without",
        )

    def _failed(self, what: str) -> UsageError:
        return UsageError(
            f"vLLM {what}.",
            code="vllm_failed",
            where=" ".join(self.command),
            fix="install vllm into an environment of its own and name its python with "
            "--vllm-python, or use --engine local",
        )


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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
