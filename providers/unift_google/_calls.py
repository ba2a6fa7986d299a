"""Talking to Google: the clients, polite repetition of harmless calls, errors in our words."""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import google.auth
import httpx2
import requests
import urllib3
from google import genai
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.transport.requests import AuthorizedSession
from google.genai import errors, types

from unift import remote
from unift.errors import ProviderError, UniftError
from unift_google.site import LOGIN, Site, base_url, check_key, credentials_source
from unift_google.site import missing_credentials as _missing_credentials

_T = TypeVar("_T")
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_TIMEOUT = 60  # seconds
_MOST = 16
_clients: dict[tuple[str, ...], Any] = {}
_lock = threading.RLock()
_BUSY = (408, 409, 429)
# Everything with which Google's three libraries say that a call failed.
FAILED = (
    errors.APIError,
    errors.UnknownApiResponseError,
    httpx2.HTTPError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    api.GoogleAPIError,
    auth.GoogleAuthError,
    ConnectionError,
    json.JSONDecodeError,  # a cut answer, to the SDK
)


def kept(kind: str, make: Callable[[], _T], *names: str) -> _T:
    """One client for a place and an identity, so that connections are kept."""
    here = tuple(
        os.environ.get(name, "")
        for name in (
            "GOOGLE_APPLICATION_CREDENTIALS",
            "CLOUDSDK_CONFIG",
            "GOOGLE_VERTEX_BASE_URL",
            "STORAGE_EMULATOR_HOST",
        )
    )
    key = (kind, *names, *here)
    with _lock:
        if key not in _clients:
            if len(_clients) == _MOST:  # the oldest; nobody works in so many places at once
                _clients.pop(next(iter(_clients)))
            _clients[key] = make()
        return _clients[key]


def credentials() -> Any:
    """What google-auth finds on this machine.

    Raises:
        ProviderError: Nothing, or only a key of AI Studio.
    """

    def find() -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice on quota projects
                found, _ = google.auth.default(scopes=_SCOPES)
        except auth.DefaultCredentialsError as error:
            raise _missing_credentials() from error
        return found

    check_key()
    if credentials_source() is None:
        raise _missing_credentials()
    return kept("credentials", find)


def client(place: Site) -> genai.Client:
    """The shared SDK client of a place. Its own retries are off: it knows no harmless calls."""
    options = types.HttpOptions(api_version="v1beta1", base_url=base_url(), timeout=_TIMEOUT * 1000)

    def make() -> genai.Client:
        return genai.Client(
            vertexai=True,
            project=place.project,
            location=place.location,
            credentials=credentials(),
            http_options=options,
        )

    return kept("genai", make, place.project, place.location)


def session() -> AuthorizedSession:
    """For the few endpoints that the SDK has no words for."""
    return kept("session", lambda: AuthorizedSession(credentials(), max_refresh_attempts=1))


def rest(place: Site, verb: str, path: str, **asked: Any) -> dict[str, Any]:
    """One call of the platform's REST API (v1beta1); `path` begins with ``projects/``.

    Raises:
        errors.APIError: It is refused.
    """
    root = base_url()
    if root is None:
        where = place.location
        root = f"https://{'' if where == 'global' else where + '-'}aiplatform.googleapis.com"
        if where in ("us", "eu"):  # as google-genai does for these two
            root = f"https://aiplatform.{where}.rep.googleapis.com"
    url = f"{root.rstrip('/')}/v1beta1/{path}"
    answer = session().request(verb, url, timeout=_TIMEOUT, **asked)
    if answer.status_code >= 400:
        try:
            body = answer.json()
        except ValueError:
            body = {"error": {"message": answer.text[:200], "status": answer.reason}}
        raise errors.APIError(answer.status_code, body, answer)
    return answer.json()


def listed(place: Site, path: str, key: str, **asked: str) -> Iterator[dict[str, Any]]:
    """Every item of a paged list of the REST API."""
    token = ""
    while True:
        query = {**asked, **({"pageToken": token} if token else {})}
        page = politely(lambda query=query: rest(place, "GET", path, params=query))
        yield from page.get(key, ())
        token = page.get("nextPageToken", "")
        if not token:
            return


@contextmanager
def quietly() -> Generator[None]:
    """Without the SDK's warnings: that tuning is experimental, that a word of an enumeration is
    new to it (unift shows such a word itself)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def status_of(error: BaseException) -> int | None:
    """The HTTP status of an error; None if there was no answer."""
    if isinstance(error, errors.APIError | api.GoogleAPICallError):
        code: Any = error.code
        return int(code) if code is not None else None
    return None


def transient(error: BaseException) -> bool:
    """Whether asking again may help."""
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in _BUSY
    if isinstance(error, auth.GoogleAuthError):
        return bool(error.retryable)
    return isinstance(error, FAILED)


def retry_after(error: BaseException) -> float | None:
    """Seconds that Google asks to wait, by header or in the body (google.rpc.RetryInfo)."""
    response = getattr(error, "response", None)
    text = getattr(response, "headers", {}).get("retry-after", "")
    if not text:
        found = re.search(r"retryDelay['\"]: ['\"]([\d.]+)s", str(getattr(error, "details", "")))
        text = found[1] if found else ""
    try:
        return max(0.0, float(text))
    except ValueError:
        return None


def politely(call: Callable[[], _T], attempts: int = remote.ATTEMPTS) -> _T:
    """Make a call that may be repeated without harm until it succeeds or clearly will not."""
    return remote.politely(call, transient, retry_after, attempts)


@contextmanager
def our_words(where: str) -> Generator[None]:
    """Turn the errors of Google's libraries into ours."""
    try:
        yield
    except UniftError:
        raise
    except FAILED as error:
        raise translate(error, where) from error
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise ProviderError(
            "Google answered, but not as its API does "
            f"({type(error).__name__}: {redact(str(error))}).",
            code="odd_answer",
            where=where,
            fix="a proxy may be in between; try again later, nothing is lost",
        ) from error


def translate(error: BaseException, where: str) -> ProviderError:
    """One error of Google's libraries as one of ours, without any secret in it."""
    said = redact(str(getattr(error, "message", None) or error)).strip().rstrip(".")
    status = status_of(error)
    if isinstance(error, auth.GoogleAuthError):
        return ProviderError(
            f"Google does not accept the credentials: {said}.",
            code="bad_credentials",
            where=credentials_source() or "environment",
            fix=f"{LOGIN}; unift doctor shows what is set",
        )
    if status is None:
        return ProviderError(
            f"Google cannot be reached: {said}.",
            code="unreachable",
            where=where,
            fix="check the network; nothing that was started is lost",
        )
    fixes = {
        401: f"{LOGIN}; unift doctor shows what is set",
        403: "give these credentials the roles Vertex AI User and Storage Object Admin in the "
        "project, and enable aiplatform.googleapis.com there",
        404: "check project, location and name; unift doctor shows what is set",
        412: "try again: somebody else wrote there at the same moment",
        429: "wait for the running jobs, or ask for a higher quota in the Cloud console",
    }
    word = str(getattr(error, "status", None) or f"http_{status}").lower()
    return ProviderError(
        f"Google answered {status}: {said}.",
        code=word,
        where=where,
        fix=fixes.get(status, "try again later" if status >= 500 else "change what it says"),
    )


def redact(text: str) -> str:
    """No token and no key, wherever a library quotes one."""
    return re.sub(r"(?:ya29\.|AIza|Bearer )[\w.*-]{6,}", "[secret]", text)
