"""Answers that are JSON, compared field by field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

# Chat models like to wrap JSON in a Markdown fence; whoever calls them strips it, so do we, for
# every candidate alike.
_FENCE = re.compile(r"\A\s*```[a-zA-Z]*\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
# "Here is the JSON:", the fence, "Let me know ...": as easily taken off, where there is but one.
_WITHIN = re.compile(
    r"^[ \t]*```[a-zA-Z]*[ \t]*\n(.*?)\n[ \t]*```[ \t]*$", re.DOTALL | re.MULTILINE
)

_INVALID: Any = object()


def parse_json(text: str) -> Any:
    """The JSON value of a text, or a sentinel that equals nothing when it is not JSON."""
    fenced = _FENCE.match(text)
    try:
        return json.loads(fenced.group(1) if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # broken, NaN/Infinity, or nested beyond reason
        return _INVALID


def find_json(answer: str) -> Any:
    """As `parse_json`, also where words stand around the only Markdown fence."""
    value = parse_json(answer)
    if value is _INVALID and answer.count("```") == 2 and (fenced := _WITHIN.search(answer)):
        return parse_json(fenced.group(1))
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def is_json(text: str) -> bool:
    """Whether a text is JSON, with or without a Markdown fence around it."""
    return parse_json(text) is not _INVALID


def json_valid(answer: str, target: str) -> float:
    """1 if the answer is one JSON object (or array, where the target is one)."""
    wanted = list if isinstance(parse_json(target), list) else dict
    return float(isinstance(parse_json(answer), wanted))


def json_fields(answer: str, target: str) -> float:
    """Right fields / (fields of the target and of the answer together).

    A field is a path to a value that is no object, such as ``address.city``; lists are compared as
    a whole, strings after collapsing white space, numbers by value. An invented field counts as
    wrong, like a missing one. 0 when the answer is no JSON.
    """
    wanted, given = parse_json(target), find_json(answer)
    if given is _INVALID or wanted is _INVALID:
        return 0.0
    left, right = fields(wanted), fields(given)
    paths = left.keys() | right.keys()
    same = sum(1 for path in paths if path in left and path in right and left[path] == right[path])
    return same / len(paths) if paths else 1.0


def field_f1(answer: str, target: str) -> float:
    """Harmonic mean of precision and recall over fields, as `json_fields` compares them.

    2 * right / (fields of the target + fields of the answer); 0 when the answer is no JSON.
    """
    wanted, given = parse_json(target), find_json(answer)
    if given is _INVALID or wanted is _INVALID:
        return 0.0
    left, right = fields(wanted), fields(given)
    same = sum(1 for path in left if path in right and left[path] == right[path])
    return 2 * same / (len(left) + len(right)) if left or right else 1.0


def fields(value: Any) -> dict[str, str]:
    """Path -> canonical value, for every leaf of a JSON value. An empty object is a leaf."""
    found: dict[str, str] = {}
    _collect(value, "", found)
    return found


def _collect(value: Any, path: str, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, Any]", value).items():
            # Quoted where two paths could look alike: {"a.b": 1, "a": {"b": 2}}.
            odd = not key or "." in key or key[0] in '"('
            name = json.dumps(key, ensure_ascii=False) if odd else key
            _collect(inner, f"{path}.{name}" if path else name, found)
    else:
        found[path or "(value)"] = json.dumps(_canonical(value), sort_keys=True)


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return " ".join(value.split())
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 12.0 and 12 are the same number
    if isinstance(value, list):
        return [_canonical(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


def field_table(
    answers: Mapping[str, Sequence[str]], targets: Sequence[str]
) -> list[dict[str, Any]]:
    """Per field of the targets: how often it was wanted and how often each candidate had it right.

    Args:
        answers: Candidate -> its answers, each of shape (n,), in the order of `targets`.
        targets: Shape (n,).

    Returns:
        Rows ``{"field", "n", "right": {candidate: share}}``, fields in order of first appearance.
        Fields that only answers have are not listed; `json_fields` counts them as wrong.
    """
    wanted = [fields(parsed) for parsed in map(parse_json, targets) if parsed is not _INVALID]
    rows = [i for i, target in enumerate(targets) if parse_json(target) is not _INVALID]
    given: dict[str, list[dict[str, str]]] = {}
    for name, texts in answers.items():
        parsed_answers = [find_json(texts[i]) for i in rows]
        given[name] = [{} if p is _INVALID else fields(p) for p in parsed_answers]
    table: list[dict[str, Any]] = []
    for path in dict.fromkeys(path for target in wanted for path in target):
        having = [i for i, target in enumerate(wanted) if path in target]
        table.append(
            {
                "field": path,
                "n": len(having),
                "right": {
                    name: sum(g[i].get(path) == wanted[i][path] for i in having) / len(having)
                    for name, g in given.items()
                },
            }
        )
    return table
