"""Nothing is ordered twice, nothing that was ordered is lost, nothing is left lying about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unift_openai.conftest import BASE
from tests.vendors.clock import Clock
from tests.vendors.openai_vendor import KEY, Vendor
from unift import start
from unift.errors import LostError, ProviderError, UsageError
from unift.provider import Provider, State, get_provider
from unift.runs import reconcile, run
from unift.spec import TrainSpec

Make = Callable[..., TrainSpec]


def test_an_answer_cut_off_is_found_again(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock
) -> None:
    vendor.fault("create", "cut after")
    handle = openai.submit(openai.plan(spec()), "t1")
    assert [job["id"] for job in vendor.jobs_with("t1")] == [handle.id]
    assert vendor.calls.count("create") == 1


@pytest.mark.parametrize("fault", ["page before", "page after"])
def test_a_page_of_a_proxy_is_a_doubt_and_no_answer(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock, fault: str
) -> None:
    vendor.fault("create", fault)
    if fault == "page after":
        openai.submit(openai.plan(spec()), "t1")
    else:
        with pytest.raises(LostError):
            openai.submit(openai.plan(spec()), "t1")
    assert len(vendor.jobs_with("t1")) == (fault == "page after")
    assert vendor.calls.count("create") == 1


@pytest.mark.parametrize("metadata", [True, False])
def test_a_job_that_is_listed_late_is_lost_first_and_found_later(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock, metadata: bool
) -> None:
    vendor.habits.lag, vendor.habits.metadata = 60, metadata
    vendor.fault("create", "cut after")
    with pytest.raises(LostError) as caught:
        start(openai.plan(spec(options={"metadata": metadata})))
    assert "reconcile" in caught.value.fix
    (lost, trouble), *_ = reconcile()
    assert (lost.state, type(trouble)) == (State.LOST, ProviderError), "too early to be certain"
    clock.sleep(200)
    (found, trouble), *_ = reconcile()
    assert (found.state, trouble) == (State.QUEUED, None)
    found.wait()
    assert len(vendor.books.jobs) == 1
    assert vendor.calls.count("create") == 1


def test_an_order_that_never_arrived_may_be_given_again_once_that_is_certain(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock
) -> None:
    vendor.fault("create", "cut before")
    with pytest.raises(LostError):
        start(openai.plan(spec()))
    (lost, _), *_ = reconcile()
    with pytest.raises(LostError) as caught:
        openai.submit(lost.plan, f"unift-{lost.id}")
    assert caught.value.code == "create_unanswered"
    clock.sleep(200)
    (back, _), *_ = reconcile()
    assert (back.state, back.failure) == (State.PLANNED, None)
    assert back.resume().wait().state is State.SUCCEEDED
    assert len(vendor.books.jobs) == 1


def test_a_clock_set_back_only_makes_it_wait(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock
) -> None:
    vendor.fault("create", "cut before")
    with pytest.raises(LostError):
        openai.submit(openai.plan(spec()), "t1")
    clock.time -= 1_000_000
    with pytest.raises(ProviderError, match="another 120 seconds"):
        openai.find("t1")


def test_a_storm_of_429_is_waited_out_as_asked(
    vendor: Vendor, openai: Provider, spec: Make, clock: Clock
) -> None:
    plan = openai.plan(spec())
    vendor.fault("create", "429 7", "429 11")
    vendor.fault("upload", "429 3")
    openai.submit(plan, "t1")
    assert len(vendor.books.jobs) == 1
    assert {3.0, 7.0, 11.0} <= set(clock.slept)


def test_a_storm_that_does_not_end_leaves_nothing_behind(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.fault("create", *["429"] * 20)
    with pytest.raises(ProviderError) as caught:
        openai.submit(openai.plan(spec()), "t1")
    assert caught.value.code == "rate_limit_exceeded"
    assert not vendor.books.jobs
    assert not vendor.books.files, "the upload was deleted"
    assert openai.find("t1") is None


def test_no_credit_is_not_asked_twice(vendor: Vendor, openai: Provider, spec: Make) -> None:
    vendor.fault("create", "no credit")
    with pytest.raises(ProviderError) as caught:
        openai.submit(openai.plan(spec()), "t1")
    assert caught.value.code == "insufficient_quota"
    assert vendor.calls.count("create") == 1
    assert not vendor.books.files


def test_an_upload_is_tried_again_and_never_doubled(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.fault("upload", "500", "cut after", "cut before")
    openai.submit(openai.plan(spec()), "t1")
    assert len(vendor.books.files) == 1


def test_the_same_rows_are_uploaded_once_where_the_token_travels_in_metadata(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    first = openai.submit(openai.plan(spec()), "t1")
    second = openai.submit(openai.plan(spec(epochs=2)), "t2")
    assert first.id != second.id
    assert len(vendor.books.files) == 1


def test_every_token_has_its_own_file_where_metadata_is_forgotten(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.habits.metadata = False
    plan = openai.plan(spec(options={"metadata": False}))
    first, second = openai.submit(plan, "t1"), openai.submit(plan, "t2")
    found = [openai.find("t1"), openai.find("t2")]
    assert [one and one.id for one in found] == [first.id, second.id]
    assert len(vendor.books.files) == 2
    assert all("metadata" not in body for body in vendor.bodies)


def test_a_refused_order_does_not_take_away_the_file_of_another_job(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    plan = openai.plan(spec())
    openai.submit(plan, "t1")
    vendor.fault("create", "no credit")
    with pytest.raises(ProviderError):
        openai.submit(plan, "t2")
    assert len(vendor.books.files) == 1


def test_a_file_that_cannot_be_deleted_is_named(
    vendor: Vendor, openai: Provider, spec: Make
) -> None:
    vendor.fault("create", "no credit")
    vendor.fault("delete", *["500"] * 6)
    with pytest.raises(ProviderError) as caught:
        openai.submit(openai.plan(spec()), "t1")
    assert next(iter(vendor.books.files)) in caught.value.message


def test_data_that_changed_since_it_was_planned_is_not_sent(
    vendor: Vendor, openai: Provider, spec: Make, rows: str
) -> None:
    plan = openai.plan(spec())
    with open(rows, "a") as file:
        file.write(
            '{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}'
        )
    with pytest.raises(UsageError, match="changed"):
        openai.submit(plan, "t1")
    assert "upload" not in vendor.calls


def test_a_wrong_key_is_an_error_without_the_key(
    vendor: Vendor, openai: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-and-secret")
    with pytest.raises(ProviderError) as caught:
        openai.submit(openai.plan(spec()), "t1")
    assert caught.value.code == "bad_key"
    assert "secret" not in str(caught.value)
    assert caught.value.exit_status == 5


def test_a_host_that_is_not_there_is_a_refusal_not_a_doubt(
    openai: Provider, spec: Make, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    plan = openai.plan(spec(options={"base_url": "http://127.0.0.1:9/v1"}))
    with pytest.raises(ProviderError) as caught:
        openai.submit(plan, "t1")
    assert caught.value.code == "unreachable"


def test_the_vendors_key_goes_to_nobody_else(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch, spec: Make
) -> None:
    with Vendor() as stranger:
        model = get_provider("openai").model(f"{stranger.url}#{BASE}")
        with pytest.raises(ProviderError) as caught:
            model.chat([{"role": "user", "content": "x"}])
        model.close()
        assert caught.value.code == "bad_key"
        assert "UNIFT_API_KEY" in caught.value.fix
        monkeypatch.setenv("UNIFT_API_KEY", KEY)
        model = get_provider("openai").model(f"{stranger.url}#{BASE}")
        assert model.chat([{"role": "user", "content": "x"}]).text == "?"
        model.close()


def test_a_run_through_the_journal(vendor: Vendor, openai: Provider, spec: Make) -> None:
    made = start(openai.plan(spec())).wait()
    again: Any = run(made.id)
    assert again.state is State.SUCCEEDED
    assert again.artifact.metrics["loss"] == pytest.approx(1 / 6, abs=1e-3)
    assert again.artifact.metrics["trained_tokens"] == 1234
    steps = [e.data["step"] for e in again.events(follow=False) if e.kind == "metrics"]
    assert steps == [1, 2, 3, 4, 5, 6]
    losses = [e.data for e in again.events(follow=False) if e.kind == "evaluation"]
    assert [(one["step"], round(one["validation_loss"], 3)) for one in losses] == [
        (3, 0.667),
        (6, 0.333),
    ]
