"""`validate(deep=True)`: near duplicates, secrets and personal data, languages."""

from __future__ import annotations

import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from unift.data import Report, validate
from unift.errors import MissingDependency, UsageError

WORDS = Path(__file__).parents[2].joinpath("docs", "architecture.md").read_text("utf-8").split()
ENGLISH = "The parcel was sent on Monday and it should be with you by the end of this week, number "
GERMAN = "Das Paket wurde am Montag verschickt und sollte bis zum Ende der Woche ankommen, Nummer "


def row(question: str, answer: str = "Fine.", system: str = "Be kind.") -> dict[str, Any]:
    texts = (("system", system), ("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": text} for role, text in texts]}


def prose(seed: int, count: int = 80) -> str:
    picked = random.Random(seed)
    return " ".join(picked.choice(WORDS) for _ in range(count)).replace("`", "")


def save(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def found(report: Report, *codes: str) -> list[tuple[str, str, int]]:
    return [(f.code, Path(f.file).name, f.line) for f in report.findings if f.code in codes]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return [row(prose(seed)) for seed in range(60)]


def test_a_row_with_one_word_changed_is_found_and_others_are_not(
    tmp_path: Path, rows: list[Any]
) -> None:
    words = prose(7).split()
    words[40] = "otherwise"
    path = save(tmp_path / "a.jsonl", [*rows, row(" ".join(words)), rows[9]])
    report = validate(path, deep=True)
    # The exact repeat is told once, as what it is.
    assert found(report, "UD600", "UD607") == [("UD607", "a.jsonl", 61), ("UD600", "a.jsonl", 62)]
    assert "like line 8" in next(f.message for f in report.findings if f.code == "UD607")
    assert not found(validate(path), "UD607")


def test_a_shared_system_prompt_makes_no_rows_alike(tmp_path: Path) -> None:
    system = prose(1, 400)
    path = save(tmp_path / "a.jsonl", [row(prose(i, 20), system=system) for i in range(30)])
    assert not found(validate(path, deep=True), "UD607")


def test_near_leaks_into_held_out_data_are_found(tmp_path: Path, rows: list[Any]) -> None:
    changed = row("Well, " + prose(7))
    train = save(tmp_path / "train.jsonl", rows)
    test = save(tmp_path / "test.jsonl", [row(prose(99)), changed, rows[3]])
    report = validate(train, test=test, deep=True)
    assert found(report, "UD602", "UD609") == [
        ("UD609", "test.jsonl", 2),
        ("UD602", "test.jsonl", 3),
    ]


# Split, so that no scanner of repositories takes these for real ones.
@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("use AKIA" + "IOSFODNN7EXAMPLE", "UD800"),
        ("gh" + "p_" + "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx", "UD800"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "UD800"),
        ("write to jane.doe@company.co.uk today", "UD801"),
        ("call +44 20 7946 0958 today", "UD801"),
        ("pay to GB82 WEST 1234 5698 7654 32 today", "UD801"),
        ("my card is 4111 1111 1111 1112", ""),
        ("my card is 5500 0055 5555 5559", "UD801"),
        ("write to jane@example.com or bob@mail.example.org", ""),
        ("order 4929 of 12.07.2026, invoice 1234567890123", ""),
        ("the password is on the sticker", ""),
        ("sha256: 5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5", ""),
    ],
)
def test_secrets_and_people_are_found_and_not_shown(tmp_path: Path, text: str, code: str) -> None:
    path = save(tmp_path / "a.jsonl", [row(text)])
    report = validate(path, deep=True)
    findings = [f for f in report.findings if f.code in ("UD800", "UD801")]
    assert [f.code for f in findings] == ([code] if code else [])
    for finding in findings:
        assert finding.path == "messages[1]"
        shown = json.dumps(finding.as_dict()).replace("company.co.uk", "")
        assert not any(len(word) > 8 and word in shown for word in text.split()[-2:])


def test_phone_numbers_of_a_region(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [row("call (415) 555-2671"), row("order 4929, 12.07.2026")])
    assert not found(validate(path, deep=True), "UD801")
    assert found(validate(path, deep=True, region="us"), "UD801") == [("UD801", "a.jsonl", 1)]
    with pytest.raises(UsageError, match="region"):
        validate(path, deep=True, region="XX")


def test_a_few_answers_in_another_language(tmp_path: Path) -> None:
    rows = [row(f"Where is {i}?", f"{ENGLISH}{i}.") for i in range(40)]
    rows[17] = row("Where is 17?", f"{GERMAN}17.")
    path = save(tmp_path / "a.jsonl", rows)
    [finding] = [f for f in validate(path, deep=True).findings if f.code == "UD608"]
    assert "40 answers" in finding.message
    assert "de (1, first in line 18)" in finding.message
    rows[17] = row("Where is 17?", f"{ENGLISH}17.")
    assert not found(validate(save(path, rows), deep=True), "UD608")


def test_short_rows_are_compared_by_their_letters(tmp_path: Path) -> None:
    rows = [row(prose(seed, 6)) for seed in range(40)]
    rows[20] = row("How do I get my parcel back from the shop?")
    rows[30] = row("How do i get my parcel back from the  Shop?", "Fine")
    rows[31] = row("How do I get my refund back from the shop?")
    report = validate(save(tmp_path / "a.jsonl", rows), deep=True)
    assert found(report, "UD607") == [("UD607", "a.jsonl", 31)]


def test_texts_without_spaces_are_compared(tmp_path: Path) -> None:
    long = "今天北京天气晴朗,气温适中,适合出门散步,也适合和朋友一起去公园野餐。" * 2
    rows = [row(prose(seed)) for seed in range(20)]
    rows[3], rows[9] = row(long), row(long.replace("晴朗", "很好", 1))
    report = validate(save(tmp_path / "a.jsonl", rows), deep=True)
    assert found(report, "UD607") == [("UD607", "a.jsonl", 10)]


def test_near_rows_are_found_however_many_rows_are_sorted_at_a_time(
    tmp_path: Path, rows: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = [row("Well, " + prose(seed)) for seed in range(60)]
    train = save(tmp_path / "train.jsonl", [*rows, *changed])
    test = save(tmp_path / "test.jsonl", [row("Yes, " + prose(seed)) for seed in range(60)])
    monkeypatch.setattr("unift.data._sketches.SORTED", 7)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    report = validate(train, test=test, deep=True)
    assert report.counts["UD607"] == report.counts["UD609"] == 60
    assert not list((tmp_path / "temporary").iterdir())


@pytest.mark.parametrize("name", ["rensa", "phonenumbers", "py3langid.langid"])
def test_without_the_packages_it_says_which_and_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    path = save(tmp_path / "a.jsonl", [row("Hi")])
    assert validate(path).ok
    with pytest.raises(MissingDependency) as caught:
        validate(path, deep=True)
    assert "unift[data]" in caught.value.fix
