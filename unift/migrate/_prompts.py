"""Prompts from what a team has: training files, requests, logs, exports, an older golden set."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, cast

from unift.errors import DataError, UsageError
from unift.migrate._golden import Message, Prompt, sampling_of


def read_prompts(
    path: str | Path, sampling: Mapping[str, Any], source: str = ""
) -> Iterator[Prompt]:
    """Every prompt of a JSONL file (plain, ``.gz``, ``.zst``).

    A row may be: a chat example (each assistant turn that carries weight is a prompt of what
    precedes it, with the turn as its truth); ``{"prompt", "completion"}``; a preference pair; a
    request alone or in a batch (``body``); ``{"request", "response"}`` of the proxy's log or of
    stored completions; a line of a golden set. Where a row has its own sampling settings, those
    count; where it has answers of the old model, they are draws that need not be paid again.

    Raises:
        UsageError: The file cannot be read.
        DataError: A row has no prompt; file and line are in `where`.
    """
    file = Path(path).expanduser()
    try:
        with _open(file) as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{file}:{number}"
                try:
                    row: Any = json.loads(line)
                except ValueError as error:
                    raise _bad(f"The line is no JSON: {error}.", where) from error
                yield from prompts_of(row, sampling, where, source)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise UsageError(
            f"The prompts cannot be read: {getattr(error, 'strerror', None) or error}.",
            code="bad_prompts",
            where=str(file),
            fix="give a JSONL file: chat rows, prompts, requests or a log of them",
        ) from error


def prompts_of(
    row: Any, sampling: Mapping[str, Any], where: str, source: str = ""
) -> Iterator[Prompt]:
    """The prompts of one row; see `read_prompts`."""
    if not isinstance(row, dict):
        raise _bad("The row is no JSON object.", where)
    found = cast("dict[str, Any]", row)
    if isinstance(found.get("item"), dict):  # exports of the vendor's evaluation pages
        found = cast("dict[str, Any]", found["item"])
    if isinstance(found.get("draws"), list):
        prompt = Prompt.of_line({**found, "messages": _messages(found.get("messages"), where)})
        yield prompt
    elif isinstance(found.get("request"), dict):
        yield _pair(found, sampling, where, source or str(found.get("source") or "stored"))
    elif isinstance(found.get("body"), dict):
        yield _request(found["body"], sampling, where, source or "file")
    elif isinstance(found.get("input"), dict):
        yield _preference(found, sampling, where, source or "training")
    elif isinstance(found.get("input"), list):
        yield _exported(found, sampling, where, source or "stored")
    elif isinstance(found.get("choices"), list) and found.get("messages"):
        yield _pair({"request": found, "response": found}, sampling, where, source or "stored")
    elif isinstance(found.get("prompt"), str):
        text = found.get("completion")
        truth = {"role": "assistant", "content": text} if isinstance(text, str) else None
        messages: list[Message] = [{"role": "user", "content": found["prompt"]}]
        yield Prompt(messages, [], dict(sampling), source or "file", truth=truth)
    else:
        yield from _chat(found, sampling, where, source)


def _chat(
    row: dict[str, Any], sampling: Mapping[str, Any], where: str, source: str
) -> Iterator[Prompt]:
    messages = _messages(row.get("messages"), where)
    own = sampling_of(row) if "model" in row else {}
    settings = {**sampling, **own}
    turns = [
        index
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and index and row["messages"][index].get("weight") != 0
    ]
    tools = _tools(row)
    for turn in turns:
        yield Prompt(messages[:turn], tools, settings, source or "training", truth=messages[turn])
    if not turns or (messages[-1]["role"] != "assistant" and "model" in row):
        if messages[-1]["role"] == "assistant":
            raise _bad("No assistant turn of the row can be asked for.", where)
        yield Prompt(messages, tools, settings, source or "file")


def _request(body: dict[str, Any], sampling: Mapping[str, Any], where: str, source: str) -> Prompt:
    return Prompt(
        _messages(body.get("messages"), where),
        _tools(body),
        {**sampling, **sampling_of(body)},
        source,
        model=str(body.get("model") or ""),
    )


def _pair(row: dict[str, Any], sampling: Mapping[str, Any], where: str, source: str) -> Prompt:
    """A request with its response. What was really asked counts, not the user's defaults."""
    request = {
        k: v for k, v in row["request"].items() if k not in ("choices", "usage", "id", "object")
    } if row["request"] is row.get("response") else row["request"]  # fmt: skip
    prompt = _request(request, {}, where, source)
    response: Any = row.get("response")
    response = cast("dict[str, Any]", response) if isinstance(response, dict) else {}
    prompt.model = str(request.get("model") or response.get("model") or "")
    at = row.get("at") or _iso(response.get("created"))
    choices = cast("list[Any]", response.get("choices") or [])
    for choice in choices:
        one = cast("dict[str, Any]", choice) if isinstance(choice, dict) else {}
        if not isinstance(one.get("message"), dict):
            continue
        draw = {"message": one["message"], "finish_reason": one.get("finish_reason") or "stop"}
        if one.get("logprobs"):
            draw["logprobs"] = one["logprobs"]
        if response.get("usage") and len(choices) == 1:
            draw["usage"] = response["usage"]
        draw["latency_s"] = row.get("latency_s")
        draw["at"] = f"{at or ''}#{one.get('index', 0)}" if len(choices) > 1 else at
        prompt.draws.append(draw)
    return prompt


