"""One real server for the module: `unift serve` as users start it, on the embedded model."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from unift.demo import resolve


@dataclass
class Server:
    """A running server, and a key that may read, train and chat."""

    url: str
    key: str
    operator: str
    home: Path
    keys: Path
    process: subprocess.Popen[bytes]

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    def client(self, key: str | None = None) -> httpx2.Client:
        key = self.key if key is None else key
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx2.Client(base_url=self.root, headers=headers, timeout=120)

    def add_key(self, name: str, *flags: str) -> str:
        return (
            unift("--add-key", name, "--key-file", str(self.keys), *flags).stdout.decode().strip()
        )

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def unift(*flags: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "unift", "serve", *flags]
    return subprocess.run(command, check=check, capture_output=True, timeout=60)


def launch(folder: Path, *flags: str, with_keys: bool = True, patience: float = 120) -> Server:
    folder.mkdir(exist_ok=True)
    keys = folder / "keys.json"
    key = operator = ""
    if with_keys and not keys.exists():
        key = unift("--add-key", "all", "--key-file", str(keys)).stdout.decode().strip()
        wanted = ("--add-key", "operator", "--key-file", str(keys), "--scope", "admin")
        operator = unift(*wanted).stdout.decode().strip()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    gate = ["--key-file", str(keys)] if with_keys else ["--insecure-loopback"]
    command = [sys.executable, "-m", "unift", "serve", "--port", str(port), *gate, *flags]
    variables = {**os.environ, "UNIFT_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=variables)
    server = Server(f"http://127.0.0.1:{port}/v1", key, operator, folder / "home", keys, process)
    until = time.monotonic() + patience
    while True:
        try:
            httpx2.get(f"{server.root}/healthz").raise_for_status()
            return server
        except httpx2.HTTPError:
            assert process.poll() is None, "the server ended while it started"
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = launch(tmp_path_factory.mktemp("serve"))
    yield running
    if running.process.poll() is None:
        assert running.stop() == 0


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty rows of the demo's task: seconds of training."""
    path = tmp_path_factory.mktemp("data") / "small.jsonl"
    lines = resolve("demo:train").read_text().splitlines(True)
    path.write_text("".join(lines[:40]))
    return str(path)
