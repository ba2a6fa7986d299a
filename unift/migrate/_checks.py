"""What an answer must be besides right: an answer at all, in form, with sound tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, cast

from unift.evaluate import Metric

# How models decline, in the words of the refusals that OpenAI, Llama and Qwen models give. Kept to
# openings of an answer: the same words later in a text are mostly part of a useful one.
_REFUSAL = re.compile(
    r"^\W*(i'?m (very |truly )?sorry,? but|sorry,? (but )?i (can'?t|cannot)|i (can'?t|cannot|am"
    r" unable to|'?m unable to|won'?t be able to) (help|assist|comply|provide|answer|fulfil|do"
    r" that)|as an ai( language)? model|i must decline|es tut mir leid, aber|je suis désolé,? mais"
    r"|lo siento,? pero)",
    re.IGNORECASE,
)


def refuses(text: str) -> bool:
    """True for an answer that declines, or is empty."""
    return not text.strip() or _REFUSAL.match(text.strip().replace("\u2019", "'")) is not None


def _answered(answer: str, target: str) -> float:
    return float(not refuses(answer) or refuses(target))


ANSWERED = Metric(
    "answered",
    _answered,
    "Answered",
    "The answer is not empty and does not decline, unless declining is what was wanted.",
)


def calls_of(text: str) -> list[dict[str, Any]] | None:
    """The tool calls that an answer is made of (`unift.evaluate` writes them); None if text."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(found, list) or not found:
        return None
    calls = cast("list[Any]", found)
    if not all(isinstance(one, dict) for one in calls):
        return None
    made = cast("list[dict[str, Any]]", calls)
    return made if all(isinstance(one.get("name"), str) for one in made) else None


def tool_calls(targets: Sequence[str]) -> Metric | None:
    """Whether tools are called where they should be, by a known name and with arguments that are a
    JSON object; None where no target calls a tool."""
    known = {one["name"] for text in targets for one in calls_of(text) or []}
    if not known:
        return None

    def valid(answer: str, target: str) -> float:
        made = calls_of(answer)
        if calls_of(target) is None:
            return float(made is None)
        return float(
            made is not None
            and all(one["name"] in known and isinstance(one.get("arguments"), dict) for one in made)
        )

    return Metric(
        "tool_calls_valid",
        valid,
        "Valid tool calls",
        "A tool is called exactly where one should be, by a known name, with a JSON object.",
    )
