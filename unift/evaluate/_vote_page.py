"""The page on which people vote: two answers, nobody knows whose.

It listens on this machine only. Another local page cannot vote: the address holds a secret, the
``Host`` has to be this machine (which ends DNS rebinding), and a form from elsewhere is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from unift.errors import UniftError, UsageError
from unift.evaluate._preference import Pair
from unift.evaluate._votes import BallotBox, Choice

_MOST_BYTES = 1000  # of a form: a number and a word


def serve(
    pairs: Sequence[Pair],
    box: BallotBox,
    seed: int,
    port: int,
    notice: Callable[[str], None],
) -> None:
    """Show the pairs until somebody finishes. Ctrl-C ends it as well; votes are kept.

    Raises:
        UsageError: The port is taken.
    """
    booth = _Booth(pairs, box, seed)

    class Handler(_Handler):
        pass

    Handler.booth = booth
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UsageError(
            f"The page cannot listen at port {port}: {error.strerror}.",
            code="port_taken",
            where="port",
            fix="give another one, or 0 for any free one",
        ) from error
    server.daemon_threads = True
    booth.port = int(server.server_address[1])
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        notice(f"Vote at {booth.address} ({booth.open()} of {len(pairs)} pairs have no vote yet).")
        booth.finished.wait()
    finally:
        server.shutdown()
        server.server_close()


class _Booth:
    """The pairs, who stands where, and what has been voted."""

    def __init__(self, pairs: Sequence[Pair], box: BallotBox, seed: int) -> None:
        self.pairs, self.box, self.seed, self.port = pairs, box, seed, 0
        self.token = secrets.token_urlsafe(24)
        self.finished = threading.Event()
        self.lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/{self.token}/"

    def open(self) -> int:
        return sum(self.box.choice(one) is None for one in self.pairs)

    def following(self, number: int) -> int | None:
        """The next pair without a vote, from `number` on and then from the top."""
        order = [*range(number, len(self.pairs)), *range(min(number, len(self.pairs)))]
        return next((i for i in order if self.box.choice(self.pairs[i]) is None), None)

    def left(self, number: int) -> Choice:
        """Who stands on the left: random, but the same after a restart."""
        pair = self.pairs[number]
        text = f"{self.seed}\0{pair.question}\0{min(pair.own, pair.other)}\0{pair.rival}"
        odd = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[0] & 1
        return "own" if odd else "other"

    def vote(self, number: int, side: str) -> None:
        left = self.left(number)
        right: Choice = "other" if left == "own" else "own"
        sides: dict[str, Choice] = {"left": left, "right": right, "tie": "tie"}
        with self.lock:
            self.box.put(self.pairs[number], sides[side], left)

    def page(self, number: int | None, nonce: str) -> str:
        from unift.report import vote_page

        total, done = len(self.pairs), len(self.pairs) - self.open()
        if number is None:
            return vote_page(total=total, done=done, nonce=nonce, ended=self.finished.is_set())
        pair, left = self.pairs[number], self.left(number)
        texts = (pair.own, pair.other) if left == "own" else (pair.other, pair.own)
        choice = self.box.choice(pair)
        voted = {None: None, "tie": "tie", left: "left"}.get(choice, "right")
        return vote_page(
            total=total, done=done, nonce=nonce, number=number, question=pair.question,
            expected=pair.expected, left=texts[0], right=texts[1], voted=voted,
        )  # fmt: skip


class _Handler(BaseHTTPRequestHandler):
    booth: _Booth
    server_version = "unift"
    sys_version = ""
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:
        """Silence: the terminal is for the evaluation."""

    def do_GET(self) -> None:
        path = self._admitted()
        if path is None:
            return
        if path != "":
            return self._refuse(HTTPStatus.NOT_FOUND)
        asked = parse_qs(urlsplit(self.path).query).get("n", [""])[0]
        number = self._number(asked)
        self._show(self.booth.following(0) if number is None else number)

    def do_POST(self) -> None:
        path = self._admitted()
        if path is None:
            return
        if self.headers.get("Origin", self._own) != self._own:
            return self._refuse(HTTPStatus.FORBIDDEN)
        size = self.headers.get("Content-Length", "")
        if not size.isdigit() or int(size) > _MOST_BYTES:
            return self._refuse(HTTPStatus.BAD_REQUEST)
        form = parse_qs(self.rfile.read(int(size)).decode("utf-8", "replace"))
        if path == "finish":
            # The answer first: the server ends with the event.
            self._reply(HTTPStatus.OK, "", ended=True)
            self.booth.finished.set()
            return
        number = self._number(form.get("n", [""])[0])
        side = form.get("side", [""])[0]
        if path != "vote" or number is None or side not in ("left", "right", "tie"):
            return self._refuse(HTTPStatus.BAD_REQUEST)
        try:
            self.booth.vote(number, side)
        except UniftError as error:
            return self._reply(HTTPStatus.INTERNAL_SERVER_ERROR, error.message)
        following = self.booth.following(number + 1)
        self.send_response(HTTPStatus.SEE_OTHER)
        place = "" if following is None else f"?n={following}"
        self.send_header("Location", f"/{self.booth.token}/{place}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    @property
    def _own(self) -> str:
        return f"http://{self.headers.get('Host')}"

    def _admitted(self) -> str | None:
        """The path behind the secret; None, and a refusal, for whoever does not know it."""
        known = [f"{name}:{self.booth.port}" for name in ("127.0.0.1", "localhost")]
        token, _, path = urlsplit(self.path).path.removeprefix("/").partition("/")
        if self.headers.get("Host") in known and hmac.compare_digest(
            token.encode("utf-8", "replace"), self.booth.token.encode()
        ):
            return path
        self._refuse(HTTPStatus.FORBIDDEN)
        return None

    def _number(self, text: str) -> int | None:
        right = text.isascii() and text.isdigit() and len(text) < 9
        return int(text) if right and int(text) < len(self.booth.pairs) else None

    def _show(self, number: int | None) -> None:
        nonce = secrets.token_urlsafe(12)
        self._reply(HTTPStatus.OK, self.booth.page(number, nonce), nonce)

    def _refuse(self, status: HTTPStatus) -> None:
        self._reply(status, f"{status.phrase}. Open the address that the terminal shows.")

    def _reply(self, status: HTTPStatus, text: str, nonce: str = "", ended: bool = False) -> None:
        if ended:
            from unift.report import vote_page

            nonce, total = secrets.token_urlsafe(12), len(self.booth.pairs)
            text = vote_page(total=total, done=total - self.booth.open(), nonce=nonce, ended=True)
        body = text.encode("utf-8", "replace")
        self.send_response(status)
        kind = "text/html" if nonce else "text/plain"
        for name, value in {
            "Content-Type": f"{kind}; charset=utf-8",
            "Content-Length": str(len(body)),
            "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
            f"script-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; "
            "frame-ancestors 'none'",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            # The address is a secret; with "no-referrer" forms would not name their origin.
            "Referrer-Policy": "same-origin",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
