"""The canonical row, to and from which every format is read and written.

Its messages are OpenAI chat messages (role, content, tool_calls, tool_call_id, name, weight),
because that shape holds more than any other: what cannot be said in it, no vendor trains on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from unift.data._finding import Path
from unift.data._parse import Note

Kind = Literal["chat", "preference", "reinforcement"]
Message = dict[str, Any]

#: What a conversion can lose -> what that means. The words that ``--drop`` takes.
LOSSES: Mapping[str, str] = {
    "tools": "tool declarations, calls and results",
    "weights": "which answers are not learnt",
    "images": "images",
    "turns": "earlier turns, and system messages that are not the first",
    "system": "the system prompt",
    "names": "names of speakers",
    "parts": "the borders between parts of a message",
    "refusals": "refusals kept apart from answers",
    "reasoning": "reasoning kept apart from answers",
    "settings": "parallel_tool_calls, strict, image detail",
    "extra": "keys that the format does not have",
    "references": "reference values that are no text",
    "rejected": "the answers that are not preferred",
    "rows": "rows of which nothing is left",
}

Lose = Callable[[str, str], None]
"""``lose(kind, what)``: something of the row has no place in the target."""


class NothingLeftError(Exception):
    """The row has no form in the target, even without what was dropped."""


@dataclass(slots=True)
class Row:
    """One training row.

    Attributes:
        kind: What is learnt: a conversation, a preference, or answers that a grader scores.
        messages: The whole conversation; of a preference or reinforcement row, the prompt.
        chosen: Preferred answer (preference only); one or more assistant and tool messages.
        rejected: The other answer.
        tools: Tool declarations as OpenAI writes them.
        parallel: `parallel_tool_calls`, if the row says.
        extra: Other keys; of a reinforcement row, the references for graders.
        places: Where each of messages + chosen + rejected is in the source row.
        exact: True if the paths inside a message are those of the source as well.
        unread: Paths of keys further inside that the format does not have.
    """

    kind: Kind
    messages: list[Message]
    chosen: list[Message] = field(default_factory=list[Message])
    rejected: list[Message] = field(default_factory=list[Message])
    tools: list[Any] | None = None
    parallel: bool | None = None
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    places: list[Path] = field(default_factory=list[Path])
    exact: bool = False
    unread: list[Path] = field(default_factory=list[Path])

    def chat(self, answer: list[Message] | None = None) -> dict[str, Any]:
        """The conversation with one of the answers, as a row of OpenAI chat."""
        row: dict[str, Any] = {"messages": [*self.messages, *(answer or [])]}
        if self.tools is not None:
            row["tools"] = self.tools
        if self.parallel is not None:
            row["parallel_tool_calls"] = self.parallel
        return row


@dataclass(frozen=True, slots=True)
class Format:
    """One way of writing rows.

    Attributes:
        name: As ``--to`` and ``--from`` take it.
        kind: Of its rows.
        keys: Keys that a row has to have; how the format is recognised.
        known: All keys that a row may have.
        holds: Kinds of content (see `LOSSES`) that it has a place for.
        read: Row as parsed -> canonical row, or None after noting why not.
        write: Canonical row without what the format does not hold -> row.
        source: Where the shape is documented.
    """

    name: str
    kind: Kind
    keys: tuple[str, ...]
    known: tuple[str, ...]
    holds: frozenset[str]
    read: Callable[[dict[str, Any], Note], Row | None]
    write: Callable[[Row, Lose], dict[str, Any]]
    source: str


def unread(fields: Mapping[str, Any], known: tuple[str, ...], path: Path = ()) -> list[Path]:
    """Paths of the keys of an object that the format does not have."""
    return [(*path, key) for key in fields if key not in known]


def text_field(
    fields: Mapping[str, Any], key: str, note: Note, *, needed: bool = True
) -> str | None:
    """A string of a row, or None after noting that it is none."""
    value = fields.get(key)
    if isinstance(value, str):
        return value
    if value is not None or needed:
        state = "missing" if key not in fields else "not a string"
        note("UD901", (key,) if key in fields else (), f"`{key}` is {state}.")
    return None


def list_field(
    fields: Mapping[str, Any], key: str, note: Note, path: Path = ()
) -> list[Any] | None:
    """A list of a row that has something in it, or None after noting that it is none."""
    value = fields.get(key)
    if isinstance(value, list) and value:
        return cast("list[Any]", value)
    state = "missing" if key not in fields else "not a list with something in it"
    note("UD901", (*path, key) if key in fields else path, f"`{key}` is {state}.")
    return None


def object_field(fields: Mapping[str, Any], key: str, note: Note) -> dict[str, Any] | None:
    """An object of a row, or None after noting that it is none."""
    value = fields.get(key)
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    state = "missing" if key not in fields else "not an object"
    note("UD901", (key,) if key in fields else (), f"`{key}` is {state}.")
    return None


def without_clash(
    extra: Mapping[str, Any], taken: Mapping[str, Any] | tuple[str, ...], lose: Lose
) -> dict[str, Any]:
    """Other keys of a row, without those that mean something else in the target."""
    clash = sorted(key for key in extra if key in taken)
    if clash:
        lose("extra", f"{', '.join(clash)[:60]}, which means something else there")
    return {key: value for key, value in extra.items() if key not in taken}


def plain_text(message: Message) -> str:
    """The content of a message that was reduced to text."""
    content = message.get("content")
    return content if isinstance(content, str) else ""
