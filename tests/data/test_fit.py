"""What the vendor who was asked about does not take: told before anything is uploaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.rows import answer, save, user
from unift.data import Report, validate
from unift.errors import UsageError

URL = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
STORED = {"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}}


def said(text: str, role: str = "user") -> dict[str, Any]:
    return {"role": role, "parts": [{"text": text}]}


def codes_of(report: Report, provider: str) -> set[str]:
    """Codes of the errors that a provider has; size of the file apart."""
    return set(report.refusals[provider]) - {"UD700"}


def checked(tmp_path: Path, rows: list[Any], **more: Any) -> Report:
    return validate(
        save(tmp_path / "a.jsonl", rows), provider=["openai", "google", "local-lora"], **more
    )


def chat(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(turns), **more}


@pytest.mark.parametrize(
    ("turns", "what"),
    [
        ([user("a"), answer("b", weight=0), user("c"), answer("d")], "weights"),
        ([user([{"type": "text", "text": "What?"}, URL]), answer("A chair.")], "images"),
        ([{**user("a"), "name": "Jane"}, answer("b")], "names"),
    ],
)
def test_chat_rows_that_gemini_has_no_place_for_are_refused_for_it(
    tmp_path: Path, turns: list[Any], what: str
) -> None:
    rows = [chat(user("Hi"), answer("Yo")), chat(*turns)]
    report = checked(tmp_path, rows)
    [found] = [one for one in report.findings if one.code == "UD907"]
    assert (found.severity, found.line, found.providers) == ("error", 2, ("google",))
    assert what in found.message
    assert f"--drop {what}" in found.fix
    assert not codes_of(report, "openai")
    assert not codes_of(checked(tmp_path, rows, drop=[what]), "google")


def test_chat_rows_are_trained_on_as_they_are_by_open_models_of_google(tmp_path: Path) -> None:
    rows = [chat(user("a"), answer("b", weight=0), user("c"), answer("d"))]
    path = save(tmp_path / "a.jsonl", rows)
    report = validate(path, provider="google", model="Qwen/Qwen3-8B")
    assert report.verdicts == {"google": True}
    assert "UD906" not in report.counts


def test_chat_rows_that_gemini_takes_after_a_conversion_are_told_as_that(tmp_path: Path) -> None:
    report = checked(tmp_path, [chat(user("a"), answer("b"), id="7")])
    [found] = [one for one in report.findings if one.code == "UD906"]
    assert (found.severity, found.providers) == ("advice", ("google",))
    assert "--to gemini" in found.fix
    assert "UD907" not in report.counts, "a key that nobody learns from is no loss"


def test_pictures_are_for_those_who_train_on_them(tmp_path: Path) -> None:
    report = checked(tmp_path, [chat(user([URL]), answer("A chair."))])
    assert codes_of(report, "local-lora") == {"UD403"}
    assert "only text" in next(one.message for one in report.findings if one.code == "UD403")
    assert not codes_of(report, "openai")
    report = checked(tmp_path, [chat(user([STORED]), answer("A chair."))])
    assert not codes_of(report, "google")
    assert codes_of(report, "openai") == {"UD408"}


def test_pairs_are_text(tmp_path: Path) -> None:
    pair = {
        "input": {"messages": [user([URL])]},
        "preferred_output": [answer("A chair.")],
        "non_preferred_output": [answer("A cat.")],
    }
    report = checked(tmp_path, [pair])
    assert "UD907" in codes_of(report, "openai") & codes_of(report, "google")
    picture = {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}
    pair = {
        "contents": [{"role": "user", "parts": [picture]}],
        "completions": [
            {"score": score, "completion": said(str(score), "model")} for score in (1, 0)
        ],
    }
    assert "UD907" in codes_of(checked(tmp_path, [pair]), "google")
    assert validate(tmp_path / "a.jsonl").counts["UD907"] == 1, "whoever is asked"


@pytest.mark.parametrize(
    "part",
    [
        {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
        {"fileData": {"mimeType": "image/png", "fileUri": "https://example.com/a.png"}},
    ],
)
def test_gemini_is_shown_pictures_of_googles_storage_only(
    tmp_path: Path, part: dict[str, Any]
) -> None:
    row = {"contents": [{"role": "user", "parts": [part]}, said("A chair.", "model")]}
    report = checked(tmp_path, [row])
    assert "UD907" in codes_of(report, "google")
    assert not codes_of(report, "openai")


@pytest.mark.parametrize(
    ("part", "what"),
    [
        ({"fileData": {"fileUri": "gs://b/a.png"}}, "mimeType"),
        ({"fileData": {"mimeType": "image/png"}}, "fileUri"),
        ({"functionResponse": {"name": "f", "response": "3 C"}}, "response"),
        ({"functionCall": {"args": {}}}, "name"),
    ],
)
def test_what_google_requires_of_a_part_is_asked_for(
    tmp_path: Path, part: dict[str, Any], what: str
) -> None:
    role = "model" if "functionCall" in part else "user"
    row = {"contents": [said("Hi"), {"role": role, "parts": [part]}, said("Yo", "model")]}
    [found] = [one for one in checked(tmp_path, [row]).findings if one.code == "UD901"]
    assert f"no `{what}`" in found.message
    assert found.path.startswith("contents[1].parts[0].")


def test_a_key_that_a_conversion_leaves_out_is_no_error_for_openai(tmp_path: Path) -> None:
    part = {"text": "Yo", "thoughtSignature": "abc="}
    row = {"contents": [said("Hi"), {"role": "model", "parts": [part]}]}
    report = checked(tmp_path, [row])
    assert not codes_of(report, "openai")
    [found] = [one for one in report.findings if one.code == "UD216"]
    assert found.severity == "warning"


def test_the_prompt_of_a_gemini_pair_ends_with_the_user(tmp_path: Path) -> None:
    pair = {
        "contents": [said("Hi"), said("Yo", "model")],
        "completions": [
            {"score": score, "completion": said(str(score), "model")} for score in (1, 0)
        ],
    }
    assert "UD905" in codes_of(checked(tmp_path, [pair]), "google")


def test_rows_of_kto_are_not_learnt_whatever_their_label(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n > 1} for n in range(3)]
    report = checked(tmp_path, rows)
    assert report.refusals["openai"]["UD906"] == 3
    assert [one.path for one in report.findings if one.line == 1] == ["label"]


def test_an_estimate_far_above_a_limit_is_an_error(tmp_path: Path) -> None:
    def verdict(words: int) -> bool:
        path = save(tmp_path / "a.jsonl", [chat(user("word " * words), answer("Yes."))])
        return validate(path, provider="google").verdicts["google"]

    assert verdict(140_000), "within the error of the estimate"
    assert not verdict(400_000)


def many(tmp_path: Path, name: str, rows: int) -> Path:
    return save(
        tmp_path / name, [chat(user(f"{name} {n}?"), answer(str(n % 7))) for n in range(rows)]
    )


def test_validation_data_may_be_a_share_of_the_training_data_only(tmp_path: Path) -> None:
    train = many(tmp_path, "train.jsonl", 3_400)

    def found(rows: int, **more: Any) -> list[tuple[str, str, bool]]:
        held = many(tmp_path, "held.jsonl", rows)
        report = validate(train, validation=held, **more)
        return [
            (one.severity, Path(one.file).name, "30%" in one.message)
            for one in report.findings
            if one.code == "UD705"
        ]

    assert not found(1_020, provider="google")
    assert found(1_021, provider="google") == [("error", "held.jsonl", True)]
    assert found(1_021) == [("warning", "held.jsonl", True)], "whoever is asked"
    assert not found(1_021, provider="openai")
    few = many(tmp_path, "few.jsonl", 100)
    report = validate(few, validation=many(tmp_path, "held.jsonl", 60), provider="google")
    assert "UD705" not in report.counts, "few rows may be any share"


def test_open_models_of_google_take_a_quarter_of_the_bytes(tmp_path: Path) -> None:
    train, held = many(tmp_path, "train.jsonl", 80), many(tmp_path, "held.jsonl", 21)
    model = "Qwen/Qwen3-8B"
    report = validate(train, validation=held, provider="google", model=model)
    [found] = [one for one in report.findings if one.code == "UD705"]
    assert "25%" in found.message
    assert "google/skills" in found.message, "with the source"
    assert validate(train, validation=held, provider="google").verdicts["google"]


def test_what_may_be_lost_has_to_exist(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jsonl", [chat(user("a"), answer("b"))])
    with pytest.raises(UsageError) as caught:
        validate(path, drop=["weight"])
    assert "weights" in (caught.value.fix or "")
