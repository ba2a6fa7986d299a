"""What is sent, and what is refused before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unift_google.conftest import BUCKET, GEMINI, OPEN
from tests.vendors.google_vendor import Vendor
from unift.errors import DataError, ProviderError, UsageError
from unift.provider import Plan, Provider, get_provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


def body(vendor: Vendor, provider: Provider, spec: TrainSpec) -> dict[str, Any]:
    provider.submit(provider.plan(spec), "t1")
    return vendor.bodies[-1]


def origin(plan: Plan, name: str) -> tuple[Any, str, str]:
    one = next(setting for setting in plan.settings if setting.name == name)
    return one.value, one.origin, one.why


def test_gemini_supervised(vendor: Vendor, google: Provider, spec: Make, rows: str) -> None:
    wanted = spec(epochs=2, learning_rate_multiplier=0.5, rank=8, name="v2", validation=rows)
    sent = body(vendor, google, wanted)
    assert sent["baseModel"] == GEMINI
    assert sent["supervisedTuningSpec"]["hyperParameters"] == {
        "epochCount": 2,
        "learningRateMultiplier": 0.5,
        "adapterSize": "ADAPTER_SIZE_EIGHT",
    }
    assert sent["tunedModelDisplayName"] == "v2"
    assert sent["labels"] == {"unift_token": "t1"}
    uri = sent["supervisedTuningSpec"]["trainingDatasetUri"]
    assert uri.startswith(f"{BUCKET}/data/")
    assert sent["supervisedTuningSpec"]["validationDatasetUri"] == uri, "the same rows, one object"
    stored = vendor.books.objects.at(uri)
    assert stored is not None
    first = json.loads(stored.splitlines()[0])
    assert [turn["role"] for turn in first["contents"]] == ["user", "model"]


def test_what_is_left_out_is_left_to_google_but_for_the_epochs(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    sent = body(vendor, google, spec())
    assert sent["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": 2}
    assert "exportLastCheckpointOnly" not in sent["supervisedTuningSpec"]
    last = body(vendor, google, spec(epochs=4, options={"last_checkpoint_only": True}))
    assert last["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": 2}, "same token"
    google.submit(google.plan(spec(options={"last_checkpoint_only": True})), "t2")
    assert vendor.bodies[-1]["supervisedTuningSpec"]["exportLastCheckpointOnly"] is True


def test_preference(vendor: Vendor, google: Provider, spec: Make, preferences: str) -> None:
    wanted = spec(method="dpo", data=preferences, epochs=1, options={"beta": 0.2})
    sent = body(vendor, google, wanted)
    assert sent["preferenceOptimizationSpec"]["hyperParameters"] == {"epochCount": 1, "beta": 0.2}
    stored = vendor.books.objects.at(sent["preferenceOptimizationSpec"]["trainingDatasetUri"])
    assert stored is not None
    row = json.loads(stored.splitlines()[0])
    assert [one["score"] for one in row["completions"]] == [1, 0]


def test_an_open_model_takes_messages_as_they_are_and_leaves_weights_in_the_bucket(
    vendor: Vendor, google: Provider, spec: Make, rows: str
) -> None:
    wanted = spec(
        model="meta-llama/Llama-3.1-8B-Instruct", learning_rate=1e-4, batch_size=4, rank=8
    )
    sent = body(vendor, google, wanted)
    assert sent["baseModel"] == "meta/llama3_1@llama-3.1-8b-instruct"
    assert sent["supervisedTuningSpec"]["hyperParameters"] == {
        "epochCount": 2,
        "learningRate": 1e-4,
        "batchSize": 4,
        "adapterSize": "ADAPTER_SIZE_EIGHT",
    }
    assert sent["supervisedTuningSpec"]["tuningMode"] == "TUNING_MODE_PEFT_ADAPTER"
    assert sent["outputUri"] == f"{BUCKET}/runs/t1"
    stored = vendor.books.objects.at(sent["supervisedTuningSpec"]["trainingDatasetUri"])
    assert stored == Path(rows).read_bytes()


def test_full_weights_and_a_base_of_ones_own(vendor: Vendor, google: Provider, spec: Make) -> None:
    own = {"custom_base_model": "gs://mine/llama", "mode": "full"}
    sent = body(vendor, google, spec(model="meta/llama3_1@llama-3.1-8b", options=own))
    assert sent["customBaseModel"] == "gs://mine/llama"
    assert sent["supervisedTuningSpec"]["tuningMode"] == "TUNING_MODE_FULL"
    assert sent["supervisedTuningSpec"]["hyperParameters"]["learningRate"] == 1e-5
    assert "adapterSize" not in sent["supervisedTuningSpec"]["hyperParameters"]


@pytest.mark.parametrize(
    ("model", "rank", "size"),
    [
        (GEMINI, 16, 16),
        (GEMINI, 64, 16),
        (GEMINI, 3, 4),
        ("gemini-2.5-pro", 16, 8),
        ("meta/llama3_1@llama-3.1-8b", 64, 32),
    ],
)
def test_the_nearest_adapter_size_is_taken_and_said_so(
    google: Provider, spec: Make, model: str, rank: int, size: int
) -> None:
    value, came, why = origin(google.plan(spec(model=model, rank=rank)), "rank")
    assert value == size
    assert came == ("user" if rank == size else "mapping rule")
    assert (str(rank) in why) == (rank != size)


def test_regions(google: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    new = "gemini-3.5-flash"
    plan = google.plan(spec(model=new))
    assert origin(plan, "location")[:2] == ("us-central1", "mapping rule")
    assert origin(plan, "serving_location")[0] == "us"
    europe = google.plan(spec(model=new, options={"location": "europe-west4"}))
    assert origin(europe, "location")[:2] == ("europe-west4", "user")
    assert origin(europe, "serving_location")[0] == "eu"
    assert origin(google.plan(spec(model=OPEN)), "location")[0] == "global"
    monkeypatch.setenv("GOOGLE_CLOUD_LOCATION", "asia-east1")
    assert origin(google.plan(spec()), "location")[0] == "asia-east1"
    for model in (new, OPEN):
        with pytest.raises(UsageError) as caught:
            google.plan(spec(model=model))
        assert caught.value.where == "GOOGLE_CLOUD_LOCATION"
        assert "europe-west4" in caught.value.fix


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"learning_rate": 1e-4}, "learning_rate"),
        ({"learning_rate": 1e-4, "learning_rate_multiplier": 1.0}, "learning_rate"),
        ({"batch_size": 8}, "batch_size"),
        ({"seed": 3}, "seed"),
        ({"alpha": 8}, "alpha"),
        ({"epochs": 1.5}, "epochs"),
        ({"model": "gemini-9-flash"}, "model"),
        ({"model": "gpt-4.1-mini-2025-04-14"}, "model"),
        ({"method": "rft"}, "method"),
        ({"model": OPEN, "method": "dpo"}, "method"),
        ({"model": OPEN, "learning_rate_multiplier": 2.0}, "learning_rate_multiplier"),
        ({"model": OPEN, "rank": 8}, "rank"),
        ({"model": OPEN, "options": {"mode": "peft"}}, "options.google.mode"),
        ({"options": {"mode": "full"}}, "options.google.mode"),
        ({"options": {"beta": 0.1}}, "options.google.beta"),
        ({"options": {"bucket": "s3://x"}}, "options.google.bucket"),
    ],
)
def test_what_google_cannot_do_is_refused_with_a_way_out(
    google: Provider, spec: Make, settings: dict[str, Any], where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        google.plan(spec(**settings))
    assert caught.value.where == where
    assert caught.value.fix


def test_the_bill_and_the_idle_endpoint_are_known_before(spec: Make) -> None:
    google = get_provider("google")  # nothing is set up, and nothing is asked
    plan = google.plan(spec(epochs=4))
    # Gemini 2.5 Flash: 5 US dollars per million trained tokens (catalogue).
    assert plan.estimate["price_usd"] == pytest.approx(plan.estimate["tokens"] * 4 * 5 / 1e6)
    assert "costs nothing" in origin(plan, "idle_cost")[2]
    assert [
        word for word in ("credentials", "project", "bucket") if word in str(plan.warnings)
    ] == [
        "credentials",
        "project",
        "bucket",
    ]
    free = google.plan(spec(model=OPEN))
    assert free.estimate["price_usd"] == pytest.approx(free.estimate["tokens"] * 2 * 4.18 / 1e6)
    assert "billed by the hour" in origin(free, "idle_cost")[2]
    assert "hour" in str(free.estimate["assumptions"])


def test_split_rules_of_open_models(
    google: Provider, spec: Make, chat_file: Callable[..., str]
) -> None:
    validation = chat_file([("Capital of X?", "Y")] * 4, name="validation.jsonl")
    with pytest.raises(DataError) as caught:
        google.plan(spec(model=OPEN, validation=validation))
    assert "at most 25%" in caught.value.message
    assert "train=.9" in caught.value.fix
    assert google.plan(spec(validation=validation)), "Gemini has no such rule"


def test_split_rules_of_gemini(google: Provider, spec: Make, tmp_path: Path) -> None:
    def many(count: int, name: str) -> str:
        path = tmp_path / name
        with path.open("w") as file:
            for number in range(count):
                turns = [("user", f"{name} {number}?"), ("assistant", str(number))]
                messages = [{"role": role, "content": text} for role, text in turns]
                file.write(json.dumps({"messages": messages}) + "\n")
        return str(path)

    train = many(3_400, "train.jsonl")
    assert google.plan(spec(data=train, validation=many(1_020, "fits.jsonl")))
    with pytest.raises(DataError, match="at most 30%"):
        google.plan(spec(data=train, validation=many(1_021, "large.jsonl")))
    with pytest.raises(DataError, match=r"5[,]?000"):
        google.plan(spec(data=train, validation=many(5_001, "huge.jsonl")))


def test_rows_that_lose_something_are_refused_until_that_is_allowed(
    google: Provider, spec: Make, tmp_path: Path
) -> None:
    path = tmp_path / "weighted.jsonl"
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b", "weight": 0},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    path.write_text("".join(json.dumps({"messages": turns, "n": n}) + "\n" for n in range(12)))
    with pytest.raises(DataError) as caught:
        google.plan(spec(data=str(path)))
    assert "google.drop" in caught.value.fix
    assert google.plan(spec(data=str(path), options={"drop": ["weights", "extra"]}))


def test_an_api_key_of_ai_studio_is_told_once_what_to_set(
    spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSecretSecret")
    google = get_provider("google")
    for ask in (lambda: google.plan(spec()), lambda: google.find("t1")):
        with pytest.raises(ProviderError) as caught:
            ask()
        error = caught.value
        assert (error.code, error.exit_status) == ("api_key_cannot_tune", 5)
        for word in ("gcloud auth application-default login", "PROJECT", "UNIFT_GOOGLE_BUCKET"):
            assert word in error.fix
        assert "AIza" not in str(error)


def test_an_api_key_beside_a_login_does_no_harm(
    vendor: Vendor, google: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "AIzaSecretSecret")
    assert body(vendor, google, spec())["baseModel"] == GEMINI


def test_rows_in_the_bucket_are_checked_and_stay_where_they_are(
    vendor: Vendor, google: Provider, spec: Make, rows: str
) -> None:
    objects = vendor.books.objects
    objects.put("mine", "rows/train.jsonl", Path(rows).read_bytes())
    here = spec(model=OPEN, data="gs://mine/rows/train.jsonl")
    sent = body(vendor, google, here)
    assert sent["supervisedTuningSpec"]["trainingDatasetUri"] == "gs://mine/rows/train.jsonl"
    assert "upload" not in vendor.calls
    assert google.plan(here).fingerprints == google.plan(spec(model=OPEN)).fingerprints
    # Gemini takes another form: the rows are converted, and the copy goes into our folder.
    google.submit(google.plan(spec(data="gs://mine/rows/train.jsonl")), "t2")
    uri = vendor.bodies[-1]["supervisedTuningSpec"]["trainingDatasetUri"]
    assert uri.startswith(f"{BUCKET}/data/")
    objects.put("mine", "rows/bad.jsonl", b'{"messages": []}\n')
    with pytest.raises(DataError):
        google.plan(spec(model=OPEN, data="gs://mine/rows/bad.jsonl"))
    with pytest.raises(UsageError, match="no such object"):
        google.plan(spec(data="gs://mine/none.jsonl"))


def test_one_word_is_the_difference_to_openai(
    vendor: Vendor, rows: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.vendors.openai_vendor import KEY
    from tests.vendors.openai_vendor import Vendor as OpenAIVendor
    from unift.cli import main

    few = Path(rows).with_name("few.jsonl")
    few.write_text(Path(rows).read_text().splitlines()[0] + "\n")

    def train(provider: str) -> dict[str, Any]:
        flags = f"--model {OPEN} --data {rows} --validation {few} --epochs 2 --name v2 --usd 9"
        command = ["unift", "train", "--provider", provider, *flags.split(), "--json"]
        monkeypatch.setattr("sys.argv", command)
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        assert not caught.value.code, printed.err
        return json.loads(printed.out)

    with OpenAIVendor() as other:
        monkeypatch.setenv("OPENAI_BASE_URL", other.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        done = {name: train(name) for name in ("openai", "google")}
    plans = {name: one["plan"] for name, one in done.items()}
    for name, plan in plans.items():
        assert plan["spec"].pop("provider") == name
        assert done[name]["status"] == "succeeded"
        assert done[name].keys() == done["openai"].keys()
        assert plan.keys() == plans["openai"].keys()
    mine, theirs = plans["google"], plans["openai"]
    assert mine["spec"] == theirs["spec"]
    assert mine["fingerprints"] == theirs["fingerprints"]
    assert mine["estimate"].keys() == theirs["estimate"].keys()
    shared = {
        name: {one["name"]: (one["value"], one["origin"]) for one in plan["settings"]}
        for name, plan in plans.items()
    }
    same = shared["google"].keys() & shared["openai"].keys()
    assert {"epochs", "batch_size"} <= same
    for key in same:
        assert shared["google"][key] == shared["openai"][key], key
