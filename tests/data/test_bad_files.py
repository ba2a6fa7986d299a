"""Each file under ``bad/`` has one fault; its name says which code is found, and on which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from unift.data import codes, validate
from unift.errors import DataError

BAD = sorted((Path(__file__).parent / "bad").iterdir())
# True of nearly every file here: they are small, and those of other formats are not chat.
SMALL = {"UD700", "UD701", "UD906"}


def expected(path: Path) -> tuple[str, int]:
    code, line, _ = path.name.split("-", 2)
    return code, int(line)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_the_fault_is_found_where_it_is_and_nothing_else_is(path: Path) -> None:
    report = validate(path)
    found = [(f.code, f.line) for f in report.findings if f.code not in SMALL]
    assert found == [expected(path)]


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_finding_tells_what_where_and_what_to_do(path: Path) -> None:
    finding = next(f for f in validate(path).findings if f.code == expected(path)[0])
    assert finding.message.endswith(".")
    assert finding.fix
    assert finding.file == str(path)
    assert "\n" not in finding.message


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_errors_and_only_errors_make_the_report_bad(path: Path) -> None:
    report = validate(path)
    if codes()[expected(path)[0]].severity == "error":
        with pytest.raises(DataError) as caught:
            report.raise_if_bad()
        assert caught.value.exit_status == 3
        assert expected(path)[0] in str(caught.value)
    else:
        report.raise_if_bad()


def test_the_corpus_is_not_shrinking() -> None:
    assert len(BAD) >= 200
