"""What the credentials can see, and what they cannot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unift_google.conftest import GEMINI, OPEN
from tests.vendors.google_vendor import Vendor
from unift import start
from unift.errors import ProviderError
from unift.migrate import inventory
from unift.provider import Provider
from unift.spec import TrainSpec
from unift.verbs import Inventoried

Make = Callable[..., TrainSpec]


@pytest.fixture
def holder(google: Provider) -> Inventoried:
    assert isinstance(google, Inventoried)
    return google


def test_everything_that_there_is(
    vendor: Vendor, google: Provider, holder: Inventoried, spec: Make, rows: str
) -> None:
    gemini = start(google.plan(spec(name="mine", epochs=3))).wait()
    start(google.plan(spec(model=OPEN))).wait()  # in another location
    held = holder.inventory()
    assert held.account == "project loopback"
    assert {(job.base, job.word) for job in held.jobs} == {
        (GEMINI, "JOB_STATE_SUCCEEDED"),
        ("qwen/qwen3@qwen3-8b", "JOB_STATE_SUCCEEDED"),
    }
    (job,) = [job for job in held.jobs if job.base == GEMINI]
    assert (job.method, job.trained_tokens, job.settings["epoch_count"]) == ("sft", 1234, 3)
    assert gemini.artifact is not None
    models = {model.id: model for model in held.models}
    assert models[gemini.artifact.reference].listed
    assert [one.step for one in held.models if one.kind == "checkpoint"] == [3]
    assert [model.weights for model in held.models if model.base.startswith("qwen")] == [True]
    data = [file for file in held.files if file.purpose == "training data"]
    assert len(data) == 2
    assert all(file.downloadable and file.bytes for file in data)
    (plain,) = [
        file for file in data if "qwen" in str([j.base for j in held.jobs if j.id in file.jobs])
    ]
    assert b"".join(holder.content(plain)) == Path(rows).read_bytes()
    assert b"".join(holder.content(plain, 100)) == Path(rows).read_bytes()[100:]
    (managed,) = [file for file in held.files if file.purpose == "dataset"]
    with pytest.raises(ProviderError):
        list(holder.content(managed))
    with pytest.raises(ProviderError):
        holder.stored()
    assert not held.unseen


def test_what_cannot_be_seen_is_named(
    vendor: Vendor, google: Provider, holder: Inventoried, spec: Make
) -> None:
    start(google.plan(spec())).wait()
    vendor.habits.forbidden = "datasets|europe-west4|storage/v1/b/[^/]+/o/"
    held = holder.inventory()
    assert len(held.jobs) == 1
    told = " ".join(held.unseen)
    assert "datasets in us-central1" in told
    assert "jobs in europe-west4" in told
    (file,) = held.files
    assert (file.downloadable, file.bytes) == (False, None)
    vendor.habits.forbidden = "v1beta1"
    with pytest.raises(ProviderError) as caught:
        holder.inventory()
    assert caught.value.code == "permission_denied"


def test_migration_reads_the_same(
    vendor: Vendor, google: Provider, spec: Make, tmp_path: Path
) -> None:
    start(google.plan(spec())).wait()
    start(google.plan(spec(model=OPEN))).wait()
    found = inventory("google")
    assert len(found.holdings.jobs) == 2
    found.write(tmp_path)
    assert (tmp_path / "inventory.json").is_file()
