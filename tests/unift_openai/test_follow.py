"""Following a job: strange words, pauses, failures, results; and talking to the model."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unift_openai._results import last_figures

from tests.unift_openai.conftest import BASE
from tests.vendors.openai_vendor import KEY, Vendor
from unift import start
from unift.errors import ProviderError, UsageError
from unift.provider import Provider, Sampling, State, get_provider
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]
HELLO = [{"role": "user", "content": "Capital of country 3?"}]


def test_a_word_never_seen_is_shown_and_not_taken_for_an_end(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.habits.strange_word = "warming_up"
    handle = openai.submit(openai.plan(spec()), "t1")
    seen = [openai.poll(handle) for _ in range(3)]
    assert [(one.state, one.word) for one in seen] == [
        (State.QUEUED, "queued"),
        (None, "warming_up"),
        (State.SUCCEEDED, "succeeded"),
    ]


def test_pause_and_resume(vendor: Vendor, openai: Provider, spec: Make) -> None:
    vendor.habits.hold = True
    run = start(openai.plan(spec()))
    assert (run.pause().state, run.resumable) == (State.PAUSED, True)
    vendor.habits.hold = False
    assert run.resume().wait().state is State.SUCCEEDED
    with pytest.raises(UsageError, match="nothing to pause"):
        run.pause()


def test_a_host_that_cannot_pause_names_who_can(
    vendor: Vendor, openai: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRUSOE_BASE_URL", vendor.url)
    monkeypatch.setenv("CRUSOE_API_KEY", KEY)
    crusoe = get_provider("crusoe")
    run = start(crusoe.plan(spec("crusoe", options={"metadata": True})))
    with pytest.raises(ProviderError, match=r"'crusoe' cannot pause.*azure") as caught:
        run.pause()
    assert (caught.value.code, caught.value.exit_status) == ("not_pausable", 5)
    assert vendor.calls.count("pause") == 0


def test_why_a_job_failed(vendor: Vendor, openai: Provider, spec: Make) -> None:
    vendor.habits.fail_with = {
        "code": "invalid_training_file",
        "message": "Row 3 is bad.",
        "param": None,
    }
    run = start(openai.plan(spec())).wait(check=False)
    assert run.state is State.FAILED
    assert run.failure is not None
    assert (run.failure.code, run.failure.message) == ("invalid_training_file", "Row 3 is bad.")
    assert "unift validate" in run.failure.fix


def test_a_job_that_vanished_is_lost(vendor: Vendor, openai: Provider, spec: Make) -> None:
    handle = openai.submit(openai.plan(spec()), "t1")
    vendor.books.jobs.clear()
    assert openai.poll(handle).state is State.LOST


def test_looks_survive_a_storm(vendor: Vendor, openai: Provider, spec: Make) -> None:
    handle = openai.submit(openai.plan(spec()), "t1")
    vendor.fault("job", "429 2", "500", "cut before", "fine")
    assert openai.poll(handle).state is State.QUEUED
    vendor.fault("job", *["500"] * 6)
    with pytest.raises(ProviderError) as caught:
        openai.poll(handle)
    assert caught.value.exit_status == 5


def test_a_page_of_a_proxy_is_said_and_outlived(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    run = start(openai.plan(spec()))
    assert run._row.handle is not None
    vendor.fault("job", *["page before"] * 6)
    with pytest.raises(ProviderError, match="web page"):
        openai.poll(run._row.handle)
    vendor.fault("job", "page before", "page after")
    vendor.fault("events", "page before")
    vendor.fault("checkpoints", "page before")
    assert run.wait().state is State.SUCCEEDED


def test_one_odd_field_hides_no_event(vendor: Vendor, openai: Provider, spec: Make) -> None:
    run = start(openai.plan(spec())).wait()
    assert run._row.handle is not None
    whole = openai.events(run._row.handle)
    told = type(vendor.books).events

    def odd(books: Any, job: str) -> list[dict[str, Any]]:
        first, *rest = told(books, job)
        return [{**first, "created_at": None, "level": 7, "new": []}, *rest, *rest[:1]]

    vendor.books.events = odd.__get__(vendor.books)
    assert {one.id for one in openai.events(run._row.handle)} == {one.id for one in whole}


def test_newer_models_take_other_names(vendor: Vendor, openai: Provider) -> None:
    vendor.habits.modern = True
    model = openai.model(BASE)
    many = model.chat_many([HELLO] * 20, Sampling(max_tokens=5, seed=1))
    assert [reply.text for reply in many] == ["?"] * 20
    assert vendor.calls.count("chat") < 20 + 2 * 8 + 1, "each refusal is believed"
    model.close()


def test_answers_come_in_order_and_survive_faults(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    run = start(openai.plan(spec())).wait()
    assert run.artifact is not None
    model = openai.model(run.artifact.reference)
    vendor.fault("chat", "500", "429 1", "cut after", "cut before")
    asked = [[{"role": "user", "content": f"Capital of country {n}?"}] for n in range(12)]
    assert [reply.text for reply in model.chat_many(asked)] == [f"City {n}" for n in range(12)]
    model.close()


ROWS = b"step,train_loss,valid_loss\n1,0.9,\n2,0.55,0.7\n3,0.25,\n"


@given(st.integers(0, len(ROWS)), st.booleans())
def test_no_number_is_believed_that_may_be_cut_off(cut: int, encoded: bool) -> None:
    raw = ROWS[:cut]
    found = last_figures(base64.b64encode(raw) if encoded else raw)
    whole = [line.split(b",") for line in raw.splitlines(True)[1:] if line.endswith(b"\n")]
    assert found.get("loss") == (float(whole[-1][1]) if whole else None)


@given(st.binary(max_size=200))
def test_rubbish_is_no_result_and_no_crash(raw: bytes) -> None:
    assert isinstance(last_figures(raw), dict)
