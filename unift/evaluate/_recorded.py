"""Recorded answers as a candidate and as targets: what the old model said while it still answered.

A golden set is a JSONL file; each line holds one prompt and every answer that was drawn for it::

    {"id": "...", "messages": [...], "tools": [...], "sampling": {...}, "model": "...",
     "source": "...", "draws": [{"message": {...}, "finish_reason": "stop", "logprobs": {...},
     "usage": {"prompt_tokens": 9, "completion_tokens": 4}, "latency_s": 0.4, "at": "..."}]}

``messages`` and ``draws[].message`` are needed, the rest is not. Several draws of one prompt show
how far the model agrees with itself, which nobody can be asked to exceed.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from unift.errors import DataError, UsageError
from unift.evaluate._rows import Message, Row, answer_text, plain, prompt_key
from unift.provider import Messages, Reply, Sampling

PREFIX = "recorded:"

_T = TypeVar("_T")


class Recorded:
    """The answers of a golden set; a `Model` that knows these prompts and no other.

    Args:
        file: The golden set, also as ``.gz`` or ``.zst``.

    Raises:
        UsageError: The file cannot be read.
        DataError: A line is no JSON or has no prompt or no answer, or there is no line at all.
    """

    def __init__(self, file: str | Path) -> None:
        self.path = Path(file).expanduser()
        self.reference = f"{PREFIX}{file}"
        data = _read(self.path)
        self.digest = hashlib.sha256(data).hexdigest()
        self._lines: dict[str, _Line] = {}
        self.models: dict[str, int] = {}
        for number, text in enumerate(data.split(b"\n"), 1):
            if text.strip():
                self._add(_Line.parse(text, f"{self.path}:{number}", number))
        if not self._lines:
            raise DataError(
                "The golden set is empty.",
                code="nothing_recorded",
                where=str(self.path),
                fix="record answers first: unift migrate record",
            )
        self._short = {prompt_key(line.prompt): line for line in reversed(self._lines.values())}

    def _add(self, line: _Line) -> None:
        """The same prompt twice is one prompt with the draws of both lines."""
        known = self._lines.setdefault(line.key, line)
        if known is not line:
            known.draws.extend(line.draws)
        if line.model:
            self.models[line.model] = self.models.get(line.model, 0) + 1

    def __len__(self) -> int:
        return len(self._lines)

    def draws(self, prompt: Sequence[Message], tools: Sequence[Message] = ()) -> list[Reply]:
        """Every recorded answer to a prompt, in order; none if it was not recorded.

        The whole prompt has to be the same, or else all of it but the system message.
        """
        line = self._lines.get(_key(prompt, tools)) or self._short.get(prompt_key(prompt))
        return list(line.draws) if line else []

    def rows(self) -> list[Row]:
        """The prompts as test rows, with what was answered as the target."""
        found: list[Row] = []
        for line in self._lines.values():
            texts = [reply_text(reply) for reply in line.draws]
            found.append(
                Row(line.prompt, texts[0], line.number, line.tools, tuple(texts[1:]), line.extra)
            )
        return found

    def chat(self, messages: Messages, sampling: Sampling | None = None) -> Reply:
        """The first recorded answer.

        Raises:
            DataError: This prompt was not recorded.
        """
        known = self.draws(list(messages))
        if not known:
            raise DataError(
                "This prompt is not in the golden set.",
                code="not_recorded",
                where=str(self.path),
                fix="record it while the model still answers: unift migrate record",
            )
        return known[0]

    def chat_many(
        self,
        conversations: Sequence[Messages],
        sampling: Sampling | None = None,
        on_reply: Callable[[int, Reply], None] | None = None,
    ) -> list[Reply]:
        """The first recorded answer of each."""
        replies = [self.chat(one) for one in conversations]
        for index, reply in enumerate(replies if on_reply else ()):
            cast("Callable[[int, Reply], None]", on_reply)(index, reply)
        return replies

    def close(self) -> None:
        """Nothing is held open."""


_open: dict[tuple[str, int, int], Recorded] = {}


def recorded(reference: str) -> Recorded:
    """The golden set behind ``recorded:FILE``, read once for as long as the file is the same."""
    file = Path(reference.removeprefix(PREFIX)).expanduser().absolute()
    try:
        seen = file.stat()
    except OSError as error:
        raise _unreadable(file, str(error.strerror)) from error
    key = (str(file), seen.st_size, seen.st_mtime_ns)
    if key not in _open:
        _open.clear()  # one at a time: they may be large
        _open[key] = Recorded(file)
        _open[key].reference = reference
    return _open[key]


class _Line:
    """One prompt and its answers."""

    def __init__(
        self,
        prompt: tuple[Message, ...],
        tools: tuple[Message, ...],
        draws: list[Reply],
        number: int,
        model: str,
        extra: dict[str, Any],
    ) -> None:
        self.prompt, self.tools, self.draws = prompt, tools, draws
        self.number, self.model, self.extra = number, model, extra
        self.key = _key(prompt, tools)

    @classmethod
    def parse(cls, text: bytes, where: str, number: int) -> _Line:
        try:
            line: Any = json.loads(text)
        except ValueError as error:
            raise _bad(f"The line is no JSON: {error}.", where) from error
        if not isinstance(line, dict):
            raise _bad("The line is no JSON object.", where)
        row = cast("dict[str, Any]", line)
        messages = _list(row.get("messages"), dict[str, Any])
        if not messages:
            raise _bad("The line has no 'messages'.", where)
        draws = [_reply(draw, where) for draw in _list(row.get("draws"), dict[str, Any])]
        if not draws:
            raise _bad("The line has no 'draws': nothing was answered.", where)
        known = {"messages", "tools", "draws"}
        return cls(
            tuple(plain(message) for message in messages),
            tuple(_list(row.get("tools"), dict[str, Any])),
            draws,
            number,
            str(row.get("model") or ""),
            {key: value for key, value in row.items() if key not in known},
        )


def _reply(draw: Mapping[str, Any], where: str) -> Reply:
    message: Any = draw.get("message")
    if not isinstance(message, dict):
        raise _bad("A draw has no 'message'.", where)
    said = cast("dict[str, Any]", message)
    usage: Any = draw.get("usage")
    counts = cast("dict[str, Any]", usage) if isinstance(usage, dict) else {}
    text = answer_text({"content": said.get("content")}) or str(said.get("refusal") or "")
    return Reply(
        text=text,
        tool_calls=tuple(_list(said.get("tool_calls"), dict[str, Any])),
        finish_reason=str(draw.get("finish_reason") or "stop"),
        prompt_tokens=_whole(counts.get("prompt_tokens")),
        completion_tokens=_whole(counts.get("completion_tokens")),
        seconds=_number(draw.get("latency_s")),
        logprob=_logprob(draw.get("logprobs")),
    )


def reply_text(reply: Reply) -> str:
    """What a reply says, as metrics compare it: its tool calls, else its text."""
    return answer_text({"content": reply.text, "tool_calls": reply.tool_calls})


def _logprob(value: Any) -> float | None:
    """The log probability of a whole answer, from the log probabilities of its tokens."""
    tokens: Any = cast("dict[str, Any]", value).get("content") if isinstance(value, dict) else value
    known = [_number(one.get("logprob")) for one in _list(tokens, dict[str, Any])]
    found = [one for one in known if one is not None]
    return math.fsum(found) if found and len(found) == len(known) else None


def _list(value: Any, kind: type[_T]) -> list[_T]:
    plain_kind: Any = getattr(kind, "__origin__", kind)
    if not isinstance(value, list | tuple):
        return []
    return [one for one in cast("Iterable[Any]", value) if isinstance(one, plain_kind)]


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _key(prompt: Iterable[Message], tools: Iterable[Message]) -> str:
    text = json.dumps([list(map(plain, prompt)), list(tools)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            return gzip.decompress(data)
        if path.suffix == ".zst":
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (OSError, EOFError) as error:
        raise _unreadable(path, str(getattr(error, "strerror", None) or error)) from error
    return data


def _unreadable(path: Path, reason: str) -> UsageError:
    return UsageError(
        f"The golden set cannot be read: {reason}.",
        code="bad_recording",
        where=str(path),
        fix="give the file that unift migrate record wrote",
    )


def _bad(message: str, where: str) -> DataError:
    return DataError(
        message,
        code="bad_recording",
        where=where,
        fix='each line needs {"messages": [...], "draws": [{"message": {...}}]}',
    )
