"""From what passed through the proxy to lines that `unift migrate record` reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any, cast

from unift.data import Scrubber
from unift.migrate._golden import answer_of
from unift.migrate.proxy._forward import Answer
from unift.migrate.proxy._sse import assemble


@dataclass(frozen=True)
class Exchange:
    """A request of the application and the old model's answer, as bytes."""

    request: dict[str, Any]
    answer: Answer
    at: datetime

    def response(self) -> dict[str, Any] | None:
        """The answer as one chat completion; None if it is none."""
        raw = b"".join(self.answer.body)
        if "event-stream" in self.answer.kind:
            return assemble(raw)
        try:
            document: Any = json.loads(raw)
        except ValueError:
            return None
        found = cast("dict[str, Any]", document) if isinstance(document, dict) else {}
        return found if isinstance(found.get("choices"), list) else None


@dataclass(frozen=True)
class Shadowed:
    """The same request answered by the new model. `why`: the reason if it was not."""

    exchange: Exchange
    new: Any
    why: str
    seconds: float


def prepare(scrub: bool) -> Callable[[Any], dict[str, Any] | None]:
    """What turns an exchange into a line. Headers, and with them keys, never get here."""
    scrubber = Scrubber() if scrub else None
    if scrubber is not None:
        scrubber.__enter__()  # for as long as the process lives

    def line(record: Exchange | Shadowed) -> dict[str, Any] | None:
        found = _exchange(record) if isinstance(record, Exchange) else _shadowed(record)
        if found is None or scrubber is None:
            return found
        cleaned: dict[str, Any] = scrubber.scrub(found)
        for name in ("user", "safety_identifier", "metadata"):
            cleaned["request"].pop(name, None)
        return cleaned

    return line


def _exchange(exchange: Exchange) -> dict[str, Any] | None:
    response = exchange.response()
    if response is None:
        return None
    return {
        "source": "proxy",
        "at": exchange.at.isoformat(),
        "latency_s": round(exchange.answer.seconds, 4),
        "request": exchange.request,
        "response": response,
    }


def _shadowed(shadowed: Shadowed) -> dict[str, Any] | None:
    old = shadowed.exchange.response()
    if old is None:
        return None
    before, after = _said(old), _said(shadowed.new)
    return {
        "at": shadowed.exchange.at.isoformat(),
        "request": shadowed.exchange.request,
        "old": before,
        "new": after,
        "same": before is not None
        and after is not None
        and answer_of({"message": before}) == answer_of({"message": after}),
        "old_latency_s": round(shadowed.exchange.answer.seconds, 4),
        "new_latency_s": round(shadowed.seconds, 4),
        "failure": shadowed.why,
    }


def shadow_summary(path: Path) -> dict[str, Any]:
    """Of everything that was compared: answers, share that is the same, failures, median seconds.

    Agreement is letter by letter; `unift evaluate` compares with a metric.
    """
    rows: list[dict[str, Any]] = []
    with suppress(FileNotFoundError), path.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError):  # the last one may be half written
                rows.append(json.loads(line))
    good = [row for row in rows if not row["failure"]]
    old = sorted(row["old_latency_s"] for row in good)
    new = sorted(row["new_latency_s"] for row in good)
    return {
        "answers": len(rows),
        "failed": len(rows) - len(good),
        "same": sum(row["same"] for row in good) / len(good) if good else 0.0,
        "old_median_s": median(old) if old else 0.0,
        "new_median_s": median(new) if new else 0.0,
    }


def _said(response: Any) -> dict[str, Any] | None:
    try:
        message: dict[str, Any] = response["choices"][0]["message"]
    except (KeyError, IndexError, TypeError):
        return None
    return message
