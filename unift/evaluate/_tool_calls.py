"""Answers that call tools: the right tool, with the right arguments.

Calls travel as the text of `unift.evaluate._rows.calls_text`, so that these are metrics like any
other. The calls of one message are made side by side, none sees the result of another, so their
order says nothing (as in the parallel calls of the Berkeley Function-Calling Leaderboard, Patil et
al. 2025). A row whose target is text asks for no call: there, not calling is right, whatever the
text says.
"""

from __future__ import annotations

import json
from collections import Counter
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
    """1 if the same tools are called, each as often."""
    return float(Counter(n for n, _ in calls_of(answer)) == Counter(n for n, _ in calls_of(target)))


def tool_arguments(answer: str, target: str) -> float:
    """Right arguments / (arguments wanted and given together), over calls of the same tool.

    Of several calls of one tool those that agree most belong together. An argument of a call to
    another tool is wrong. Values are compared as JSON, nested ones leaf by leaf. 1 where no call
    was wanted and none was made.
    """
    wanted, given = _calls(target), _calls(answer)
    likest = sorted(
        ((_agreeing(w, g), -i, -j) for i, w in enumerate(wanted) for j, g in enumerate(given)),
        reverse=True,
    )
    same, met_i, met_j, shared = 0, set[int](), set[int](), 0
    for agreeing, i, j in likest:
        if agreeing and -i not in met_i and -j not in met_j:
            met_i.add(-i)
            met_j.add(-j)
            same += agreeing
            shared += len(wanted[-i].keys() & given[-j].keys())
    paths = sum(map(len, wanted)) + sum(map(len, given)) - shared
    return same / paths if paths else 1.0


def tool_calls(answer: str, target: str) -> float:
    """1 if the same tools are called with the same arguments."""
    return float(tool_names(answer, target) == 1.0 and tool_arguments(answer, target) == 1.0)


def _agreeing(wanted: dict[tuple[str, str], str], given: dict[tuple[str, str], str]) -> int:
    return sum(1 for path, value in wanted.items() if given.get(path) == value)


def _calls(text: str) -> list[dict[tuple[str, str], str]]:
    """Of each call (name, path) -> value, and that it was made, which counts without arguments."""
    found: list[dict[tuple[str, str], str]] = []
    for name, arguments in calls_of(text):
        leaves = (
            fields(arguments) if isinstance(arguments, Mapping) else {"": json.dumps(arguments)}
        )
        made = {(name, "(call)"): "made"}
        found.append(made | {(name, path): value for path, value in leaves.items()})
    return found
