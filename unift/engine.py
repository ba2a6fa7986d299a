"""One base model in memory that answers under many adapters at once: what a server needs.

A provider that can has a verb more than the seam asks for: ``engine(base) -> Engine``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from pydantic import Field

from unift.errors import UsageError
from unift.provider import Sampling, get_provider
from unift.spec import Frozen


class TokenLogprob(Frozen):
    """A drawn token, its log probability, and the likeliest ones in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Turn(Frozen):
    """One question to an engine: `messages`, or a raw `prompt`.

    `adapter` is the folder of the adapter to answer under, None for the base model. `top_logprobs`
    asks for log probabilities: None for none, 0 for those of the drawn tokens alone.
    """

    messages: tuple[dict[str, Any], ...] = ()
    prompt: str | None = None
    tools: tuple[dict[str, Any], ...] = ()
    adapter: str | None = None
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = Field(default=None, ge=0, le=20)


class Prepared(Frozen):
    """A turn as tokens; `room` is how many new ones the context and the user leave."""

    turn: Turn
    tokens: tuple[int, ...]
    room: int


class Delta(Frozen):
    """A piece of an answer. `finish` is set on the last one: "stop" or "length"."""

    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    finish: str | None = None
    completion_tokens: int = 0


@runtime_checkable
class Engine(Protocol):
    """Answers turns together, a token a step.

    `prepare` may be called from any thread, everything else from one.
    """

    base: str
    takes_tools: bool

    def prepare(self, turn: Turn) -> Prepared:
        """Render and count. Raises DataError for messages that the model's template refuses."""
        ...

    def join(self, prepared: Prepared, tell: Callable[[Delta], bool]) -> None:
        """Answer this one, too, from the next step on; `tell(piece)` as text comes. The last piece
        has `finish`; False from `tell` ends the answer there.

        Raises for an adapter that cannot be loaded; the others are not concerned.
        """
        ...

    def step(self) -> int:
        """One more token for everybody who joined; returns how many are not done yet.

        When it raises, every answer is in an unknown state: `abandon` them.
        """
        ...

    def abandon(self) -> None:
        """Forget every answer that is not done."""
        ...

    def close(self) -> None: ...


def open_engine(provider: str, base: str, max_adapters: int) -> Engine:
    """The engine of a provider.

    Raises:
        UsageError: That provider has none.
    """
    make = getattr(get_provider(provider), "engine", None)
    if make is None:
        raise UsageError(
            f"Provider '{provider}' cannot answer for a server.",
            code="no_engine",
            where="provider",
            fix="use local-lora",
        )
    return make(base, max_adapters)


# How Qwen, Hermes and their kin write a call; a model that writes otherwise answers in plain text.
_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


def read_calls(text: str) -> tuple[str, tuple[dict[str, Any], ...]]:
    """The text around the tool calls that a model wrote, and the calls, in OpenAI's form.

    Ids are ``call_1`` and so on. Text that only looks like a call stays text.
    """
    calls: list[dict[str, Any]] = []
    for number, match in enumerate(_CALL.finditer(text), 1):
        try:
            call: dict[str, Any] = json.loads(match[1])
            name, arguments = str(call["name"]), call.get("arguments", {})
        except (ValueError, KeyError):
            return text, ()
        function = {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}
        calls.append({"id": f"call_{number}", "type": "function", "function": function})
    return (_CALL.sub("", text).strip(), tuple(calls)) if calls else (text, ())
