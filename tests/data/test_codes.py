"""The code table and the code agree, both ways."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

import unift.data
from unift.data import codes, explain, validate

SOURCES = [
    path for path in Path(unift.data.__file__).parent.rglob("*.py") if path.name != "rendering.py"
]
USED = {code for path in SOURCES for code in re.findall(r'"(UD\d{3})"', path.read_text("utf-8"))}


def test_every_code_in_use_is_in_the_table() -> None:
    assert set(codes()) >= USED


def test_every_code_in_the_table_is_in_use() -> None:
    assert set(codes()) <= USED


@pytest.mark.parametrize("code", codes())
def test_a_code_says_why_shows_an_example_and_helps(code: str) -> None:
    entry = explain(code)
    assert entry.severity in ("error", "warning", "advice")
    assert len(entry.title) < 60
    assert entry.reason.endswith(".")
    assert entry.example.strip()
    assert entry.fix
    assert set(entry.refused_by) <= {"openai", "azure", "google"}


def test_an_unknown_code_is_an_error() -> None:
    with pytest.raises(KeyError):
        explain("UD999")


def test_every_code_has_a_page_made_from_the_table(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "docs" / "make_codes.py"
    writer = runpy.run_path(str(script))["write_codes"]
    writer(tmp_path)
    index = (tmp_path / "index.md").read_text("utf-8")
    assert {path.stem for path in tmp_path.glob("UD*.md")} == set(codes())
    for code in codes().values():
        page = (tmp_path / f"{code.code}.md").read_text("utf-8")
        assert page.startswith(f"# {code.code}: {code.title}\n")
        for words in (code.reason, code.example.strip(), code.fix[1:]):
            assert words in page
        assert f"({code.code}.md)" in index


HI, YO = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello there."}
TOOL = '{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}'
# The first key of a fragment -> what it is a part of: {} is the fragment.
INSIDE = {
    "content": '{"role": "assistant", {}}',
    "tool_calls": '{"role": "assistant", {}}',
    "url": '{"role": "user", "content": [{"type": "image_url", "image_url": {{}}}]}',
    "detail": '{"role": "user", "content": [{"type": "image_url", "image_url":'
    ' {"url": "https://example.com/a.png", {}}}]}',
    "arguments": '{"role": "assistant", "tool_calls": [{"id": "c", "type": "function",'
    ' "function": {"name": "f", {}}}]}',
    "name": '{"role": "assistant", "tool_calls": [{"id": "c", "type": "function",'
    ' "function": {"arguments": "{}", {}}}]}'.replace('"{}"', '"{ }"'),
    "parameters": '{"messages": [HI, YO], "tools":'
    ' [{"type": "function", "function": {"name": "g", {}}}]}',
    "tools": '{"messages": [HI, YO], {}}',
    "parallel_tool_calls": '{"messages": [HI, YO], {}}',
    "preferred_output": '{"input": {"messages": [HI]}, {}, "non_preferred_output": [YO]}',
}


def shown(example: str) -> str | None:
    """The row that an example is, or is a part of; None for an example in words."""
    text = example.strip()
    if not text.startswith(("{", '"', "[")) or "..." in text or " while " in text:
        return None
    if text.startswith('"'):
        text = INSIDE[text.split('"')[1]].replace("{}", text)
    if text.startswith(('{"role"', '{"content"')):
        others = "[HI, {}]" if '"role": "assistant"' in text else "[{}, YO]"
        text = '{"messages": ' + others.replace("{}", text) + f', "tools": [{TOOL}]}}'
    return text.replace("HI", json.dumps(HI)).replace("YO", json.dumps(YO))


@pytest.mark.parametrize("code", [code for code in codes() if shown(explain(code).example)])
def test_the_example_of_a_code_gives_that_code(tmp_path: Path, code: str) -> None:
    row = shown(explain(code).example)
    assert row is not None
    keys = ("contents", "input", "completions")
    first = "" if any(f'"{key}"' in row for key in keys) else json.dumps({"messages": [HI, YO]})
    path = tmp_path / "a.jsonl"
    path.write_text(f"{first}\n{row}\n", encoding="utf-8")
    assert code in validate(path, provider="openai", deep=code[2] == "8").counts


def test_a_code_whose_example_is_in_words_is_shown_by_a_test() -> None:
    here = Path(__file__).parent
    tested = {path.name[:5] for path in (here / "bad").iterdir()}
    for path in here.glob("test_*.py"):
        tested.update(re.findall(r"UD\d{3}", path.read_text("utf-8")))
    assert set(codes()) <= tested
