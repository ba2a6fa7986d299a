"""Answers that are JSON, compared field by field."""

from __future__ import annotations

import json
import re
from collections import Counter
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

_DEEPEST = 64
# Of more pairs of unequal items only those at like places are looked at.
_MOST_PAIRS = 2_500
_PARTS = (dict, list)
# Places in the paths of a list, which a table counts together.
_PLACE = re.compile(r"\[\d+\](?=[.\[]|\Z)")


def parse_json(text: str) -> Any:
    """The JSON value of a text, or a sentinel that equals nothing when it is not JSON."""
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # broken, NaN/Infinity, or nested beyond reason
        return _INVALID
    return value if _is_shallow(value) else _INVALID


def _is_shallow(value: Any) -> bool:
    """Whether a value is nested no deeper than whoever walks it can go."""
    level = [value]
    for _ in range(_DEEPEST):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += cast("dict[str, Any]", one).values()
            elif isinstance(one, list):
                inner += cast("list[Any]", one)
        if not inner:
            return True
        level = inner
    return False


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
    """1 if the answer is one JSON object (or array, where the target is one; or no JSON, where the
    target is none)."""
    wanted, given = parse_json(target), parse_json(answer)
    if wanted is _INVALID and target.strip():
        return float(given is _INVALID)
    return float(isinstance(given, list if isinstance(wanted, list) else dict))


def json_fields(answer: str, target: str) -> float:
    """Right fields / (fields of the target and of the answer together).

    A field is a path to a value, such as ``address.city`` or ``tags[0]``; strings are compared
    after collapsing white space, numbers by value, and a list of numbers (a place, a span) is one
    value. Items of other lists are fields of their own, matched in any order, those first that
    agree most. An invented field counts as wrong, like a missing one. 0 when the answer is no JSON.
    Where the target is none ("Not found."), 1 for the same text.
    """
    wanted, given = parse_json(target), find_json(answer)
    if wanted is _INVALID:
        return float(answer.split() == target.split())
    if given is _INVALID:
        return 0.0
    left, right = fields(wanted), fields(_aligned(given, wanted))
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
    left, right = fields(wanted), fields(_aligned(given, wanted))
    same = sum(1 for path in left if path in right and left[path] == right[path])
    return 2 * same / (len(left) + len(right)) if left or right else 1.0


def same_json(answer: str, target: str) -> bool:
    """Whether both are the same data; the order of lists counts, that of keys does not."""
    wanted, given = parse_json(target), find_json(answer)
    if given is _INVALID or wanted is _INVALID:
        return False
    return _canonical_text(given) == _canonical_text(wanted)


def fields(value: Any) -> dict[str, str]:
    """Path -> canonical value, for every leaf of a JSON value.

    An empty object or list is a leaf, and so is a list of numbers.
    """
    found: dict[str, str] = {}
    _collect(value, "", found)
    return found


def _collect(value: Any, path: str, found: dict[str, str]) -> None:
    if isinstance(value, dict) and value:
        for key, inner in cast("dict[str, Any]", value).items():
            # Quoted where two paths could look alike: {"a.b": 1, "a": {"b": 2}}.
            odd = not key or "." in key or "[" in key or key[0] in '"('
            name = json.dumps(key, ensure_ascii=False) if odd else key
            _collect(inner, f"{path}.{name}" if path else name, found)
    elif isinstance(value, list) and not _numbers(cast("list[Any]", value)):
        for place, inner in enumerate(cast("list[Any]", value)):
            if inner is not _INVALID:
                _collect(inner, f"{path}[{place}]", found)
    else:
        found[path or "(value)"] = _canonical_text(value)


def _aligned(given: Any, wanted: Any) -> Any:
    """`given` with the items of its lists where the items of `wanted` are that they fit best.

    A place that nothing fits stays empty, and items that fit nowhere follow after all others.
    """
    if isinstance(given, dict) and isinstance(wanted, dict):
        known = cast("dict[str, Any]", wanted)
        return {
            key: _aligned(value, known[key]) if key in known else value
            for key, value in cast("dict[str, Any]", given).items()
        }
    if not isinstance(given, list) or not isinstance(wanted, list):
        return cast(Any, given)
    items, places = cast("list[Any]", given), cast("list[Any]", wanted)
    if _numbers(places):
        return items
    found: list[Any] = [_INVALID] * len(places)
    where: dict[str, list[int]] = {}
    for j in reversed(range(len(places))):
        where.setdefault(_canonical_text(places[j]), []).append(j)
    left: dict[int, Any] = {}
    for i, item in enumerate(items):  # equal ones fit best, and are most of them
        same = where.get(_canonical_text(item))
        if same:
            found[same.pop()] = item
        else:
            left[i] = item
    _fit(left, places, found)
    return [*found, *left.values()]


def _fit(left: dict[int, Any], places: list[Any], found: list[Any]) -> None:
    """Move items to the places that are free, those first that agree most with what is there.

    Only objects and lists can agree in part; too many of them go by their order.
    """
    free = [j for j, one in enumerate(found) if one is _INVALID and isinstance(places[j], _PARTS)]
    parts = [i for i, one in left.items() if isinstance(one, _PARTS)]
    if len(parts) * len(free) > _MOST_PAIRS:
        pairs = list(zip(parts, free, strict=False))
    else:
        pairs = [(i, j) for i in parts for j in free]
    tried = {(i, j): _tried(left[i], places[j]) for i, j in pairs}
    for i, j in sorted(pairs, key=lambda pair: (-tried[pair][0], pair)):
        if tried[i, j][0] and i in left and found[j] is _INVALID:
            found[j] = tried[i, j][1]
            del left[i]


def _tried(item: Any, place: Any) -> tuple[int, Any]:
    """How many fields of an item are right at a place; and the item, aligned with it."""
    there = _aligned(item, place)
    given = fields(there)
    return sum(given.get(path) == value for path, value in fields(place).items()), there


def _numbers(items: list[Any]) -> bool:
    return all(isinstance(one, int | float) and not isinstance(one, bool) for one in items)


def _canonical_text(value: Any) -> str:
    return json.dumps(_canonical(value), sort_keys=True)


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
        Rows ``{"field", "n", "right": {candidate: share}}``, fields in order of first appearance;
        the items of a list are one field, ``tags[]``. Fields that only answers have are not
        listed; `json_fields` counts them as wrong.
    """
    wanted = {i: parsed for i, t in enumerate(targets) if (parsed := parse_json(t)) is not _INVALID}
    counts: Counter[str] = Counter()
    right: dict[str, Counter[str]] = {name: Counter() for name in answers}
    for i, value in wanted.items():
        leaves = fields(value)
        counts.update(_PLACE.sub("[]", path) for path in leaves)
        for name, texts in answers.items():
            parsed = find_json(texts[i])
            given = {} if parsed is _INVALID else fields(_aligned(parsed, value))
            right[name].update(
                _PLACE.sub("[]", path) for path, leaf in leaves.items() if given.get(path) == leaf
            )
    return [
        {"field": name, "n": n, "right": {one: right[one][name] / n for one in answers}}
        for name, n in counts.items()
    ]
