"""vLLM as a process in an environment of its own: its command, its start and its end.

It pins other versions of torch and transformers than ours, so it mostly lives in another
environment. `unift serve` and `unift evaluate` start it here. Flags and endpoints: vLLM
documentation, "Engine arguments", "LoRA adapters" and "OpenAI-compatible server".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from unift.errors import LimitError, RunError, UniftError, UsageError

INSTALL = "python -m venv vllm-env && vllm-env/bin/pip install vllm"
_START_SECONDS = 900.0  # large models load for minutes
_GRACE_SECONDS = 30.0
_TETHER = Path(__file__).with_name("_tether.py")
# vllm/config/lora.py, MaxLoRARanks
_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # ours -> as vLLM spells them
_NO_MEMORY = re.compile(
    r"out of memory|OutOfMemory|Free memory on device|No available memory for the cache"
    r"|KV cache is needed|stored in KV cache|not enough memory",
    re.IGNORECASE,
)
_PORT_TAKEN = re.compile(r"address already in use", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """What vLLM is to serve.

    Attributes:
        python: The python that has vllm.
        model: Folder or hub id of the base.
        name: Under which the base is served.
        instead: What does without vLLM, for errors: ``--engine local``.
        adapters: Name -> folder, loaded while it starts.
        later: How many more may be loaded at a time while it runs.
        rank: The highest rank of an adapter.
        four_bit: The base in 4 bits.
        dtype: As vLLM spells it.
        context: Tokens of the longest prompt with its answer; None: as many as the model takes.
        template: File with the chat template; None: the model's.
    """

    python: str
    model: str
    name: str
    instead: str
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])
    later: int = 0
    rank: int = 64
    four_bit: bool = False
    dtype: str = "auto"
    context: int | None = None
    template: str | None = None

    def command(self, port: int) -> list[str]:
        """What is run."""
        found = [
            self.python,
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", self.model),
            *("--served-model-name", self.name),
            *("--host", "127.0.0.1", "--port", str(port)),
            # As `unift.engine.read_calls`; without it requests with tools are refused.
            *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        ]
        many = len(self.adapters) + self.later
        if many:
            found += ["--enable-lora", "--max-lora-rank", str(allowed_rank(self.rank))]
            found += ["--max-loras", str(min(many, 8)), "--max-cpu-loras", str(many)]
        if self.adapters:
            # As JSON: a path may hold what NAME=PATH is split at.
            named = [{"name": name, "path": at} for name, at in self.adapters.items()]
            found += ["--lora-modules", *map(json.dumps, named)]
        # vLLM documentation, "BitsAndBytes": quantised while it is loaded, adapters on top.
        found += ["--quantization", "bitsandbytes"] if self.four_bit else []
        found += ["--dtype", self.dtype] if self.dtype != "auto" else []
        found += ["--max-model-len", str(self.context)] if self.context else []
        found += ["--chat-template", self.template] if self.template else []
        return found


class Process:
    """One vLLM: started, watched and stopped. It ends with this process, however that ends.

    Args:
        wanted: What it serves.
        log: The file that it writes to.
    """

    def __init__(self, wanted: Wanted, log: Path) -> None:
        self.wanted = wanted
        self._log = log
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if shutil.which(wanted.python) is None:
            raise self._failed("cannot be started: there is no such python")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def ends_within(self, seconds: float) -> bool:
        """Whether it is over by then: its last connection breaks a moment before it is."""
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(seconds)
        return not self.alive

    def start(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Start it and wait until it answers, or until nobody wants it any more.

        Raises:
            RunError: It cannot be started, or ends while it starts.
            LimitError: It ends for want of memory.
        """
        variables = dict(os.environ)
        if self.wanted.later:
            variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", str(_TETHER), *self.wanted.command(self._port)]
        try:
            with self._log.open("wb") as log:
                # In a session of its own: a Ctrl-C is ours to act on, and what is under way ends
                # first.
                self._process = subprocess.Popen(
                    command, env=variables, stdin=subprocess.PIPE, stdout=log, stderr=log,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            raise self._failed(f"cannot be started: {error.strerror}") from error
        try:
            self._wait(is_over)
        except BaseException:
            self.stop()
            raise

    def _wait(self, is_over: Callable[[], bool]) -> None:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until:
            if is_over():
                self.stop()
                return
            if not self.alive:
                raise self.ended("while it started")
            with suppress(httpx2.HTTPError):
                if httpx2.get(f"{self.url}/health", timeout=5.0).status_code == 200:
                    return
            time.sleep(0.2)
        raise self._failed(f"did not answer within {_START_SECONDS:.0f} seconds")

    def stop(self) -> None:
        """Ask it to end, and see to it."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_GRACE_SECONDS)
        except BaseException as error:  # also a second Ctrl-C: nothing is left behind
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if not isinstance(error, subprocess.TimeoutExpired):
                raise

    def ended(self, when: str) -> UniftError:
        """What to tell when it is not alive any more."""
        status = self._process.poll() if self._process else None
        text = self._log.read_text(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # The cause is the last exception; what follows it is how the others came down.
        causes = [line for line in lines if re.search(r"(Error|Exception)\b.*: |No module", line)]
        short = [line for line in lines if _NO_MEMORY.search(line)]
        told = {"code": "vllm_failed", "where": str(self._log)}
        if short:
            return LimitError(
                f"vLLM found too little memory {when}. It said: {short[-1][:300]}",
                **told | {"code": "out_of_memory"},
                fix=f"free the card (nvidia-smi shows who uses it); {self.wanted.instead} does "
                "without vLLM",
            )
        said = (causes or lines or ["nothing"])[-1]
        fix = f"see the log; does {self.wanted.python} have vllm (--vllm-python)? "
        if any(map(_PORT_TAKEN.search, lines)):
            fix = f"somebody took port {self._port} in the same moment: start again; "
        return RunError(
            f"vLLM ended with exit status {status} {when}. It said: {said[:300]}",
            **told,
            fix=f"{fix}{self.wanted.instead} does without",
        )

    def _failed(self, what: str) -> UsageError:
        return UsageError(
            f"vLLM {what}.",
            code="vllm_failed",
            where=" ".join(self.wanted.command(self._port)),
            fix="install vllm into an environment of its own and name its python with "
            f"--vllm-python, or use {self.wanted.instead}",
        )


def has_vllm(python: str) -> bool:
    """Whether a python has vllm; nothing of it is imported."""
    look = "import importlib.util as u, sys; sys.exit(u.find_spec('vllm') is None)"
    try:
        return subprocess.run([python, "-c", look], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def allowed_rank(rank: int) -> int:
    """The lowest rank that vLLM takes and that holds this one."""
    return next((one for one in _RANKS if one >= rank), rank)


def rank_of(adapter: str | Path) -> int:
    """The highest rank in an adapter's config, 16 where it has none."""
    config = _read(Path(adapter) / "adapter_config.json")
    others: dict[str, int] = config.get("rank_pattern") or {}
    return max([int(config.get("r") or 16), *map(int, others.values())])


def dtype_of(folder: str | Path) -> str:
    """The precision of training, from the card beside a model, as vLLM spells it."""
    dtype = str(_read(Path(folder) / "unift.json").get("dtype") or "auto")
    return _DTYPES.get(dtype, dtype)


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
