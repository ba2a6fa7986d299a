"""Sizes that a vendor refuses."""

from __future__ import annotations

import base64
import gzip
from pathlib import Path

import pytest

from tests.data.rows import answer, save, user
from unift.data import validate


def test_a_file_above_the_upload_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A byte for a MiB: OpenAI takes 512 of them, Google 1,024.
    monkeypatch.setattr("unift.data._limits.MIB", 1)
    path = save(
        tmp_path / "a.jsonl", [{"messages": [user(str(i)), answer("Yes.")]} for i in range(10)]
    )
    assert 512 < path.stat().st_size < 1024
    report = validate(path, provider=["openai", "google"])
    [found] = [one for one in report.findings if one.code == "UD702"]
    assert (found.severity, found.providers) == ("error", ("openai",))


def test_more_validation_rows_than_google_takes_are_refused(tmp_path: Path) -> None:
    rows = [{"messages": [user(str(i)), answer("Yes.")]} for i in range(5001)]
    train, held = save(tmp_path / "a.jsonl", rows[:50]), save(tmp_path / "b.jsonl", rows)
    report = validate(train, validation=held, provider="google")
    [found] = [one for one in report.findings if one.code == "UD704"]
    assert (found.severity, found.file, "5000" in found.message) == ("error", str(held), True)


def test_a_picture_of_more_than_ten_megabytes_is_refused_by_openai(tmp_path: Path) -> None:
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(10_000_000)).decode()
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    path = save(tmp_path / "a.jsonl", [{"messages": [user([picture]), answer("Black.")]}])
    assert validate(path, provider="openai").refusals["openai"]["UD406"] == 1
    assert validate(path).counts["UD406"] == 1


def test_a_packed_file_is_as_large_as_what_is_uploaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unift.data._limits.MIB", 1)
    rows = [{"messages": [user(str(i)), answer("Yes.")]} for i in range(10)]
    whole = save(tmp_path / "a.jsonl", rows).read_bytes()
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(whole))
    assert path.stat().st_size < 512 < len(whole)
    assert validate(path, provider="openai").refusals["openai"]["UD702"] == 1
