"""Data, results and settings at home, whole, and not twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.migrate.conftest import Old, rows
from unift.errors import UsageError
from unift.migrate import Fetched, fetch, inventory


def test_everything_of_a_job_is_fetched_and_checked(old: Old, tmp_path: Path) -> None:
    found = fetch(old.source, tmp_path)
    assert found.verified
    training = found.path(old.job, "training")
    assert training is not None
    assert [json.loads(line) for line in training.read_text().splitlines()] == rows()
    result = found.path(old.job, "result")
    assert result is not None
    # The vendor gave base64; here lies the table.
    assert result.read_text().startswith("step,train_loss")
    by_id = {file.id: file for file in found.files}
    assert by_id[old.training].rows == 12
    assert any("trained by the job" in check for check in by_id[old.training].checks)
    settings = json.loads((tmp_path / found.settings[old.job]).read_text())
    assert settings["settings"]["n_epochs"] == 3
    assert Fetched.read(tmp_path) == found


def test_nothing_is_downloaded_twice_unless_it_was_changed(old: Old, tmp_path: Path) -> None:
    first = fetch(old.source, tmp_path)
    asked = old.vendor.calls.count("content")
    assert fetch(old.source, tmp_path) == first
    assert old.vendor.calls.count("content") == asked
    (tmp_path / first.files[0].file).write_text("scribbled over")
    assert fetch(old.source, tmp_path) == first
    assert old.vendor.calls.count("content") == asked + 1


def test_a_broken_connection_goes_on_in_the_middle(old: Old, tmp_path: Path) -> None:
    old.vendor.fault("content", "half")
    found = fetch(old.source, tmp_path)
    assert found.verified
    assert old.vendor.calls.count("content") == 3  # one file twice, the other once


def test_what_stays_there_is_named(old: Old, tmp_path: Path) -> None:
    old.vendor.books.add_job({"model": "open-8b", "training_file": "file-gone"})
    old.vendor.books.add_file("other.jsonl", b"{}\n", "fine-tune")
    held = inventory("openai")
    found = fetch(held, tmp_path)
    assert not found.verified
    assert [(one.id, one.why.split(",")[0]) for one in found.missing] == [("file-gone", "deleted")]
    assert len(fetch(held, tmp_path, everything=True).files) == len(found.files) + 1


def test_a_file_that_is_not_what_the_vendor_says(old: Old, tmp_path: Path) -> None:
    old.vendor.books.contents[old.training] += b'{"torn'
    found = fetch(old.source, tmp_path)
    bad = next(file for file in found.files if file.id == old.training)
    assert not bad.verified
    assert not found.verified


def test_names_from_the_vendor_stay_in_the_folder(old: Old, tmp_path: Path) -> None:
    old.vendor.books.files[old.training]["filename"] = "../../etc/passwd.jsonl"
    found = fetch(old.source, tmp_path / "in")
    assert {path.parent for path in tmp_path.rglob("*passwd*")} == {tmp_path / "in"}
    assert found.verified


def test_an_unknown_model_and_an_unwritable_folder(old: Old, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no job"):
        fetch("openai:ft:nobody", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        fetch(old.source, tmp_path / "file" / "in")
