"""Preference rows (``input``, ``preferred_output``, ``non_preferred_output``): form and size.

Shape as in OpenAI's guide "Direct preference optimization" (read 2026-11): outputs hold assistant
and tool messages only, with at least one of the assistant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unift.errors import DataError

_CHARACTERS_PER_TOKEN = 4  # OpenAI's rule of thumb for English


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: str
    content: Any = None


class _Output(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Literal["assistant", "tool"]
    content: Any = None


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")

    messages: list[_Message] = Field(min_length=1)
    tools: list[dict[str, Any]] = []
    parallel_tool_calls: bool | None = None


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid")

    input: _Input
    preferred_output: list[_Output] = Field(min_length=1)
    non_preferred_output: list[_Output] = Field(min_length=1)

    @model_validator(mode="after")
    def _differs(self) -> _Row:
        for output in (self.preferred_output, self.non_preferred_output):
            if not any(message.role == "assistant" for message in output):
                raise ValueError("an output needs a message of the assistant")
        if self.preferred_output == self.non_preferred_output:
            raise ValueError("both outputs are the same, so nothing is preferred")
        return self


def check(content: bytes, path: Path, least: int) -> tuple[int, int]:
    """Check every row.

    Returns:
        (rows, tokens as a rough estimate from characters).

    Raises:
        DataError: The first bad row, with its line, and how many there are.
    """
    rows = characters = bad = 0
    first: DataError | None = None
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        rows += 1
        characters += len(line)
        try:
            _Row.model_validate_json(line)
        except ValidationError as error:
            bad += 1
            what = error.errors()[0]
            place = ".".join(str(part) for part in what["loc"])
            first = first or DataError(
                f"{place + ': ' if place else ''}{what['msg']}.",
                code="bad_preference_row",
                where=f"{path}:{number}",
                fix='give {"input": {"messages": [...]}, "preferred_output": [{"role": "assistant",'
                ' ...}], "non_preferred_output": [...]}',
            )
    if first is not None:
        first.message += f" There are {bad} bad rows in all." if bad > 1 else ""
        raise first
    if rows < least:
        raise DataError(
            f"There are {rows} rows, at least {least} are needed.",
            code="too_few_rows",
            where=str(path),
            fix="add rows",
        )
    return rows, characters // _CHARACTERS_PER_TOKEN
