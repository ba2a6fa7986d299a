"""The code table and the code agree, both ways."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import unift.data
from unift.data import codes, explain

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
