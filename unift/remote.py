"""What providers behind a network have in common: a clock, polite repetition, the memory of an
order that may have no answer, and many conversations at once.

Nothing here knows a vendor. A call that costs money is never made through `politely`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from unift._home import home
from unift.errors import UsageError
from unift.provider import Messages, Reply

if TYPE_CHECKING:
    from tenacity import RetryCallState

_T = TypeVar("_T")
ATTEMPTS = 6
_LONGEST_WAIT = 60.0  # seconds, whatever the vendor asks for
_AT_ONCE = 8  # conversations under way


class Clock:
    """Time, in one place, so that tests need not wait. No vendor's clock is compared with it."""

    def now(self) -> float:
        """Seconds since 1970 by this machine's clock."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def today(self) -> date:
        return datetime.fromtimestamp(self.now(), UTC).date()


clock = Clock()


def politely(
    call: Callable[[], _T],
    transient: Callable[[BaseException], bool],
    asked: Callable[[BaseException], float | None],
    attempts: int = ATTEMPTS,
) -> _T:
    """Make a call that may be repeated without harm until it succeeds or clearly will not.

    Args:
        call: The call.
        transient: Whether asking again may help after this error.
        asked: Seconds that the vendor asks to wait, or None.
        attempts: How often at most.
    """
    from tenacity import Retrying, retry_if_exception, stop_after_attempt
    from tenacity.wait import wait_random_exponential

    backoff = wait_random_exponential(multiplier=0.5, max=20)

    def pause(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wanted = asked(error) if error is not None else None
        return min(wanted, _LONGEST_WAIT) if wanted is not None else backoff(state)

    retrying = Retrying(
        retry=retry_if_exception(transient),
        wait=pause,
        stop=stop_after_attempt(attempts),
        sleep=lambda seconds: clock.sleep(seconds),
        reraise=True,
    )
    return retrying(call)


class Intent(BaseModel):
    """What this machine remembers of one order, written before the vendor hears of it.

    The vendor keeps the truth. This only says where to look for it, and since when a job may
    exist that no list shows yet. A provider adds fields of its own.
    """

    model_config = ConfigDict(extra="ignore")

    token: str
    attempted: float | None = None  # our clock, when the order with unknown end was sent
    job: str | None = None

    def save(self, provider: str) -> None:
        """On disk, whole, before anything else happens.

        Raises:
            UsageError: The token cannot be a file name.
        """
        path = _intent_path(provider, self.token)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("w") as file:
            file.write(self.model_dump_json())
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    @classmethod
    def load(cls, provider: str, token: str) -> Self | None:
        """What is remembered of a token, or None if this machine never sent an order for it."""
        path = _intent_path(provider, token)
        return cls.model_validate_json(path.read_bytes()) if path.exists() else None

    def settled_in(self, settle_seconds: float) -> float:
        """Seconds until "no list shows it" is a proof; 0 when it is one already."""
        if self.attempted is None:
            return 0.0
        # A clock that was set back makes the age negative: then the wait starts anew.
        return max(0.0, settle_seconds - max(0.0, clock.now() - self.attempted))


def _intent_path(provider: str, token: str) -> Path:
    if not token or "/" in token or token.startswith(".") or "\0" in token:
        raise UsageError(f"'{token}' cannot be the name of a run.", where="token")
    return home() / "submissions" / provider / f"{token}.json"


def ask_many(
    ask: Callable[[Messages], Reply],
    conversations: Sequence[Messages],
    on_reply: Callable[[int, Reply], None] | None,
) -> list[Reply]:
    """Ask for many answers, eight at a time; replies in the order given, `on_reply` as they come.

    The first one that fails for good is raised, and the rest is not asked any more.
    """
    from concurrent.futures import ThreadPoolExecutor, as_completed

    replies: dict[int, Reply] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        asked = {pool.submit(ask, messages): n for n, messages in enumerate(conversations)}
        try:
            for done in as_completed(asked):
                replies[asked[done]] = done.result()
                if on_reply is not None:
                    on_reply(asked[done], done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [replies[number] for number in range(len(conversations))]
