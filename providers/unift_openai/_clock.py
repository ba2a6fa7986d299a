"""Time, in one place, so that tests need not wait."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime


def now() -> float:
    """Seconds since 1970 by this machine's clock. No vendor's clock is ever compared with it."""
    return time.time()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def today() -> date:
    return datetime.fromtimestamp(now(), UTC).date()
