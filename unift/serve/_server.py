"""Running the application: which address, with which keys, until a signal says stop."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from unift.errors import UsageError


@dataclass(frozen=True)
class Settings:
    """What `unift serve` was told.

    Raises:
        UsageError: A port would be open to others without a key.
    """

    model: str = "demo"
    host: str = "127.0.0.1"
    port: int = 8000
    key_file: Path | None = None
    insecure_loopback: bool = False
    engine: Literal["local", "vllm"] = "local"
    max_adapters: int = 16
    vllm_python: str = sys.executable
    adapters: Mapping[str, str] = field(default_factory=dict[str, str])  # name -> run:ID or folder
    four_bit: bool = False  # hold the base in 4 bits, as local-qlora trained on it

    def __post_init__(self) -> None:
        if self.key_file is not None:
            return
        if not self.insecure_loopback:
            raise UsageError(
                "A server needs keys.",
                code="no_keys",
                where="--key-file",
                fix="unift serve --add-key NAME --key-file keys.json makes one; on this machine "
                "alone --insecure-loopback does without",
            )
        if not _loopback(self.host):
            raise UsageError(
                f"{self.host} can be reached by others, so it needs a key.",
                code="insecure_host",
                where="--host",
                fix="use --host 127.0.0.1, or --key-file",
            )

    @property
    def base(self) -> str:
        """The name under which the base model is served."""
        name = self.model.removeprefix("hf:").removeprefix("path:")
        folder = Path(name).expanduser()
        return folder.resolve().name if folder.is_dir() else name

    @property
    def folder(self) -> str:
        """What an engine outside this process loads: a folder or a hub id."""
        if self.model == "demo":
            from unift.demo import model_path

            return str(model_path())
        return self.model.removeprefix("hf:").removeprefix("path:")


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered, and stop.

    Trainings are processes of their own and go on; waiting jobs are started by the next server.

    Raises:
        UsageError: The address is taken, or the model or the keys cannot be used.
    """
    from unift.serve._app import create_app

    run_app(lambda: create_app(settings), settings.host, settings.port)


def run_app(make: Callable[[], Any], host: str, port: int) -> None:
    """Serve an ASGI application at an address until a signal says stop; drains, and returns.

    Args:
        make: Makes the application once the address is known to be free.

    Raises:
        UsageError: The address is taken.
    """
    import signal
    import socket
    from collections.abc import Generator
    from contextlib import contextmanager

    import uvicorn

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, or asyncio leaves Nagle's algorithm on and each answer waits 40 ms for an ACK.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"The address {host}:{port} cannot be used: {error.strerror}.",
            code="address_in_use",
            where="--port",
            fix="take another port",
        ) from error
    with listener:
        config = uvicorn.Config(
            make(),
            log_level="warning",
            timeout_graceful_shutdown=60,
            server_header=False,
        )

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Generator[None]:
                """As uvicorn does, but a server that drained ends with status 0."""
                before = {
                    number: signal.signal(number, self.handle_exit)
                    for number in (signal.SIGTERM, signal.SIGINT)
                }
                try:
                    yield
                finally:
                    for number, handler in before.items():
                        signal.signal(number, handler)

        Server(config).run(sockets=[listener])


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
