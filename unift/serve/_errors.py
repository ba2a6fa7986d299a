"""Errors in the vendor's shape: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

import re
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from unift.errors import UniftError


class ApiError(Exception):
    """An answer other than success. `headers` go out with it."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.headers = headers or {}


#: Pydantic names the form of a union that it tried, such as ``list[TextPart]``.
_FORM = re.compile(r"\[|^(constrained-)?(str|int|float)$|^literal")
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def document(status: int, message: str, code: str | None, param: str | None) -> dict[str, Any]:
    """The body of an error."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def _answer(
    status: int,
    message: str,
    code: str | None = None,
    param: str | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    return JSONResponse(document(status, message, code, param), status, headers=headers)


async def on_api_error(_: Request, error: Exception) -> JSONResponse:
    """Ours."""
    assert isinstance(error, ApiError)
    return _answer(error.status, error.message, error.code, error.param, error.headers)


async def on_unift_error(_: Request, error: Exception) -> JSONResponse:
    """The library's: what the caller can put right is a 400."""
    assert isinstance(error, UniftError)
    fix = f" ({error.fix})" if error.fix else ""
    status = 400 if error.exit_status in (2, 3, 4) else 500
    return _answer(status, f"{error.message}{fix}", error.code, error.where or None)


async def on_bad_request(_: Request, error: Exception) -> JSONResponse:
    """A body or a parameter that does not fit; the complaint that goes deepest, the first of these.

    Where several forms are allowed each complains, and the one that was meant fits the furthest.
    """
    assert isinstance(error, RequestValidationError)
    found: dict[str, Any] = dict(max(error.errors(), key=lambda one: len(one["loc"])))
    names = [str(part) for part in found["loc"] if part not in ("body", "query", "path")]
    place = ".".join(name for name in names if not _FORM.search(name))
    message = found["msg"]
    if found["type"] == "extra_forbidden":
        message = "This is not a parameter that this server knows."
    return _answer(400, f"{place}: {message}" if place else message, "bad_request", place)


async def on_http_error(_: Request, error: Exception) -> JSONResponse:
    """Unknown paths and methods."""
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    code = "not_found" if error.status_code == 404 else None
    return _answer(error.status_code, str(error.detail), code, headers=headers)
