"""What there is at the vendor, until when, and what it costs."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from tests.migrate.conftest import BASE, Old
from unift.errors import DataError, ProviderError, UsageError
from unift.migrate import Inventory, inventory


def test_lists_models_jobs_files_and_dates_of_a_wound_down_organisation(old: Old) -> None:
    old.vendor.habits.shutdown = {BASE: "2027-01-20"}
    old.vendor.books.add_file("notes.txt", b"x", "assistants")
    old.vendor.books.add_job({"model": "open-8b", "training_file": "file-gone"})
    found = inventory("openai")
    held = found.holdings
    final, checkpoint = held.models
    assert (final.id, final.kind, final.base) == (old.model, "final", BASE)
    assert checkpoint.kind == "checkpoint"
    assert checkpoint.step == 6
    # The host's own date counts, before the catalogue's.
    assert final.until.answers == date(2027, 1, 20)
    assert final.until.source.startswith("models endpoint")
    assert final.until.new_jobs == date(2027, 1, 6)
    job = found.job_of(old.source)
    assert job is not None
    assert job.settings == {"n_epochs": 3, "seed": 7, "suffix": "caps"}
    assert job.trained_tokens == 1234
    files = {file.id: file for file in held.files}
    assert files[old.training].downloadable
    assert files[old.training].jobs == (old.job,)
    kept_back = [file for file in files.values() if not file.downloadable]
    assert {file.note.split()[0] for file in kept_back} == {"the", "deleted,"}
    assert [one.what for one in found.deadlines] == ["last day for new jobs", "stops answering"]
    assert set(old.vendor.calls) == {"jobs", "files", "models", "checkpoints"}


def test_without_a_live_date_the_catalogue_speaks(old: Old) -> None:
    until = inventory("openai").holdings.models[0].until
    assert until.answers == date(2027, 1, 14)
    assert until.source.startswith("catalogue")
    assert until.as_of is not None
    assert until.link


def test_what_cannot_be_listed_is_named_and_the_rest_is_there(old: Old) -> None:
    old.vendor.fault("models", *["500"] * 6)
    found = inventory("openai")
    assert found.holdings.models
    assert found.holdings.models[0].listed is None
    assert found.holdings.unseen[0].startswith("models: ")


def test_a_wrong_key_is_an_error(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-0123456789")
    with pytest.raises(ProviderError) as caught:
        inventory("openai")
    assert caught.value.code == "bad_key"
    assert "0123456789" not in str(caught.value)


def test_an_address_is_a_source(old: Old, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.setenv("UNIFT_API_KEY", "sk-loopback-0123456789")
    assert inventory(old.vendor.url).model(old.model) is not None
    with pytest.raises(UsageError, match="opnai"):
        inventory("opnai")


def test_spend_from_the_export_of_the_vendor(old: Old, tmp_path: Path) -> None:
    export = tmp_path / "usage.json"
    results = [{"model": old.model, "input_tokens": 10_000_000, "input_cached_tokens": 2_000_000,
                "output_tokens": 1_000_000, "num_model_requests": 5000}]  # fmt: skip
    day = 86_400
    buckets = [
        {"start_time": number * day, "end_time": (number + 1) * day, "results": results}
        for number in range(15)
    ]
    export.write_text(json.dumps({"object": "page", "data": buckets}))
    found = inventory("openai", usage=export)
    # 15 days are scaled to 30: 8M full, 2M cached, 1M out a day at 0.30, 0.15, 1.20 per million.
    assert found.monthly_usd == pytest.approx(30 * (8 * 0.30 + 2 * 0.15 + 1.20))
    assert "catalogue" in found.spend[0].source
    by_hand = inventory("openai", usage=f"{old.model}=10e6/1e6")
    assert by_hand.monthly_usd == pytest.approx(10 * 0.30 + 1.20)
    table = tmp_path / "usage.csv"
    table.write_text(f"model,input_tokens,output_tokens\n{old.model},1000000,0\n")
    assert inventory("openai", usage=table, usage_days=15).monthly_usd == pytest.approx(0.6)
    table.write_text("a,b\n1,2\n")
    with pytest.raises(DataError):
        inventory("openai", usage=table)


def test_written_and_read_again_and_the_page_escapes(old: Old, tmp_path: Path) -> None:
    old.vendor.books.add_file("<script>alert(1)</script>.jsonl", b"{}", "fine-tune")
    found = inventory("openai")
    assert Inventory.read(found.write(tmp_path)) == found
    page = found.write_html(tmp_path / "pages" / "inventory.html").read_text()
    assert old.model in page
    assert "2027-01-14" in page
    assert "<script>alert" not in page
    with pytest.raises(UsageError):
        Inventory.read(tmp_path / "nowhere")
