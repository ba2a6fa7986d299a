"""Test rows: what is asked and what is the wanted answer."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from unift.errors import DataError

Message = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One test question.

    Attributes:
        prompt: Every message before the wanted answer, in chat form.
        target: Text of the last assistant message.
        line: Line of the file, counted from 1; 0 where unknown.
    """

    prompt: tuple[Message, ...]
    target: str
    line: int

    @property
    def key(self) -> str:
        """What is asked, without the system message and differences of white space."""
        return prompt_key(self.prompt)


def prompt_key(messages: Sequence[Message]) -> str:
    """The same text for prompts that ask the same thing."""
    said = [
        (message.get("role"), " ".join(text_of(message).split()))
        for message in messages
        if message.get("role") not in ("system", "developer")
    ]
    return json.dumps(said, ensure_ascii=False)


def text_of(message: Message) -> str:
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


def split_example(messages: Sequence[Message], line: int = 0) -> Row | None:
    """Prompt and target of one example, or None when it does not end in an answer of text."""
    if len(messages) < 2 or messages[-1].get("role") != "assistant":
        return None
    last = messages[-1]
    if last.get("tool_calls") or not text_of(last).strip():
        return None
    prompt = tuple(plain(message) for message in messages[:-1])
    return Row(prompt, text_of(last), line)


def plain(message: Message) -> Message:
    """A message without what only training reads."""
    return {key: value for key, value in message.items() if key != "weight" and value is not None}


def read_rows(path: str | Path) -> tuple[list[Row], int]:
    """The rows of a chat JSONL file that can be scored, and how many cannot.

    A conversation is asked up to its last assistant message; that message is the target.

    Raises:
        DataError: No row can be scored.
    """
    from unift.data import read_examples

    examples = list(read_examples(path))
    rows = [split_example(cast(Any, example.messages), example.line) for example in examples]
    found = [row for row in rows if row is not None]
    if not found:
        raise DataError(
            "No row ends with an assistant message of text, so there is nothing to compare with.",
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
        line = json.dumps([row.prompt, row.target], sort_keys=True, ensure_ascii=False)
        digest.update(line.encode("utf-8", "surrogatepass") + b"\n")
    return f"sha256:{digest.hexdigest()}"
