"""A server that behaves like Google's tuning, prediction, metadata and storage endpoints.

Faults happen on command, each once: ``vendor.fault("create", "cut after")``. Every request is held
against Google's own description of the API (`tests.vendors.google_discovery`); one that does not
fit is answered with 400 and stays in ``BAD`` until the end of the test run.
"""

from __future__ import annotations

import json
import re
import threading
from collections import defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.vendors.google_books import PROJECT, Books, Habits
from tests.vendors.google_discovery import judge, judge_rows
from tests.vendors.google_storage import Storage

TOKEN = "ya29.loopback-0123456789"


class Vendor:
    """Start with ``with Vendor() as vendor``; ask it at ``vendor.url``."""

    def __init__(self, **habits: Any) -> None:
        self.habits = Habits(**habits)
        self.books = Books(self.habits)
        self.lock = threading.Lock()
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.ranges: list[str] = []  # of downloads
        vendor = self

        class Handler(_Handler):
            pass

        Handler.vendor = vendor
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self, call: str, *kinds: str) -> None:
        """Let the next calls of that name go wrong: "500", "429", "429 3" (Retry-After), "403",
        "cut before" or "cut after" (the effect), "garbage" (half an answer), "cut middle" and
        "flip" (of a download), "refused" (of a token), "fine"."""
        self.faults[call].extend(kinds)

    def jobs_with(self, label: str) -> list[dict[str, Any]]:
        """Jobs that were made for a token."""
        jobs = self.books.jobs.values()
        return [job for job in jobs if job.get("labels", {}).get("unift_token") == label]

    def __enter__(self) -> Vendor:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(Storage, BaseHTTPRequestHandler):
    vendor: Vendor
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Silence."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PUT(self) -> None:
        self._serve("PUT")

    def _serve(self, verb: str) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = urlsplit(self.path)
        path = parts.path.strip("/")
        query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        name, args = _route(verb, path, query)
        vendor = self.vendor
        with vendor.lock:
            vendor.calls.append(name)
            fault = vendor.faults[name].popleft() if vendor.faults[name] else "fine"
        if name == "token" and fault == "refused":
            self._send(400, {"error": "invalid_grant", "error_description": "Invalid JWT."})
        elif name == "token":
            self._send(200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        elif fault in ("500", "503"):
            self._error(int(fault), "INTERNAL", "Internal error encountered.")
        elif fault == "403":
            self._error(403, "PERMISSION_DENIED", "Permission denied on resource.")
        elif fault.startswith("429"):
            after = fault.partition(" ")[2]
            said = "Quota exceeded for global_concurrent_tuning_jobs."
            self._error(429, "RESOURCE_EXHAUSTED", said, after)
        elif fault == "cut before":
            self._cut()
        else:
            with vendor.lock:
                status, answer = self._answer(verb, path, name, args, query, raw)
            self._give(status, answer, fault)

    def _give(self, status: int, answer: Any, fault: str) -> None:
        if fault == "cut after":
            self._cut()
        elif isinstance(answer, bytes):
            if fault == "flip":
                answer = bytes([answer[0] ^ 1]) + answer[1:]
            self._send(status, answer, cut=fault == "cut middle")
        elif status >= 400:
            self._error(status, *answer)
        else:
            self._send(status, answer, garbage=fault == "garbage")

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.close()

    def _error(self, status: int, word: str, message: str, after: str = "") -> None:
        headers = {"Retry-After": after} if after else {}
        error = {"code": status, "message": message, "status": word}
        self._send(status, {"error": error}, headers)

    def _send(
        self,
        status: int,
        body: Any,
        headers: dict[str, str] | None = None,
        cut: bool = False,
        garbage: bool = False,
    ) -> None:
        if isinstance(body, dict):
            headers = {**(headers or {}), **body.pop("_headers", {})}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        raw = raw[: len(raw) // 2] if garbage else raw
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(raw)))
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(raw[: len(raw) // 2] if cut else raw)
            if cut:
                self.wfile.flush()
                self._cut()
        except OSError:
            self.close_connection = True

    # --- endpoints ----------------------------------------------------------------------------

    def _answer(
        self,
        verb: str,
        path: str,
        name: str,
        args: tuple[str, ...],
        query: dict[str, str],
        raw: bytes,
    ) -> tuple[int, Any]:
        stored = name in ("upload", "resumable", "piece", "object", "objects", "media", "bucket")
        body = json.loads(raw) if raw and not stored else None
        if name != "piece":  # the rest of an upload that was judged when it began
            meta = self._metadata(raw) if name in ("upload", "resumable") else body
            wrong = judge(verb, path, query, meta)
            if wrong:
                return 400, ("INVALID_ARGUMENT", "; ".join(wrong))
        hidden = self.vendor.habits.forbidden
        if hidden and re.search(hidden, path):
            return 403, ("PERMISSION_DENIED", "Permission denied on resource.")
        if stored:
            return getattr(self, f"_{name}")([unquote(arg) for arg in args], query, raw)
        if args and "projects/" in args[0] and args[0].split("/")[1] != PROJECT:
            return 403, ("PERMISSION_DENIED", f"Permission denied on {args[0]}.")
        return getattr(self, f"_{name}")(args, query, body)

    def _unknown(self, *_: Any) -> tuple[int, Any]:
        return 404, ("NOT_FOUND", "There is no such thing.")

    def _create(self, args: tuple[str, ...], _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        books = self.vendor.books
        self.vendor.bodies.append(body)
        spec = books.spec_of(body)
        content = books.objects.at(spec.get("trainingDatasetUri", ""))
        if content is None:
            return 400, ("INVALID_ARGUMENT", "The training dataset does not exist.")
        if "outputUri" not in body:
            preference = "preferenceOptimizationSpec" in body
            kind = "GeminiPreferenceExample" if preference else "GeminiExample"
            wrong = judge_rows(kind, content)
            if wrong:
                return 400, ("INVALID_ARGUMENT", "; ".join(wrong[:3]))
        return 200, books.add_job(args[0], body)

    def _jobs(self, args: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        books = self.vendor.books
        page = self._page("tuningJobs", books.listed(args[0]), query)
        if self.vendor.habits.shifting_pages and len(books.jobs) < 12:
            books.add_job(args[0], {"baseModel": "of-somebody-else"})
        return 200, page

    def _page(self, key: str, items: list[Any], query: dict[str, str]) -> dict[str, Any]:
        size = min(int(query.get("pageSize", 10)), self.vendor.habits.page)
        start = int(query.get("pageToken", 0))
        more = start + size < len(items)
        page = {key: items[start : start + size]}
        return {**page, **({"nextPageToken": str(start + size)} if more else {})}

    def _job(self, args: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        books = self.vendor.books
        return (200, dict(books.look(args[0]))) if args[0] in books.jobs else self._unknown()

    def _cancel(self, args: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        books = self.vendor.books
        if args[0] not in books.jobs:
            return self._unknown()
        if not books.cancel(args[0]):
            return 400, ("FAILED_PRECONDITION", "The job is over.")
        return 200, {}

    def _content(self, args: tuple[str, ...], _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        if self.vendor.habits.chats:
            return 400, ("INVALID_ARGUMENT", "The endpoint does not serve generateContent.")
        prompt = body["contents"][-1]["parts"][-1]["text"]
        text = self.vendor.books.answer(args[0], prompt)
        if text is None:
            return self._unknown()
        content = {"role": "model", "parts": [{"text": text}]}
        usage = {"promptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 6}
        candidate = {"content": content, "finishReason": "STOP", "index": 0}
        return 200, {"candidates": [candidate], "usageMetadata": usage}

    def _chat(self, args: tuple[str, ...], _: Any, body: dict[str, Any]) -> tuple[int, Any]:
        if not self.vendor.habits.chats:
            return self._unknown()
        said = {"role": "assistant", "content": f"heard {body['messages'][-1]['content']}"}
        choice = {"index": 0, "finish_reason": "stop", "message": said}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}

    def _models(self, args: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        return 200, self._page("models", self.vendor.books.models(args[0]), query)

    def _model(self, args: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        parent = args[0].partition("/models/")[0]
        found = [one for one in self.vendor.books.models(parent) if one["name"] == args[0]]
        return (200, found[0]) if found else self._unknown()

    def _datasets(self, args: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        one = {"name": f"{args[0]}/datasets/7", "displayName": "managed"}
        return 200, self._page("datasets", [one] if "us-central1" in args[0] else [], query)

    # --- metrics ------------------------------------------------------------------------------

    def _contexts(self, args: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        if self.vendor.habits.experiment == "forbidden":
            return 403, ("PERMISSION_DENIED", "aiplatform.contexts.list denied")
        wanted = re.search(r'parent_contexts:"(.+)"', query["filter"])
        assert wanted is not None
        run = {"name": f"{wanted[1]}-run", "schemaTitle": "system.ExperimentRun"}
        return 200, self._page("contexts", [run], query)

    def _artifact(self, args: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        parent = args[0].partition("/metadataStores/")[0]
        board = f"{parent}/tensorboards/5/experiments/x/runs/r"
        return 200, {"name": args[0], "metadata": {"resourceName": board}}

    def _all_series(self, args: tuple[str, ...], query: dict[str, str], _: Any) -> tuple[int, Any]:
        found = [
            {"name": f"{args[0]}/timeSeries/{number}", "displayName": name, "valueType": "SCALAR"}
            for number, name in enumerate(self.vendor.books.series())
        ]
        return 200, self._page("tensorboardTimeSeries", found, query)

    def _series(self, args: tuple[str, ...], *_: Any) -> tuple[int, Any]:
        points = list(self.vendor.books.series().values())[int(args[0].rpartition("/")[2])]
        return 200, {"timeSeriesData": {"valueType": "SCALAR", "values": points}}


_PLACE = r"(projects/[^/]+/locations/[^/]+)"
_ROUTES = [
    ("POST", r"token", "token"),
    ("POST", rf"v1beta1/{_PLACE}/tuningJobs", "create"),
    ("GET", rf"v1beta1/{_PLACE}/tuningJobs", "jobs"),
    ("GET", rf"v1beta1/({_PLACE}/tuningJobs/[^/:]+)", "job"),
    ("POST", rf"v1beta1/({_PLACE}/tuningJobs/[^/:]+):cancel", "cancel"),
    (
        "POST",
        rf"v1beta1/({_PLACE}/(?:endpoints|publishers/google/models)/[^/:]+):generateContent",
        "content",
    ),
    ("POST", rf"v1beta1/({_PLACE}/endpoints/[^/:]+)/chat/completions", "chat"),
    ("GET", rf"v1beta1/{_PLACE}/models", "models"),
    ("GET", rf"v1beta1/({_PLACE}/models/[^/:]+)", "model"),
    ("GET", rf"v1beta1/{_PLACE}/datasets", "datasets"),
    ("GET", rf"v1beta1/({_PLACE}/metadataStores/[^/]+)/contexts", "contexts"),
    ("GET", rf"v1beta1/({_PLACE}/metadataStores/[^/]+/artifacts/[^/]+)", "artifact"),
    ("GET", rf"v1beta1/({_PLACE}/tensorboards/.+)/timeSeries", "all_series"),
    ("GET", rf"v1beta1/({_PLACE}/tensorboards/.+/timeSeries/[^/:]+):read", "series"),
    ("GET", r"storage/v1/b/([^/]+)", "bucket"),
    ("PUT", r"upload/storage/v1/b/([^/]+)/o", "piece"),
    ("POST", r"upload/storage/v1/b/([^/]+)/o", "upload"),
    ("GET", r"storage/v1/b/([^/]+)/o", "objects"),
    ("GET", r"storage/v1/b/([^/]+)/o/([^/]+)", "object"),
    ("GET", r"download/storage/v1/b/([^/]+)/o/([^/]+)", "media"),
]


def _route(verb: str, path: str, query: dict[str, str]) -> tuple[str, tuple[str, ...]]:
    for method, pattern, name in _ROUTES:
        match = re.fullmatch(pattern, path)
        if method == verb and match:
            if name == "upload" and query.get("uploadType") == "resumable":
                name = "resumable"
            return name, match.groups()
    return "unknown", ()
