"""Uploads that no job uses are told and deleted, and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.vendors.clock import Clock
from tests.vendors.openai_vendor import Vendor
from unift import start
from unift.errors import LostError, ProviderError
from unift.provider import Provider, State
from unift.runs import orphans, reconcile, runs
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


@pytest.mark.parametrize("metadata", [True, False])
def test_an_order_that_never_arrived_leaves_an_upload_that_is_told_and_deleted(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock, metadata: bool
) -> None:
    vendor.habits.metadata = metadata
    vendor.fault("create", "cut before")
    with pytest.raises(LostError):
        start(openai.plan(spec(options={"metadata": metadata})))
    (upload,) = vendor.books.files
    (lost,) = runs(refresh=False)
    assert lost.as_dict()["leftovers"] == []
    assert orphans(delete=True) == [], "while it is in doubt nothing is touched"
    clock.sleep(200)
    ((back, _),) = reconcile()
    assert (back.state, back.as_dict()["leftovers"][0]["id"]) == (State.PLANNED, upload)
    (told,) = orphans()
    assert (told.run, told.id, told.deleted) == (back.id, upload, False)
    assert upload in vendor.books.files
    (gone,) = orphans(delete=True)
    assert (gone.id, gone.deleted) == (upload, True)
    assert not vendor.books.files
    assert orphans() == []
    assert back.resume().wait().state is State.SUCCEEDED, "the data is uploaded anew"


def test_an_upload_whose_answer_was_cut_off_is_known_by_its_name(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.fault("upload", "cut after")
    vendor.fault("files", "fine", *["500"] * 20)
    with pytest.raises(ProviderError):
        start(openai.plan(spec()))
    assert len(vendor.books.files) == 1
    vendor.faults.clear()
    (told,) = orphans()
    assert told.id in vendor.books.files
    assert orphans(delete=True)[0].deleted
    assert not vendor.books.files


def test_a_file_that_another_job_uses_is_no_orphan(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.fault("create", "no credit")
    vendor.fault("delete", *["500"] * 6)
    with pytest.raises(ProviderError, match="reconcile --delete-orphans"):
        start(openai.plan(spec()))
    start(openai.plan(spec(epochs=2)))  # comes upon the same file
    assert orphans(delete=True) == []
    assert len(vendor.books.files) == 1


def test_a_host_that_is_silent_is_a_problem_and_not_the_end(
    vendor: Vendor,
    openai: Provider,
    spec: Make,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from unift.cli import main

    vendor.fault("create", "no credit")
    vendor.fault("delete", *["500"] * 6)
    with pytest.raises(ProviderError):
        start(openai.plan(spec()))

    def said(*words: str) -> Any:
        monkeypatch.setattr("sys.argv", ["unift", "runs", *words, "--json"])
        with pytest.raises(SystemExit):
            main()
        return json.loads(capsys.readouterr().out)

    (listed,) = said("list")["runs"]
    assert listed["leftovers"][0]["id"] in vendor.books.files
    vendor.fault("jobs", *["500"] * 6)
    (one,) = said("reconcile", "--delete-orphans")["orphans"]
    assert (one["deleted"], one["problem"]["code"]) == (False, "server_error")
    vendor.faults.clear()
    (one,) = said("reconcile", "--delete-orphans")["orphans"]
    assert (one["deleted"], one["problem"]) == (True, None)
    assert not vendor.books.files
