"""The place of what a decoder passes over: path, column and caret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unift.data import Finding, validate

HEAD = '{"messages": [{"role": "user", "content": "NaN and -Infinity, 1e999"}, '


def found(tmp_path: Path, line: str) -> list[Finding]:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    return [one for one in validate(path).findings if one.code in ("UD102", "UD103", "UD104")]


@pytest.mark.parametrize(
    ("tail", "code", "path", "at"),
    [
        (
            '{"role": "assistant", "content": "a", "content": "b", "name": "content"}]}',
            "UD102",
            "messages[1].content",
            '"content": "b"',
        ),
        (
            '{"role": "assistant", "content": "a", "c\\u006fntent": "b"}]}',
            "UD102",
            "messages[1].content",
            '"c\\u006f',
        ),
        (
            '{"role": "assistant", "content": "NaN", "weight": NaN}]}',
            "UD103",
            "messages[1].weight",
            "NaN}]",
        ),
        (
            '{"role": "assistant", "content": "x"}], "meta": {"b": [1, -Infinity]}}',
            "UD103",
            "meta.b[1]",
            "-Infinity]",
        ),
        (
            '{"role": "assistant", "content": "x"}], "a": [{}, {"n": 1e999}]}',
            "UD104",
            "a[1].n",
            "1e999}",
        ),
        (
            '{"role": "assistant", "content": "x"}], "n": 18446744073709551616}',
            "UD104",
            "n",
            "18446744073709551616",
        ),
    ],
)
def test_the_place_is_that_of_the_fault(
    tmp_path: Path, tail: str, code: str, path: str, at: str
) -> None:
    line = HEAD + tail
    [one] = found(tmp_path, line)
    assert (one.code, one.path) == (code, path)
    assert line[one.column - 1 :].startswith(at)
    shown, caret = one.excerpt.splitlines()
    assert shown[caret.index("^") :].startswith(at[:20])


def test_each_number_that_is_none_has_its_own_place(tmp_path: Path) -> None:
    line = HEAD + '{"role": "assistant", "content": "x"}], "p": [NaN, 1, NaN], "q": NaN}'
    assert [one.path for one in found(tmp_path, line)] == ["p[0]", "p[2]", "q"]


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.floats(allow_nan=False)
    | st.text('a\\"{[,:'),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('ab\\"', max_size=3), inner)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=60)
@given(before=values, after=values)
def test_the_path_leads_to_the_number_whatever_is_around_it(before: object, after: object) -> None:
    from unift.data._walk import odd_places

    text = json.dumps({"x": [before, {"here": float("nan")}, after]}, allow_nan=True)
    infinite = [one for one in odd_places(text) if one.word == "NaN"]
    assert [(one.path, text[one.at :][:3]) for one in infinite] == [(("x", 1, "here"), "NaN")]