def _preference(
    row: dict[str, Any], sampling: Mapping[str, Any], where: str, source: str
) -> Prompt:
    asked = row["input"]
    better = row.get("preferred_output")
    truth = cast("list[Message]", better)[-1] if isinstance(better, list) and better else None
    messages = _messages(asked.get("messages"), where)
    return Prompt(messages, _tools(asked), dict(sampling), source, truth=truth)


def _exported(row: dict[str, Any], sampling: Mapping[str, Any], where: str, source: str) -> Prompt:
    prompt = Prompt(_messages(row["input"], where), _tools(row), dict(sampling), source)
    said = row.get("output")
    if isinstance(said, str):
        said = [{"role": "assistant", "content": said}]
    if isinstance(said, list) and said and isinstance(said[-1], dict):
        message = cast("Message", said[-1])
        draw = {"message": {"role": "assistant", **message}, "finish_reason": "stop"}
        prompt.draws.append({**draw, "latency_s": None, "at": _iso(row.get("created_at"))})
    prompt.model = str(row.get("model") or "")
    return prompt


def _messages(value: Any, where: str) -> list[Message]:
    """Messages without the marks that only training knows."""
    if isinstance(value, list) and value:
        whole = cast("list[Any]", value)
        found = [cast("dict[str, Any]", one) for one in whole if isinstance(one, dict)]
        named = all(isinstance(one.get("role"), str) for one in found)
        if named and len(found) == len(whole):
            return [{k: v for k, v in one.items() if k != "weight"} for one in found]
    raise _bad("The row has no messages with a role each.", where)


def _tools(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    tools = row.get("tools")
    return cast("list[dict[str, Any]]", tools) if isinstance(tools, list) else []


def _iso(stamp: Any) -> str | None:
    if isinstance(stamp, int | float) and not isinstance(stamp, bool):
        return datetime.fromtimestamp(stamp, UTC).isoformat()
    return stamp if isinstance(stamp, str) else None


def _open(file: Path) -> IO[str]:
    if file.suffix == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig")
    if file.suffix in (".zst", ".zstd"):
        import zstandard

        raw = zstandard.ZstdDecompressor().stream_reader(file.open("rb"), closefd=True)
        return io.TextIOWrapper(raw, encoding="utf-8-sig")
    return file.open(encoding="utf-8-sig")


def _bad(message: str, where: str) -> DataError:
    return DataError(
        message,
        code="bad_prompts",
        where=where,
        fix='rows like {"messages": [{"role": "user", "content": "..."}]}; unift validate checks '
        "training files",
    )
