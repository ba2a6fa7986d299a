"""The part of the loopback Google that speaks Cloud Storage's JSON API."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any


class Storage(ABC):
    """Objects: uploads in one request and in pieces, ranged downloads, preconditions."""

    vendor: Any
    headers: Any

    def _metadata(self, raw: bytes) -> dict[str, Any]:
        """The description of an object in the request that begins its upload."""
        if not raw:
            return {}
        if raw.lstrip()[:1] == b"{":
            return json.loads(raw)
        return json.loads(self._parts(raw)[0])

    def _parts(self, raw: bytes) -> list[bytes]:
        head = b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n"
        message = BytesParser(policy=HTTP).parsebytes(head + raw)
        return [part.get_payload(decode=True) for part in message.iter_parts()]  # type: ignore[attr-defined]

    def _upload(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        name = self._metadata(raw)["name"]
        if not self._may_write(args[0], name, query):
            return 412, ("conditionNotMet", "At least one precondition did not hold.")
        # Not through the parser: it would touch line ends.
        boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])
        assert boundary is not None
        pieces = raw.split(b"--" + boundary[1].encode().strip(b"'"))
        content = pieces[2].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return 200, dict(self.vendor.books.objects.put(args[0], name, content))

    def _resumable(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        name = self._metadata(raw)["name"]
        if not self._may_write(args[0], name, query):
            return 412, ("conditionNotMet", "At least one precondition did not hold.")
        sessions = self.vendor.books.objects.sessions
        ticket = f"up{len(sessions) + 1}"
        sessions[ticket] = {"name": name, "content": b""}
        where = f"{self.vendor.url}/upload/storage/v1/b/{args[0]}/o?uploadType=resumable"
        return 200, {"_headers": {"Location": f"{where}&upload_id={ticket}"}}

    def _piece(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        objects = self.vendor.books.objects
        session = objects.sessions[query["upload_id"]]
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", self.headers["Content-Range"])
        assert span is not None
        session["content"] = session["content"][: int(span[1])] + raw
        done = len(session["content"])
        if span[3] != "*" and done == int(span[3]):
            return 200, dict(objects.put(args[0], session["name"], session["content"]))
        return 308, {"_headers": {"Range": f"bytes=0-{done - 1}"}}

    def _may_write(self, bucket: str, name: str, query: dict[str, str]) -> bool:
        held = self.vendor.books.objects.held.get((bucket, name))
        wanted = query.get("ifGenerationMatch")
        return wanted is None or wanted == (held["generation"] if held else "0")

    def _bucket(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        return 200, {"name": args[0], "projectNumber": "1", "location": "US"}

    def _object(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        held = self.vendor.books.objects.held.get((args[0], args[1]))
        return (200, dict(held)) if held else (404, ("notFound", f"No such object: {args[1]}"))

    def _objects(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        objects = self.vendor.books.objects
        names = objects.names(args[0], query.get("prefix", ""))
        page = self._page("items", [objects.held[args[0], name] for name in names], query)
        return 200, {"kind": "storage#objects", **page}

    @abstractmethod
    def _page(self, key: str, items: list[Any], query: dict[str, str]) -> dict[str, Any]:
        """One page of a list, as the handler cuts them."""

    def _media(self, args: list[str], query: dict[str, str], raw: bytes) -> tuple[int, Any]:
        objects = self.vendor.books.objects
        key = (args[0], args[1])
        if key not in objects.held:
            return 404, ("notFound", f"No such object: {args[1]}")
        if (
            query.get("ifGenerationMatch", objects.held[key]["generation"])
            != (objects.held[key]["generation"])
        ):
            return 412, ("conditionNotMet", "At least one precondition did not hold.")
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        self.vendor.ranges.append(self.headers.get("Range") or "all")
        if span is None:
            return 200, objects.content[key]
        end = int(span[2]) + 1 if span[2] else None
        return 206, objects.content[key][int(span[1]) : end]
