"""Weights from the bucket: whole, checked, gone on with after an interruption, and they answer."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unift_google.conftest import OPEN
from tests.vendors.google_vendor import Vendor
from unift import demo, load
from unift.errors import ProviderError, RunError
from unift.provider import Handle, Provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]
LARGE = b"\x02" + bytes(7) + b"{}" + random.Random(7).randbytes(3_000_000)
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def done(vendor: Vendor, google: Provider, spec: Make) -> Handle:
    vendor.habits.weights = {"config.json": b"{}", "model.safetensors": LARGE, "notes": b""}
    handle = google.submit(google.plan(spec(model=OPEN)), "t1")
    while not google.poll(handle).finished:
        pass
    return handle


def test_weights_come_whole_and_are_fetched_once(
    vendor: Vendor, google: Provider, done: Handle
) -> None:
    artifact = google.fetch(done)
    assert artifact.kind == "weights"
    assert set(artifact.sha256) == {"config.json", "model.safetensors", "notes"}
    assert (Path(artifact.reference) / "model.safetensors").read_bytes() == LARGE
    loads = vendor.calls.count("media")
    assert google.fetch(done) == artifact
    assert vendor.calls.count("media") == loads


def test_an_interrupted_download_goes_on_where_it_stopped(
    vendor: Vendor, google: Provider, done: Handle
) -> None:
    vendor.fault("media", "fine", "cut middle", "cut middle")
    artifact = google.fetch(done)
    assert (Path(artifact.reference) / "model.safetensors").read_bytes() == LARGE
    starts = [int(one[6:-1]) for one in vendor.ranges if one.startswith("bytes=")]
    assert len(starts) >= 2
    assert 0 < starts[-2] < starts[-1] < len(LARGE)


def test_it_goes_on_after_the_process_has_died(
    vendor: Vendor, google: Provider, done: Handle
) -> None:
    vendor.fault("media", "fine", *["cut middle", *["500"] * 20])
    with pytest.raises(ProviderError):
        google.fetch(done)
    vendor.faults.clear()
    vendor.ranges.clear()
    google.fetch(done)
    assert vendor.ranges[0].startswith("bytes=1"), "half of it was there"
    assert not list(Path(google.fetch(done).reference).glob("*.part"))


def test_pieces_of_two_versions_never_meet(vendor: Vendor, google: Provider, done: Handle) -> None:
    vendor.fault("media", "fine", *["cut middle", *["500"] * 20])
    with pytest.raises(ProviderError):
        google.fetch(done)
    vendor.faults.clear()
    (name,) = [one for _, one in vendor.books.objects.held if one.endswith("model.safetensors")]
    newer = LARGE[:-1] + b"!"
    vendor.books.objects.put("loopback-bucket", name, newer)
    artifact = google.fetch(done)
    assert (Path(artifact.reference) / "model.safetensors").read_bytes() == newer


def test_a_damaged_download_is_noticed_and_not_kept(
    vendor: Vendor, google: Provider, done: Handle
) -> None:
    vendor.fault("media", "fine", "flip")
    with pytest.raises(RunError) as caught:
        google.fetch(done)
    assert caught.value.code == "checksum_mismatch"
    assert "crc32c" in caught.value.message
    assert google.fetch(done).sha256, "the next attempt begins anew"


def test_pickles_are_left_where_they_are(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.habits.weights = {"pytorch_model.bin": b"pickle"}
    handle = google.submit(google.plan(spec(model=OPEN)), "t1")
    while not google.poll(handle).finished:
        pass
    with pytest.raises(RunError) as caught:
        google.fetch(handle)
    assert caught.value.code == "no_weights"
    assert "media" not in vendor.calls


def test_a_downloaded_adapter_answers_on_this_machine(
    vendor: Vendor, google: Provider, spec: Make, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(demo.model_path())
    # peft asks transformers 5 by an old name.
    warnings.simplefilter("ignore", FutureWarning)
    # An adapter that changes what is said: a fresh one adds nothing.
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(base, config).save_pretrained(tmp_path / "adapter")
    files = {path.name: path.read_bytes() for path in (tmp_path / "adapter").iterdir()}
    settings = json.loads(files["adapter_config.json"])
    files["adapter_config.json"] = json.dumps(
        {**settings, "base_model_name_or_path": str(demo.model_path())}
    ).encode()
    vendor.habits.weights = files
    handle = google.submit(google.plan(spec(model="meta/llama3_1@llama-3.1-8b", rank=4)), "t1")
    while not google.poll(handle).finished:
        pass
    artifact = google.fetch(handle)
    assert artifact.kind == "adapter"
    tuned = google.model(artifact.reference)
    base_model = load("demo")
    assert tuned.chat(HELLO).text != base_model.chat(HELLO).text
    tuned.close()
    base_model.close()
