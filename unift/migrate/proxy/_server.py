"""Running the proxy until a signal says stop."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from unift.errors import MissingDependency, UsageError
from unift.migrate.proxy._app import Proxy, Settings


def serve_proxy(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8100,
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered, and stop.

    `on_start` is called once the address is ours.

    Raises:
        UsageError: The address is taken, or an upstream is no address.
        MissingDependency: uvicorn is not installed.
    """
    for name, url in (("upstream", settings.upstream), ("new", settings.new)):
        if url is not None and (
            urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname
        ):
            raise UsageError(
                f"'{url}' is no address.",
                code="bad_address",
                where=name,
                fix="for example https://api.openai.com/v1",
            )
    try:
        from unift.serve import run_app
    except ImportError as error:
        raise MissingDependency(
            f"The proxy needs packages that are not installed: {error}.",
            where="proxy",
            fix="pip install 'unift[serve]'",
        ) from error

    def make() -> Proxy:
        on_start()
        return Proxy(settings)

    run_app(make, host, port)
