"""Converting there and back: nothing is lost that was not named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unift
from tests.data.rich import chats, meaning, pairs
from tests.data.rows import load, save
from unift.data.formats import FORMATS, LOSSES
from unift.errors import DataError

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("convert")


HOME = {"chat": "openai-chat", "preference": "openai-preference", "reinforcement": "openai-rft"}
ROWS = {
    "openai-chat": chats(),
    "openai-preference": pairs(),
    "openai-rft": chats(ends_with="user").map(lambda row: {**row, "answer": "4"}),
}


@pytest.mark.parametrize("to", sorted(FORMATS))
@QUIET
@given(data=st.data())
def test_a_conversion_keeps_everything_or_names_what_goes(
    folder: Path, to: str, data: st.DataObject
) -> None:
    source = HOME[FORMATS[to].kind]
    row = data.draw(ROWS[source])
    given_, there, back = save(folder / "a.jsonl", [row]), folder / "b.jsonl", folder / "c.jsonl"
    there.unlink(missing_ok=True)
    try:
        unift.convert(given_, there, to=to, source=source)
    except DataError as error:
        assert not there.exists()
        if {finding.code for finding in error.findings} != {"UD907"}:
            assert not unift.validate(given_, format=source).ok
            return
        done = unift.convert(given_, there, to=to, source=source, drop=LOSSES)
        assert done.lost
        assert done.rows + len(done.left_out) == 1
        # Exactly what was named has to be given up.
        unift.convert(given_, there, to=to, source=source, drop=done.lost)
        assert not done.rows or good(there, to)
        return
    assert good(there, to)
    unift.convert(there, back, to=source, source=to)
    assert [meaning(one) for one in load(back)] == [meaning(row)]


def good(path: Path, form: str) -> bool:
    report = unift.validate(path, format=form)
    return report.ok or report.counts.keys() <= {"UD500"}  # an answer that was an image, dropped
