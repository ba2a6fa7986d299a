"""Answers that call tools: the right tool, with the right arguments.

Calls travel as the text of `unift.evaluate._rows.calls_text`, so that these are metrics like any
other. Calls are compared in order, because the second often needs the first. A row whose target is
text asks for no call: there, not calling is right, whatever the text says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from unift.evaluate._json_fields import fields, parse_json


def calls_of(text: str) -> list[tuple[str, Any]]:
    """(name, arguments) of each call in a text of calls; none in any other text."""
    if not text.startswith('[{"name": '):
        return []
    parsed = parse_json(text)
    if not isinstance(parsed, list):
        return []
    found: list[tuple[str, Any]] = []
    for one in cast("list[Any]", parsed):
        if not isinstance(one, dict) or set(cast("dict[str, Any]", one)) != {"name", "arguments"}:
            return []
        call = cast("dict[str, Any]", one)
        found.append((str(call["name"]), call["arguments"]))
    return found


def tool_names(answer: str, target: str) -> float:
    """1 if the same tools are called in the same order."""
    return float([n for n, _ in calls_of(answer)] == [n for n, _ in calls_of(target)])


def tool_arguments(answer: str, target: str) -> float:
    """Right arguments / (arguments wanted and given together), over calls of the same place.

    An argument of a call to another tool is wrong. Values are compared as JSON, nested ones leaf by
    leaf. 1 where no call was wanted and none was made.
    """
    wanted, given = _arguments(target), _arguments(answer)
    paths = wanted.keys() | given.keys()
    same = sum(1 for path in paths if path in wanted and given.get(path) == wanted[path])
    return same / len(paths) if paths else 1.0


def tool_calls(answer: str, target: str) -> float:
    """1 if the same tools are called in the same order with the same arguments."""
    return float(tool_names(answer, target) == 1.0 and tool_arguments(answer, target) == 1.0)


def _arguments(text: str) -> dict[tuple[int, str, str], str]:
    found: dict[tuple[int, str, str], str] = {}
    for number, (name, arguments) in enumerate(calls_of(text)):
        leaves = (
            fields(arguments) if isinstance(arguments, Mapping) else {"": json.dumps(arguments)}
        )
        # A call without arguments still has to be made.
        found[number, name, "(call)"] = "made"
        for path, value in leaves.items():
            found[number, name, path] = value
    return found
