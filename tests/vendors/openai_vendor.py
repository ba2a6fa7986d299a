"""A server that behaves like the vendor's files, fine-tuning, models and chat endpoints.

Faults happen on command, each once: ``vendor.fault("create", "cut after")``. Request bodies are
held against the vendor SDK's own parameter types; a body that does not fit is answered with 400
and kept in ``vendor.bad_bodies``.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.fine_tuning.job_create_params import JobCreateParams
from pydantic import ConfigDict, TypeAdapter, ValidationError

from tests.vendors.openai_jobs import BASES, Books, Habits

KEY = "sk-loopback-0123456789"
WOUND_DOWN = (
    "OpenAI is winding down the fine-tuning platform and your organization is no longer able to "
    "create new fine-tuning training jobs."
)
_STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The SDK's TypedDict as a validator that refuses unknown keys."""
    kind.__pydantic_config__ = _STRICT
    return TypeAdapter(kind)


JOB = adapter(JobCreateParams)
CHAT = adapter(CompletionCreateParamsNonStreaming)


class Vendor:
    """Start with ``with Vendor() as vendor``; ask it at ``vendor.url``."""

    def __init__(self, **habits: Any) -> None:
        self.habits = Habits(**habits)
        self.books = Books(self.habits)
        self.lock = threading.Lock()
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.calls: list[str] = []
        self.bad_bodies: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.chats: list[dict[str, Any]] = []  # every request for an answer, paid or not
        self.hook: Callable[[str], None] = lambda name: None  # called before each answer
        self.active = self.most_active = 0
        vendor = self

        class Handler(_Handler):
            pass

        Handler.vendor = vendor
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def fault(self, call: str, *kinds: str) -> None:
        """Let the next calls of that name go wrong: "500", "429", "429 3" (Retry-After),
        "cut before" or "cut after" (the effect), "page before" or "page after" (with status 200, a
        page of some proxy instead of the answer), "fine"."""
        self.faults[call].extend(kinds)

    def jobs_with(self, token: str) -> list[dict[str, Any]]:
        """Jobs that were made for a token, whichever way they carry it."""
        names = self.books.files
        return [
            job
            for job in self.books.jobs.values()
            if (job["metadata"] or {}).get("unift_token") == token
            or token in names.get(job["training_file"], {}).get("filename", "")
        ]

    def __enter__(self) -> Vendor:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class Direct(httpx2.BaseTransport):
    """The same vendor without sockets: requests go straight to its answers, a cut is an error."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        spoken = _Direct(self._vendor, request)
        spoken._serve(request.method)
        if spoken.sent is None:
            raise httpx2.RemoteProtocolError("Server disconnected", request=request)
        return spoken.sent


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that is killed is nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    vendor: Vendor
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, verb: str) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        path = parts.path.removeprefix("/v1").strip("/")
        query = parse_qsl(parts.query)
        name, args = _route(verb, path)
        vendor = self.vendor
        with vendor.lock:
            vendor.calls.append(name)
            fault = vendor.faults[name].popleft() if vendor.faults[name] else "fine"
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._error(401, f"Incorrect API key: {self.headers.get('Authorization')}", "bad_key")
        elif fault == "500":
            self._error(500, "The server had an error", "server_error")
        elif fault == "no credit":
            self._error(429, "You exceeded your current quota", "insufficient_quota")
        elif fault.startswith("429"):
            after = fault.partition(" ")[2]
            self._error(429, "Rate limit reached", "rate_limit_exceeded", after)
        elif fault == "cut before":
            self._cut()
        elif fault == "page before":
            self._page_of_a_proxy()
        elif fault == "half":  # of a file, then silence
            with vendor.lock:
                _, answer = self._answer(name, args, query, body)
            self._send(200, answer, "application/octet-stream", half=True)
            self._cut()
        else:
            vendor.hook(name)
            with vendor.lock:
                status, answer = self._answer(name, args, query, body)
            if fault == "cut after":
                self._cut()
            elif fault == "page after":
                self._page_of_a_proxy()
            elif isinstance(answer, bytes):
                self._send(status, answer, "application/octet-stream")
            elif status >= 400:
                self._error(status, answer["message"], answer["code"], param=answer.get("param"))
            else:
                self._send(status, json.dumps(answer).encode(), "application/json")

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _page_of_a_proxy(self) -> None:
        self._send(200, b"<html>Back in a minute</html>", "text/html")

    def _error(
        self, status: int, message: str, code: str, after: str = "", param: str | None = None
    ) -> None:
        error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
        headers = {"Retry-After": after} if after else {}
        self._send(status, json.dumps({"error": error}).encode(), "application/json", headers)

    def _send(
        self,
        status: int,
        body: bytes,
        kind: str,
        headers: dict[str, str] | None = None,
        half: bool = False,
    ) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if half else body)
        except OSError:
            self.close_connection = True

    # --- endpoints ----------------------------------------------------------------------------

    def _answer(
        self, name: str, args: tuple[str, ...], query: list[tuple[str, str]], body: bytes
    ) -> tuple[int, Any]:
        books = self.vendor.books
        if name in ("upload", "create", "chat", "files", "jobs", "models", "stored"):
            return getattr(self, f"_{name}")(query, body)
        if name == "model":
            return self._model(args[0])
        if name == "stored_messages":
            kept = next(one for one in books.stored if one["id"] == args[0])
            return 200, _page(kept["_messages"], query, self.vendor.habits.page)
        known = books.files if name in ("file", "delete", "content") else books.jobs
        if name == "unknown" or args[0] not in known:
            return 404, {"message": "There is no such thing.", "code": "not_found"}
        item = args[0]
        if name == "file":
            return 200, books.files[item]
        if name == "content":
            return 200, books.contents[item]
        if name == "delete":
            del books.files[item]
            return 200, {"id": item, "object": "file", "deleted": True}
        if name == "job":
            return 200, books.look(item)
        if name == "events":
            return 200, _page(books.events(item), query, self.vendor.habits.page)
        if name == "checkpoints":
            return 200, _page(books.checkpoints(item), query, self.vendor.habits.page)
        done = books.act(item, name)
        if done is None:
            return 400, {"message": f"Job cannot {name} now.", "code": "invalid_state"}
        return 200, done

    def _upload(self, _: Any, body: bytes) -> tuple[int, Any]:
        kind = self.headers["Content-Type"]
        message = BytesParser(policy=HTTP).parsebytes(
            b"Content-Type: " + kind.encode() + b"\n\n" + body
        )
        fields: dict[str, Any] = {}
        for part in message.iter_parts():  # type: ignore[attr-defined]
            field = part.get_param("name", header="content-disposition")
            fields[field] = (part.get_filename(), part.get_payload(decode=True))
        purpose = fields["purpose"][1].decode()
        filename, content = fields["file"]
        return 200, self.vendor.books.add_file(filename, content, purpose)

    def _create(self, _: Any, body: bytes) -> tuple[int, Any]:
        document = json.loads(body)
        self.vendor.bodies.append(document)
        try:
            JOB.validate_python(document)
        except ValidationError as error:
            if not self.vendor.habits.lenient:
                self.vendor.bad_bodies.append(str(error))
                return 400, {"message": f"Bad body: {error}", "code": "bad_body"}
        if self.vendor.habits.wound_down:
            return 403, {"message": WOUND_DOWN, "code": "training_not_available"}
        if document["training_file"] not in self.vendor.books.files:
            return 400, {"message": "No such file", "code": "invalid_training_file"}
        return 200, self.vendor.books.shown(self.vendor.books.add_job(document))

    def _jobs(self, query: list[tuple[str, str]], _: bytes) -> tuple[int, Any]:
        wanted = {}
        for key, value in query:
            if match := re.fullmatch(r"metadata\[(.+)\]", key):
                wanted[match[1]] = value
        page = _page(self.vendor.books.listed_jobs(wanted), query, self.vendor.habits.page)
        crowd = len(self.vendor.books.jobs) >= 12  # enough strangers to turn pages
        if self.vendor.habits.shifting_pages and not crowd:
            body = {"model": "open-8b", "training_file": "file-of-somebody-else"}
            self.vendor.books.add_job(body)
        return 200, page

    def _files(self, query: list[tuple[str, str]], _: bytes) -> tuple[int, Any]:
        purpose = dict(query).get("purpose")
        files = [f for f in self.vendor.books.files.values() if purpose in (None, f["purpose"])]
        return 200, _page(list(reversed(files)), query, self.vendor.habits.page)

    def _stored(self, query: list[tuple[str, str]], _: bytes) -> tuple[int, Any]:
        model = dict(query).get("model")
        kept = [one for one in self.vendor.books.stored if model in (None, one["model"])]
        shown = [{k: v for k, v in one.items() if k != "_messages"} for one in kept]
        return 200, _page(shown, query, self.vendor.habits.page)

    def _models(self, query: list[tuple[str, str]], _: bytes) -> tuple[int, Any]:
        names = list(BASES) + [j["fine_tuned_model"] for j in self.vendor.books.jobs.values()]
        found = [self._model(name)[1] for name in names if name]
        return 200, {"object": "list", "data": found}

    def _model(self, name: str) -> tuple[int, Any]:
        if self.vendor.books.answer(name, "") is None:
            return 404, {"message": f"The model '{name}' does not exist", "code": "model_not_found"}
        model = {"id": name, "object": "model", "created": 1, "owned_by": "loopback"}
        return 200, {**model, "shutdown_date": self.vendor.habits.shutdown.get(name)}

    def _chat(self, _: Any, body: bytes) -> tuple[int, Any]:
        document = json.loads(body)
        self.vendor.chats.append(document)
        try:
            CHAT.validate_python(document)
        except ValidationError as error:
            self.vendor.bad_bodies.append(str(error))
            return 400, {"message": f"Bad body: {error}", "code": "bad_body"}
        for key in ("max_tokens", "temperature") if self.vendor.habits.modern else ():
            if key in document:
                return 400, {"message": "No.", "code": "unsupported_parameter", "param": key}
        text = self.vendor.books.answer(document["model"], document["messages"][-1]["content"])
        if text is None:
            return 404, {"message": "No such model", "code": "model_not_found"}
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}
        usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
        return 200, {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": self.vendor.books.now(),
            "model": document["model"],
            "choices": [choice],
            "usage": usage,
        }


class _Direct(_Handler):
    """A handler whose request is there already and whose answer is kept."""

    def __init__(self, vendor: Vendor, request: httpx2.Request) -> None:  # no socket to set up
        self.vendor = vendor
        self.path = request.url.raw_path.decode()
        self.headers: Any = request.headers
        self._content = request.read()
        self.sent: httpx2.Response | None = None

    def _body(self) -> bytes:
        return self._content

    def _cut(self) -> None:
        self.sent = None

    def _send(
        self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None
    ) -> None:
        self.sent = httpx2.Response(
            status, headers={"Content-Type": kind, **(headers or {})}, content=body
        )


_ROUTES = [
    ("POST", r"files", "upload"),
    ("GET", r"files", "files"),
    ("GET", r"files/([^/]+)/content", "content"),
    ("GET", r"files/([^/]+)", "file"),
    ("DELETE", r"files/([^/]+)", "delete"),
    ("POST", r"fine_tuning/jobs", "create"),
    ("GET", r"fine_tuning/jobs", "jobs"),
    ("GET", r"fine_tuning/jobs/([^/]+)/events", "events"),
    ("GET", r"fine_tuning/jobs/([^/]+)/checkpoints", "checkpoints"),
    ("POST", r"fine_tuning/jobs/([^/]+)/cancel", "cancel"),
    ("POST", r"fine_tuning/jobs/([^/]+)/pause", "pause"),
    ("POST", r"fine_tuning/jobs/([^/]+)/resume", "resume"),
    ("GET", r"fine_tuning/jobs/([^/]+)", "job"),
    ("GET", r"models", "models"),
    ("GET", r"models/([^/]+)", "model"),
    ("POST", r"chat/completions", "chat"),
    ("GET", r"chat/completions", "stored"),
    ("GET", r"chat/completions/([^/]+)/messages", "stored_messages"),
]


def _route(verb: str, path: str) -> tuple[str, tuple[str, ...]]:
    for method, pattern, name in _ROUTES:
        match = re.fullmatch(pattern, path)
        if method == verb and match:
            return name, match.groups()
    return "unknown", ()


def _page(items: list[dict[str, Any]], query: list[tuple[str, str]], most: int) -> dict[str, Any]:
    """Cursor pages. An unknown cursor starts anew."""
    asked = dict(query)
    limit = min(int(asked.get("limit", 20)), most)
    ids = [item["id"] for item in items]
    start = 0
    if "after" in asked and asked["after"] in ids:
        start = len(ids) - ids[::-1].index(asked["after"])
    data = items[start : start + limit]
    return {"object": "list", "data": data, "has_more": start + limit < len(items)}
