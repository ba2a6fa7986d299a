"""The code table and the code agree, both ways."""

from __future__ import annotations

import re
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
