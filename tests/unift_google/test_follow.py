"""Following a job: words, phases, losses, what Google left out; and talking to the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.genai.types import JobState
from unift_google._states import WORDS

from tests.unift_google.conftest import GEMINI, OPEN
from tests.vendors.google_vendor import Vendor
from unift import start
from unift.errors import ProviderError, UsageError
from unift.provider import Event, Handle, Provider, Sampling, State
from unift.report import write_report
from unift.runs import run
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]
HELLO = [{"role": "user", "content": "Capital of country 3?"}]


def finished(google: Provider, spec: TrainSpec) -> Handle:
    handle = google.submit(google.plan(spec), "t1")
    while not google.poll(handle).finished:
        pass
    return handle


def test_every_word_of_googles_enumeration_has_a_meaning() -> None:
    words = {state.value for state in JobState} - {"JOB_STATE_UNSPECIFIED"}
    assert words == set(WORDS)


def test_a_word_never_seen_is_shown_and_not_taken_for_an_end(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    vendor.habits.strange_word = "JOB_STATE_WARMING_UP"
    handle = google.submit(google.plan(spec()), "t1")
    seen = [google.poll(handle) for _ in range(3)]
    assert [(one.state, one.word) for one in seen] == [
        (State.QUEUED, "JOB_STATE_PENDING"),
        (None, "JOB_STATE_WARMING_UP"),
        (State.SUCCEEDED, "JOB_STATE_SUCCEEDED"),
    ]


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        ("JOB_STATE_EXPIRED", State.FAILED, "job_expired"),
        ("JOB_STATE_CANCELLED", State.CANCELLED, None),
        ("JOB_STATE_PARTIALLY_SUCCEEDED", State.SUCCEEDED, None),
        ("JOB_STATE_PAUSED", State.PAUSED, None),
    ],
)
def test_ends(
    vendor: Vendor, google: Provider, spec: Make, end: str, state: State, code: str | None
) -> None:
    vendor.habits.end = end
    handle = google.submit(google.plan(spec()), "t1")
    last = [google.poll(handle) for _ in range(3)][-1]
    assert last.state is state
    assert (last.failure.code if last.failure else None) == code


def test_why_a_job_failed(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.habits.fail_with = {"code": 3, "message": "Row 3 is bad."}
    done = start(google.plan(spec())).wait(check=False)
    assert done.state is State.FAILED
    assert done.failure is not None
    assert (done.failure.code, done.failure.message) == ("invalid_argument", "Row 3 is bad.")
    assert "unift validate" in done.failure.fix


def test_a_job_that_vanished_is_lost(vendor: Vendor, google: Provider, spec: Make) -> None:
    handle = google.submit(google.plan(spec()), "t1")
    vendor.books.jobs.clear()
    assert google.poll(handle).state is State.LOST


def test_looks_survive_a_storm(vendor: Vendor, google: Provider, spec: Make) -> None:
    handle = google.submit(google.plan(spec()), "t1")
    vendor.fault("job", "429 2", "503", "cut before", "garbage", "fine")
    assert google.poll(handle).failure is None
    for kind in ("500", "garbage"):
        vendor.fault("job", *[kind] * 6)
        with pytest.raises(ProviderError) as caught:
            google.poll(handle)
        assert caught.value.exit_status == 5


def test_losses_come_from_the_experiment(vendor: Vendor, google: Provider, spec: Make) -> None:
    done = start(google.plan(spec())).wait()
    events = list(run(done.id).events(follow=False))

    def of(kind: str) -> list[dict[str, Any]]:
        return [event.data for event in events if event.kind == kind]

    assert [(one["step"], round(one["loss"], 3)) for one in of("metrics")] == [
        (step, round(1 / step, 3)) for step in range(1, 7)
    ]
    assert of("metrics")[0]["accuracy"] == 0.5
    assert [(one["step"], round(one["validation_loss"], 3)) for one in of("evaluation")] == [
        (3, 0.667),
        (6, 0.333),
    ]
    assert [one["step"] for one in of("checkpoint")] == [3, 6]
    assert all("/endpoints/" in one["model"] for one in of("checkpoint"))
    assert any(event.data.get("phase") == "TUNING_JOB_STATE_TUNING" for event in events)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [("none", "names no experiment"), ("empty", "holds none"), ("forbidden", "answered 403")],
)
def test_losses_that_cannot_be_read_are_said_to_be_unavailable(
    vendor: Vendor, google: Provider, spec: Make, experiment: str, said: str
) -> None:
    vendor.habits.experiment = experiment
    handle = finished(google, spec())
    events: list[Event] = list(google.events(handle))
    assert not [event for event in events if event.kind == "metrics"]
    (told,) = [event for event in events if event.id == "no-metrics"]
    assert said in told.message


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_google_counted_and_left_out_reaches_the_report(
    vendor: Vendor, google: Provider, spec: Make, preferences: str, method: str, tmp_path: Any
) -> None:
    vendor.habits.dropped = ((3, "too many tokens"), (7, "invalid image"))
    wanted = spec(method=method, data=preferences) if method == "dpo" else spec()
    done = start(google.plan(wanted)).wait()
    assert done.artifact is not None
    numbers = done.artifact.metrics
    assert numbers["billable_tokens"] == 1234
    assert numbers["dropped_rows"] == 2
    events = list(done.events(follow=False))
    (dropped,) = [event for event in events if event.id == "dropped"]
    assert dropped.kind == "warning"
    assert dropped.data["rows"] == [3, 7]
    assert "row 3: too many tokens" in dropped.message
    page = write_report(tmp_path / "report.html", run=done).read_text()
    assert "row 7: invalid image" in page
    assert "1,234" in page


def test_cancel(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.habits.hold = True
    going = start(google.plan(spec()))
    going.cancel()
    assert going.refresh().state is State.CANCELLED
    assert vendor.calls.count("cancel") == 1


def test_the_endpoint_answers_in_order_and_survives_faults(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    handle = finished(google, spec())
    artifact = google.fetch(handle)
    assert artifact.kind == "hosted"
    assert "/endpoints/" in artifact.reference
    assert artifact.base == GEMINI
    model = google.model(artifact.reference)
    vendor.fault("content", "500", "429 1", "cut after", "cut before")
    asked = [[{"role": "user", "content": f"Capital of country {n}?"}] for n in range(12)]
    assert [reply.text for reply in model.chat_many(asked)] == [f"City {n}" for n in range(12)]
    reply = model.chat(
        [{"role": "system", "content": "Be brief."}, *HELLO], Sampling(max_tokens=5, seed=1)
    )
    assert (reply.text, reply.prompt_tokens, reply.finish_reason) == ("City 3", 5, "stop")
    model.close()


def test_a_base_model_and_a_checkpoint_answer_too(
    vendor: Vendor, google: Provider, spec: Make
) -> None:
    handle = finished(google, spec())
    first = next(event for event in google.events(handle) if event.kind == "checkpoint")
    assert google.model(first.data["model"]).chat(HELLO).text == "City 3"
    assert google.model(GEMINI).chat(HELLO).text == "?"
    tuned = next(iter(vendor.books.jobs.values()))["tunedModel"]["model"]
    assert google.model(tuned).chat(HELLO).text == "City 3", "by the endpoint of the model"


def test_an_endpoint_of_ones_own_speaks_chat_completions(vendor: Vendor, google: Provider) -> None:
    vendor.habits.chats = True
    model = google.model("projects/loopback/locations/us-central1/endpoints/own1")
    assert [model.chat(HELLO).text for _ in range(3)] == ["heard Capital of country 3?"] * 3
    assert vendor.calls.count("content") == 1, "the refusal is believed once"


def test_an_endpoint_that_answers_with_nothing_is_named(
    vendor: Vendor, google: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.habits.chats = True
    model = google.model("projects/loopback/locations/us-central1/endpoints/own1")
    model.chat(HELLO)
    monkeypatch.setattr("unift_google._model.rest", lambda *given, **more: {"choices": []})
    with pytest.raises(ProviderError) as caught:
        model.chat(HELLO)
    assert caught.value.code == "no_completion"
    assert "endpoints/own1" in caught.value.where


def test_a_model_that_is_not_there_and_a_message_that_has_no_place(
    vendor: Vendor, google: Provider
) -> None:
    place = "projects/loopback/locations/us-central1"
    with pytest.raises(ProviderError) as caught:
        google.model(f"{place}/endpoints/e404").chat(HELLO)
    assert caught.value.code == "not_found"
    picture = [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]
    with pytest.raises(UsageError):
        google.model(GEMINI).chat([{"role": "user", "content": picture}])


def test_no_model_before_the_end(vendor: Vendor, google: Provider, spec: Make) -> None:
    vendor.habits.hold = True
    handle = google.submit(google.plan(spec(model=OPEN)), "t1")
    with pytest.raises(Exception, match="left no model"):
        google.fetch(handle)
