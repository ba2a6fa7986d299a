"""Test rows: what is asked and what is the wanted answer."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from unift.errors import DataError

Message = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One test question.

    Attributes:
        prompt: Every message before the wanted answer, in chat form.
        target: The last assistant message as text; tool calls as `calls_text` writes them.
        line: Line of the file, counted from 1; 0 where unknown.
        tools: Declarations of the tools on offer.
        also: Other answers that are as good as `target`: further draws of a recorded model. A
            score is the mean over all of them.
        extra: What else the row holds: a group, a topic, a customer.
    """

    prompt: tuple[Message, ...]
    target: str
    line: int
    tools: tuple[Message, ...] = ()
    also: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def key(self) -> str:
        """What is asked, without the system message and differences of white space."""
        return prompt_key(self.prompt)

    @property
    def targets(self) -> tuple[str, ...]:
        return (self.target, *self.also)


def prompt_key(messages: Sequence[Message]) -> str:
    """The same text for prompts that ask the same thing."""
    said = [
        (message.get("role"), " ".join(answer_text(message).split()))
        for message in messages
        if message.get("role") not in ("system", "developer")
    ]
    return json.dumps(said, ensure_ascii=False)


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, whether its content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = cast("list[Any]", content)
    return "".join(
        str(cast(Message, part).get("text", "")) for part in parts if isinstance(part, dict)
    )


def answer_text(message: Mapping[str, Any]) -> str:
    """What an assistant message says, as metrics compare it: its tool calls, else its text."""
    calls = message.get("tool_calls")
    if isinstance(calls, list | tuple) and calls:
        return calls_text(cast("Sequence[Mapping[str, Any]]", calls))
    return text_of(message)


_REASONED = re.compile(r"</(?:think|thinking|reasoning)>")
_REASONING = re.compile(r"\A\s*<(?:think|thinking|reasoning)>")


def without_reasoning(answer: str, target: str) -> str:
    """An answer as it is scored: without the reasoning in tags before it, as whoever calls a model
    that thinks takes it off. Reasoning that never ends is no answer. Where the target has such
    tags they are wanted, and the answer stays as it is."""
    if "<" not in answer or _REASONED.search(target):
        return answer
    *before, rest = _REASONED.split(answer)
    return rest.lstrip() if before else "" if _REASONING.match(answer) else answer


def calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Tool calls as one JSON text: ``[{"name": ..., "arguments": {...}}]``, in order.

    Arguments that are no JSON object stay the text that they are. Ids are left out: they name a
    call and say nothing.
    """
    found: list[dict[str, Any]] = []
    for call in calls:
        function = call.get("function")
        named = cast("Mapping[str, Any]", function) if isinstance(function, Mapping) else call
        arguments: Any = named.get("arguments", {})
        if isinstance(arguments, str):
            with suppress(ValueError):
                arguments = json.loads(arguments) if arguments.strip() else {}
        found.append({"name": named.get("name"), "arguments": arguments})
    return json.dumps(found, ensure_ascii=False)


def split_example(
    messages: Sequence[Message],
    line: int = 0,
    tools: Sequence[Message] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Row | None:
    """Prompt and target of one example, or None when it does not end in an answer."""
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        return None
    target = answer_text(messages[-1])
    if not target.strip():
        return None
    prompt = tuple(plain(message) for message in messages[:-1])
    return Row(prompt, target, line, tuple(tools or ()), extra=dict(extra or {}))


def plain(message: Message) -> Message:
    """A message without what only training reads."""
    return {key: value for key, value in message.items() if key != "weight" and value is not None}


def read_rows(path: str | Path) -> tuple[list[Row], int]:
    """The rows of a chat JSONL file that can be scored, and how many cannot.

    A conversation is asked up to its last assistant message; that message is the target. Of
    ``recorded:FILE`` the recorded answers are the targets.

    Raises:
        DataError: No row can be scored.
    """
    from unift.evaluate._recorded import PREFIX, recorded

    if str(path).startswith(PREFIX):
        return recorded(str(path)).rows(), 0
    from unift.data import read_examples

    rows = [
        split_example(one.messages, one.line, one.tools, one.extra) for one in read_examples(path)
    ]
    found = [row for row in rows if row is not None]
    if not found:
        raise DataError(
            "No row ends with an assistant message, so there is nothing to compare with.",
            code="nothing_to_score",
            where=str(path),
            fix='give chat rows whose last message is {"role": "assistant", "content": "..."}',
        )
    return found, len(rows) - len(found)


def choose_rows(rows: Sequence[Row], limit: int | None, seed: int) -> list[Row]:
    """At most `limit` rows, drawn at random with a fixed seed, in the order of the file."""
    if limit is None or limit >= len(rows):
        return list(rows)
    return [rows[i] for i in sorted(random.Random(seed).sample(range(len(rows)), limit))]


def fingerprint(rows: Iterable[Row]) -> str:
    """``sha256:...`` of prompts and targets in order."""
    digest = hashlib.sha256()
    for row in rows:
        parts: list[Any] = [row.prompt, row.target]
        if row.also or row.tools:
            parts += [row.also, row.tools]
        line = json.dumps(parts, sort_keys=True, ensure_ascii=False)
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return f"sha256:{digest.hexdigest()}"
