"""Running the application: which address, with which keys, until a signal says stop."""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unift.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from unift.serve._vllm import Starting


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
    jobs: int = 1
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
        return Path(self.source).name if Path(self.source).is_dir() else self.source

    @property
    def source(self) -> str:
        """What the trainer and the local engine load: demo, a whole path or a hub id."""
        name = self.model.removeprefix("hf:").removeprefix("path:")
        folder = Path(name).expanduser()
        return str(folder.resolve()) if folder.is_dir() else name

    @property
    def folder(self) -> str:
        """What an engine outside this process loads: a folder or a hub id."""
        if self.model == "demo":
            from unift.demo import model_path

            return str(model_path())
        return self.source


def serve(settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered, and stop.

    `on_start` is called once address, keys and model are ours; vLLM may need a while after it.
    Trainings are processes of their own and go on; waiting jobs are started by the next server.

    Raises:
        UsageError: The address is taken, or the model or the keys cannot be used.
        RunError: The engine ended while it started.
    """
    from unift.serve._app import create_app
    from unift.serve._vllm import Starting

    starting = Starting()

    def make() -> FastAPI:
        made = create_app(settings, starting)
        on_start()
        return made

    run_app(make, settings.host, settings.port, starting)


def run_app(
    make: Callable[[], Any], host: str, port: int, starting: Starting | None = None
) -> None:
    """Serve an ASGI application at an address until a signal says stop; drains, and returns.

    Args:
        make: Makes the application once the address is known to be free.
        starting: Lets the application say that it cannot start, and see that it need not.

    Raises:
        UsageError: The address is taken.
        UniftError: What the application told `starting`.
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

        server = Server(config)
        if starting is not None:
            starting.is_over = lambda: server.should_exit
            starting.end = lambda: setattr(server, "should_exit", True)
        server.run(sockets=[listener])
    if starting is not None and starting.failure is not None:
        raise starting.failure


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
