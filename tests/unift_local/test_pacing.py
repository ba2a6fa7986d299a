"""The speed of a real run corrects the estimate of the next like it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from unift_local import LocalLora
from unift_local.pacing import Clock

import unift
from tests.unift_local.conftest import chat, finish, follow, make_model, write_rows
from unift.provider import Event, State
from unift.spec import TrainSpec, make_spec

CORES = len(os.sched_getaffinity(0))  # as an estimate without a plan supposes


@dataclass
class Ran:
    """A run that ended, what was estimated before and after it, and where it left its record."""

    before: dict[str, Any]
    after: dict[str, Any]
    events: list[Event]
    home: Path
    model: Path
    data: Path

    def spec(self, **changes: Any) -> TrainSpec:
        return _spec(self.model, self.data, **changes)


def _spec(model: Path, data: Path, *, threads: int = CORES, **changes: Any) -> TrainSpec:
    settings: dict[str, Any] = {"max_steps": 16, "batch_size": 4, **changes}
    return make_spec(
        provider="local-lora",
        model=str(model),
        data=str(data),
        options={"local-lora": {"threads": threads, "device": "cpu"}},
        **settings,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    home = tmp_path_factory.mktemp("home")
    # Wide enough for a step to take longer than what surrounds it.
    model = make_model(tmp_path_factory.mktemp("model"), hidden_size=128, intermediate_size=2048)
    rows = [chat("?" * (20 + 9 * (i % 20)), f"answer {i}") for i in range(40)]
    data = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIFT_HOME", str(home))
        provider = LocalLora()
        plan = provider.plan(_spec(model, data))
        events = finish(provider, provider.submit(plan, "first"))
        after = provider.plan(_spec(model, data)).estimate
        yield Ran(dict(plan.estimate), dict(after), events, home, model, data)


@pytest.fixture
def there(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> Ran:
    monkeypatch.setenv("UNIFT_HOME", str(ran.home))
    return ran


def _record(ran: Ran) -> dict[str, Any]:
    lines = (ran.home / "paces.jsonl").read_text().splitlines()
    return json.loads(lines[0])


def _corrected(estimate: dict[str, Any]) -> str | None:
    return next((one for one in estimate["assumptions"] if "corrected by a run" in one), None)


def test_the_next_estimate_has_the_measured_speed_and_says_since_when(ran: Ran) -> None:
    record = _record(ran)
    measured = record["tokens"] / record["seconds"]
    assert record["steps"] == 16 - 3  # the first choose kernels and fill caches
    assert ran.after["time"]["tokens_per_second"] == pytest.approx(measured, rel=0.15)
    said = _corrected(ran.after)
    assert said is not None
    assert "today on this device with these libraries" in said
    source = next(one for one in ran.after["sources"] if one["what"].startswith("run: "))
    assert source["age_days"] == 0
    assert not source["stale"]
    assert "torch" in source["source"][1]
    assert _corrected(ran.before) is None
    assert any("kept for later estimates" in event.message for event in ran.events)


def test_training_takes_what_the_steps_of_the_run_took(ran: Ran) -> None:
    last = [event for event in ran.events if event.kind == "metrics"][-1]
    assert last.data["step"] == 16
    record = _record(ran)
    rates = ran.after["time"]["terms_seconds"]["training"], record["seconds"] * 16 / 13
    assert rates[0] == pytest.approx(rates[1], rel=0.15, abs=0.1)


def test_start_up_is_corrected_by_its_own_factor(ran: Ran) -> None:
    factor = _record(ran)["factors"]["start_up"]
    before, after = (one["time"]["terms_seconds"]["start_up"] for one in (ran.before, ran.after))
    assert after == pytest.approx(before * factor, rel=0.02)


def test_only_a_like_run_is_corrected(there: Ran) -> None:
    provider = LocalLora()
    longer = provider.plan(there.spec(max_steps=200)).estimate
    assert _corrected(longer) is not None
    assert longer["time"]["tokens_per_second"] == pytest.approx(
        there.after["time"]["tokens_per_second"], rel=0.05
    )
    for other in ({"threads": CORES + 1}, {"packing": False}, {"dropout": 0.1}):
        assert _corrected(dict(provider.plan(there.spec(**other)).estimate)) is None


def test_the_command_without_a_plan_knows_it_too(there: Ran) -> None:
    found = unift.estimate(
        model=str(there.model), data=str(there.data), providers=["local-lora"], gpu="cpu"
    ).as_dict()
    assert _corrected(found["rows"][0]) is not None


def test_an_old_record_is_flagged_and_a_torn_one_left_out(
    there: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _record(there)
    old = {**record, "at": "2025-01-01T00:00:00+00:00", "factors": {"training": 7.0}}
    lines = ["{", json.dumps({"key": record["key"]}), json.dumps(old)]
    (tmp_path / "paces.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    found = dict(LocalLora().plan(there.spec()).estimate)
    source = next(one for one in found["sources"] if one["what"].startswith("run: "))
    assert source["stale"]
    assert f"{source['age_days']} days ago" in str(_corrected(found))
    assert "7.00 times" in str(_corrected(found))


def test_a_run_of_few_steps_tells_nothing() -> None:
    clock = Clock(born=0.0)
    clock.begin()
    for _ in range(7):
        clock.step(100)
    assert clock.counted() is None
    clock.step(100)
    found = clock.counted()
    assert found is not None
    assert found[1] == 500  # tokens after the first three steps


def test_an_interrupted_run_counts(
    there: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIFT_HOME", str(tmp_path))
    provider = LocalLora()
    handle = provider.submit(provider.plan(there.spec(max_steps=5000)), "long")
    follow(provider, handle, lambda event: (event.data.get("step") or 0) >= 12)
    provider.cancel(handle)
    status, _ = follow(provider, handle)
    assert status.state is State.CANCELLED
    record = json.loads((tmp_path / "paces.jsonl").read_text().splitlines()[0])
    assert record["steps"] >= 8
