"""Typed shapes of plain rows: what a decoder in C takes of each format, and no more.

A row has a shape if it has the keys that nearly all rows of its format have, and one text where a
text belongs. It is then the same conversation that the format's own reader (`formats`) makes of it.
Rows with tools, images or (but in chat) weights have none; they go the slow way, as do rows with
further keys that are no notes (`_notes`).
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import attrgetter
from typing import Any, Literal, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

#: What decoding raises for a row that has not the shape.
NOT_PLAIN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Strict(Struct, forbid_unknown_fields=True, gc=False):
    pass


class _Said(_Strict, tag_field="role"):
    content: str


class System(_Said, tag="system"):
    pass


class _Developer(_Said, tag="developer"):
    pass


class User(_Said, tag="user"):
    pass


class _Weighted(_Said, tag="assistant"):
    weight: Literal[0, 1] | UnsetType = UNSET


class Assistant(_Said, tag="assistant"):
    pass


# Fields are renamed where they are declared.
class _Shared(_Strict, tag_field="from", rename={"content": "value"}):
    pass


class _SharedSystem(_Shared, tag="system"):
    content: str


class _Human(_Shared, tag="human"):
    content: str


class _SharedUser(_Shared, tag="user"):
    content: str


class _Gpt(_Shared, tag="gpt"):
    content: str


class _SharedAssistant(_Shared, tag="assistant"):
    content: str


class _Text(_Strict):
    text: str


class _InParts(_Strict, tag_field="role"):
    parts: tuple[_Text]

    @property
    def content(self) -> str:
        return self.parts[0].text


class _GeminiUser(_InParts, tag="user"):
    pass


class _Model(_InParts, tag="model"):
    pass


#: A message; its type tells who speaks.
Message = (
    System | _Developer | User | _Weighted | Assistant
    | _SharedSystem | _Human | _SharedUser | _Gpt | _SharedAssistant | _GeminiUser | _Model
)  # fmt: skip
Messages = tuple[Message, ...]
ROLES: dict[type, str] = {
    System: "system",
    _Developer: "developer",
    User: "user",
    _Weighted: "assistant",
    Assistant: "assistant",
    _SharedSystem: "system",
    _Human: "user",
    _SharedUser: "user",
    _Gpt: "assistant",
    _SharedAssistant: "assistant",
    _GeminiUser: "user",
    _Model: "assistant",
}
ANSWERS = frozenset(kind for kind, role in ROLES.items() if role == "assistant")
INSTRUCT = frozenset(kind for kind, role in ROLES.items() if role in ("system", "developer"))


# Rows. Tuples have no room to spare.
class _Chat(_Strict):
    messages: tuple[System | _Developer | User | _Weighted, ...]


class _ShareGpt(_Strict):
    conversations: tuple[_SharedSystem | _Human | _SharedUser | _Gpt | _SharedAssistant, ...]
    system: str | UnsetType = UNSET


class _Completion(_Strict):
    prompt: str
    completion: str


class _Alpaca(_Strict):
    instruction: str
    output: str
    input: str | UnsetType = UNSET
    system: str | UnsetType = UNSET


class _Instruction(_Strict):
    parts: tuple[_Text]
    role: str | UnsetType = UNSET


class _Gemini(_Strict):
    contents: tuple[_GeminiUser | _Model, ...]
    systemInstruction: _Instruction | UnsetType = UNSET  # Google's name


class _Input(_Strict):
    messages: tuple[System | _Developer | User | Assistant, ...]


class _Preference(_Strict):
    input: _Input
    preferred_output: tuple[Assistant]
    non_preferred_output: tuple[Assistant]


class _Scored(_Strict):
    score: float
    completion: _Model


class _GeminiPreference(_Strict):
    contents: tuple[_GeminiUser | _Model, ...]
    completions: tuple[_Scored, _Scored]
    systemInstruction: _Instruction | UnsetType = UNSET


class _Trl(_Strict):
    prompt: str
    chosen: str
    rejected: str


class _TrlChat(_Strict):
    prompt: tuple[System | _Developer | User | Assistant, ...]
    chosen: tuple[Assistant]
    rejected: tuple[Assistant]


class _TrlImplicit(_Strict):
    chosen: tuple[System | _Developer | User | Assistant, ...]
    rejected: tuple[System | _Developer | User | Assistant, ...]


@dataclass(frozen=True)
class Shape:
    """The plain rows of a format.

    Attributes:
        row: Type of a row.
        said: Its conversation, of two answers with the preferred one.
        turns: Its list by whose length the numbers below go.
        strings: Strings of a row (keys and values) beside turns, and for each turn.
        brackets: Opening brackets and braces, likewise.
        more: Strings of keys that a row need not have; at least 0.
        rejected: The other answer, if there are two.
        key: Of the list that is the conversation, if there is one.
        weights: True if answers may have a weight; `more` counts them.
        others: Further shapes that plain rows of the format have.
    """

    row: type[Struct]
    said: Callable[[Any], Messages]
    turns: Callable[[Any], Sized]
    strings: tuple[int, int]
    brackets: tuple[int, int]
    more: Callable[[Any], int] | None = None
    rejected: Callable[[Any], Message] | None = None
    key: str = ""
    weights: bool = False
    others: tuple[Shape, ...] = ()

    @cached_property
    def decoder(self) -> msgspec.json.Decoder[Any]:
        return decoder(self.row)


@lru_cache(64)
def decoder(row: type[Struct]) -> msgspec.json.Decoder[Any]:
    """The decoder of a type of rows."""
    return msgspec.json.Decoder(row)


@lru_cache(32)
def alike(
    key: str, kinds: tuple[type, ...], system: str | None, base: type[Struct] = _Strict
) -> msgspec.json.Decoder[Any]:
    """A decoder of rows that all have these speakers and, if given, this system prompt first.

    It need not tell speakers apart, and makes one text of all system prompts.
    """
    if system is not None:
        content: Any = cast("Any", Literal)[system]
        kinds = (msgspec.defstruct("Alike", [("content", content)], bases=kinds[:1]), *kinds[1:])
    turns = tuple.__class_getitem__(kinds)
    row = msgspec.defstruct("Row", [(key, turns)], bases=(base,), kw_only=True)
    return msgspec.json.Decoder(row)


def _weights(row: _Chat) -> int:
    return sum(type(one) is _Weighted and one.weight is not UNSET for one in row.messages)


def _shared(row: _ShareGpt) -> Messages:
    return (System(row.system), *row.conversations) if row.system else row.conversations


def _completion(row: _Completion) -> Messages:
    return User(row.prompt), Assistant(row.completion)


def _alpaca(row: _Alpaca) -> Messages:
    asked, given = row.instruction, row.input
    question = User((f"{asked}\n{given}" if asked else given) if given else asked)
    if row.system:
        return System(row.system), question, Assistant(row.output)
    return question, Assistant(row.output)


def _gemini(row: _Gemini | _GeminiPreference) -> Messages:
    instruction = row.systemInstruction
    if instruction is UNSET:
        return row.contents
    return System(instruction.parts[0].text), *row.contents


def _instruction(row: _Gemini | _GeminiPreference) -> int:
    instruction = row.systemInstruction
    return 0 if instruction is UNSET else 4 + 2 * (instruction.role is not UNSET)


def _preferred(row: _Preference) -> Messages:
    return *row.input.messages, *row.preferred_output


def _scored(row: _GeminiPreference) -> Messages:
    one, other = row.completions
    if {one.score, other.score} != {0, 1}:
        return ()  # no order of speakers that is right
    return *_gemini(row), (one if one.score else other).completion


def _lower(row: _GeminiPreference) -> Message:
    one, other = row.completions
    return (other if one.score else one).completion


def _implicit(row: _TrlImplicit) -> Messages:
    # The prompt is what both start with; the last of each is an answer in any case.
    if len(row.chosen) < 2 or row.chosen[:-1] != row.rejected[:-1]:
        return ()
    return row.chosen if type(row.rejected[-1]) is Assistant else ()


CHAT = Shape(
    _Chat, attrgetter("messages"), attrgetter("messages"), (1, 4), (2, 1), _weights,
    key="messages", weights=True,
)  # fmt: skip
#: Name of a format -> shape of its plain rows.
SHAPES: dict[str, Shape] = {
    "openai-chat": CHAT,
    "openai-preference": Shape(
        _Preference,
        _preferred,
        attrgetter("input.messages"),
        (12, 4),
        (7, 1),
        rejected=lambda row: row.non_preferred_output[0],
    ),
    "gemini": Shape(
        _Gemini, _gemini, attrgetter("contents"), (1, 5), (2, 3), _instruction, key="contents"
    ),
    "gemini-preference": Shape(
        _GeminiPreference,
        _scored,
        attrgetter("contents"),
        (16, 5),
        (11, 3),
        _instruction,
        rejected=_lower,
    ),
    "trl-preference": Shape(
        _Trl,
        lambda row: (User(row.prompt), Assistant(row.chosen)),
        attrgetter("prompt"),
        (6, 0),
        (1, 0),
        rejected=lambda row: Assistant(row.rejected),
        others=(
            Shape(
                _TrlChat,
                lambda row: (*row.prompt, *row.chosen),
                attrgetter("prompt"),
                (11, 4),
                (6, 1),
                rejected=lambda row: row.rejected[0],
            ),
            Shape(
                _TrlImplicit,
                _implicit,
                attrgetter("chosen"),
                (2, 8),
                (3, 2),
                rejected=lambda row: row.rejected[-1],
            ),
        ),
    ),
    "prompt-completion": Shape(_Completion, _completion, attrgetter("prompt"), (4, 0), (1, 0)),
    "alpaca": Shape(
        _Alpaca,
        _alpaca,
        attrgetter("output"),
        (4, 0),
        (1, 0),
        lambda row: 2 * ((row.input is not UNSET) + (row.system is not UNSET)),
    ),
    "sharegpt": Shape(
        _ShareGpt,
        _shared,
        attrgetter("conversations"),
        (1, 4),
        (2, 1),
        lambda row: 0 if row.system is UNSET else 2,
        key="conversations",
    ),
}
