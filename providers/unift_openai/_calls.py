"""Talking to a host: the client, polite repetition of harmless calls, errors in our words."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
import openai

from unift import remote
from unift.errors import ProviderError, UniftError
from unift_openai.hosts import Site

_T = TypeVar("_T")
_MOST_CLIENTS = 16
_clients: dict[tuple[str, str], openai.OpenAI] = {}
_lock = threading.Lock()


def connect(site: Site, timeout: float = 60.0) -> openai.OpenAI:
    """A new SDK client whose own retries are off: it repeats even the calls that cost money.

    Raises:
        ProviderError: There is no key.
    """
    return _open(site.url, site.key(), timeout)


class _Http(openai.DefaultHttpxClient):
    """Closed when it is forgotten, as the SDK's own is."""

    def __del__(self) -> None:
        with suppress(Exception):
            self.close()


def _open(url: str, key: str, timeout: float) -> openai.OpenAI:
    http = _Http(event_hooks={"response": [no_page]})
    return openai.OpenAI(
        base_url=url, api_key=key, max_retries=0, timeout=timeout, http_client=http
    )


def no_page(response: httpx2.Response) -> None:
    """A web page with status 200, of a proxy or of maintenance, is as good as no connection. The
    SDK would hand its text on as if it were the answer."""
    if response.is_success and response.headers.get("content-type", "").startswith("text/html"):
        raise httpx2.RemoteProtocolError(
            "a web page came instead of an answer", request=response.request
        )


def client(site: Site) -> openai.OpenAI:
    """The shared client of an address and a key, so that connections are kept."""
    return _shared(site.url, site.key())


def _shared(url: str, key: str) -> openai.OpenAI:
    with _lock:
        found = _clients.get((url, key))
        if found is None:
            if len(_clients) == _MOST_CLIENTS:  # the oldest; nobody talks to so many hosts at once
                _clients.pop(next(iter(_clients))).close()
            found = _open(url, key, 60.0)
            _clients[url, key] = found
        return found


def transient(error: BaseException) -> bool:
    """Whether asking again may help. A quota that is used up does not come back by asking."""
    if isinstance(error, openai.RateLimitError):
        return error.code != "insufficient_quota"
    if isinstance(error, openai.APIStatusError):
        return error.status_code >= 500 or error.status_code in (408, 409)
    return isinstance(error, openai.APIConnectionError)


def retry_after(error: BaseException | None) -> float | None:
    """The ``Retry-After`` of an answer, in seconds. A date is compared with the answer's own
    ``Date``, so a host with a wrong clock does no harm."""
    if not isinstance(error, openai.APIStatusError):
        return None
    headers = error.response.headers
    text = headers.get("retry-after")
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(text)
        since = parsedate_to_datetime(headers["date"])
        return max(0.0, (until - since).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def politely(call: Callable[[], _T], attempts: int = remote.ATTEMPTS) -> _T:
    """Make a call that may be repeated without harm until it succeeds or clearly will not."""
    return remote.politely(call, transient, retry_after, attempts)


@contextmanager
def our_words(site: Site, where: str) -> Generator[None]:
    """Turn the SDK's errors into ours, and answers of a form that no API should give."""
    try:
        yield
    except UniftError:
        raise
    except openai.OpenAIError as error:
        raise translate(error, site, where) from error
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError) as error:
        raise ProviderError(
            f"{site.host.name} answered, but not as its API does ({type(error).__name__}: "
            f"{redact(str(error))}).",
            code="odd_answer",
            where=where,
            fix=f"look what {site.url} says; a proxy may be in between. Nothing is lost",
        ) from error


def translate(error: Exception, site: Site, where: str) -> UniftError:
    """One of the SDK's errors as one of ours, without any key in it."""
    said = redact(_message(error))
    name = site.host.name
    if isinstance(error, openai.AuthenticationError):
        variable = site.host.key_env[0] if site.own else "UNIFT_API_KEY"
        return ProviderError(
            f"{name} does not accept the API key: {said}",
            code="bad_key",
            where=site.url,
            fix=f"put a valid key into {variable}",
        )
    if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
        return ProviderError(
            f"The account at {name} has no credit left: {said}",
            code="insufficient_quota",
            where=where,
            fix="add credit there, or train elsewhere: unift estimate compares",
        )
    if isinstance(error, openai.APIStatusError):
        fixes = {
            403: "ask the owner of the organisation for access, or use another provider",
            404: "check the name; unift runs list shows the runs that unift knows",
            413: "split the file or use a provider that takes larger ones",
            429: "wait a little; nothing was lost",
        }
        busy = error.status_code >= 500
        return ProviderError(
            f"{name} answered {error.status_code}: {said}",
            code=error.code or f"http_{error.status_code}",
            where=where,
            fix=fixes.get(error.status_code, "try again later" if busy else "change what it says"),
        )
    return ProviderError(
        f"{name} cannot be reached at {site.url}: {said}",
        code="unreachable",
        where=where,
        fix="check the network and the address; nothing that was started is lost",
    )


def _message(error: Exception) -> str:
    body: Any = getattr(error, "body", None)
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return body["message"]
    cause = error.__cause__
    return str(error) if cause is None else f"{error} ({cause})"


def redact(text: str) -> str:
    """A vendor quotes the key that it refuses; nobody else shall."""
    return re.sub(r"\b(?:sk|key|Bearer)[-_ ][\w*.-]{6,}", "[key]", text)
