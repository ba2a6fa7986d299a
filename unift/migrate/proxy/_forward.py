"""One request passed on to one upstream, its answer passed back piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx2

Headers = list[tuple[bytes, bytes]]
# RFC 9110, section 7.6.1: these belong to one connection.
_HOP: frozenset[bytes] = frozenset({
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host", b"expect",
})  # fmt: skip
_KEYS = (b"authorization", b"api-key", b"x-api-key", b"cookie", b"openai-organization",
         b"openai-project")  # fmt: skip
CONNECT_SECONDS = 10.0
READ_SECONDS = 600.0  # between two pieces, as the vendor's own SDK


def client() -> httpx2.AsyncClient:
    """As many connections as there are streams; nothing is followed or decoded."""
    return httpx2.AsyncClient(
        timeout=httpx2.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
        follow_redirects=False,
        trust_env=False,
    )


@dataclass(frozen=True)
class Upstream:
    """An address that speaks the API. `key` None: the client's own key is passed on."""

    url: str
    key: str | None = None

    def target(self, path: str, query: bytes) -> str:
        """``/v1/chat/completions`` at the proxy is ``URL/chat/completions`` there."""
        rest = path.removeprefix("/v1") if path == "/v1" or path.startswith("/v1/") else path
        return f"{self.url.rstrip('/')}{rest}" + (f"?{query.decode('latin-1')}" if query else "")

    def headers(self, given: Iterable[tuple[bytes, bytes]], *, plain: bool) -> Headers:
        """The client's headers without those of its connection, and never its key for another.

        Args:
            plain: Ask for an answer that is not compressed, so that it can be read on the way.
        """
        drop: set[bytes] = {*_HOP, b"content-length", b"x-unift-user"}
        for key, value in given:
            if key == b"connection":
                drop.update(part.strip().lower() for part in value.split(b","))
        if plain:
            drop.add(b"accept-encoding")
        if self.key is not None:
            drop.update(_KEYS)
        kept = [(key, value) for key, value in given if key.lower() not in drop]
        if plain:
            kept.append((b"accept-encoding", b"identity"))
        if self.key is not None:
            kept.append((b"authorization", b"Bearer " + self.key.encode()))
        return kept


@dataclass
class Answer:
    """What went back, as far as it is to be kept. `whole`: to the last byte."""

    status: int = 0
    kind: str = ""
    body: list[bytes] = field(default_factory=list[bytes])
    size: int = 0
    whole: bool = False
    seconds: float = 0.0


def back(response: httpx2.Response, extra: Headers) -> Headers:
    """The upstream's headers for the client."""
    drop = {*_HOP, b"date"}  # the server in front of us writes its own
    return [(k, v) for k, v in response.headers.raw if k.lower() not in drop] + extra


def problem(error: Exception, url: str) -> dict[str, Any]:
    """An error in the API's own shape, for an upstream that gives no answer at all."""
    late = isinstance(error, httpx2.TimeoutException)
    what = "does not answer in time" if late else "cannot be reached"
    return {
        "error": {
            "message": f"unift proxy: {url} {what} ({type(error).__name__}).",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_timeout" if late else "upstream_unreachable",
        }
    }


async def pieces(body: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body that is too large to keep: what was read, then the rest as it comes."""
    yield body
    async for piece in rest:
        yield piece
