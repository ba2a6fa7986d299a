"""The probe before the first step, and what happens when memory runs out in it or later."""

from __future__ import annotations

import hashlib
import resource
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from unift_local import LocalLora
from unift_local.packing import StepCollator
from unift_local.probe import largest
from unift_local.replan import smaller
from unift_local.rundir import RunDir

import unift
from tests.unift_local.conftest import (
    chat,
    finish,
    follow,
    make_model,
    reached,
    write_rows,
)
from unift.errors import UsageError
from unift.provider import Event, Handle, Plan, Setting, State
from unift.spec import TrainSpec, make_spec


def _plan(**changes: Any) -> Plan:
    values: dict[str, Any] = {
        "batch_size": 16,
        "micro_batch": 8,
        "accumulation": 2,
        "packing": True,
        "pack_length": 2048,
        "gradient_checkpointing": False,
        "device": "cuda",
        **changes,
    }
    return Plan(
        spec=TrainSpec(provider="local-lora", model="m", data="d"),
        settings=tuple(
            Setting(name=name, value=value, origin="estimate") for name, value in values.items()
        ),
        payload={"longest_row": 700},
    )


def test_what_is_given_up_when_memory_runs_out_and_in_which_order() -> None:
    plan, seen = _plan(), []
    while new := smaller(plan):
        seen.append({one.name: one.value for one in new})
        kept = {one.name: one for one in (*plan.settings, *new)}
        plan = plan.model_copy(update={"settings": tuple(kept.values())})
    assert [one["micro_batch"] for one in seen[:3]] == [4, 2, 1]
    assert [one["accumulation"] for one in seen[:3]] == [4, 8, 16]
    assert [one.get("pack_length") for one in seen[3:5]] == [1024, 700]
    assert [one.get("checkpointing") for one in seen[5:]] == ["full", "offloaded"]
    assert plan.value("batch_size") == 16
    on_cpu = _plan(device="cpu", micro_batch=1, pack_length=700)
    assert [one.value for one in smaller(on_cpu)] == [True, "full"]


def test_passes_larger_than_any_step_are_halved_until_the_step_gets_smaller() -> None:
    # 8 packs of 2,048 tokens, but no step has more than 3,000 tokens: 4 and 2 would change nothing.
    assert {one.name: one.value for one in smaller(_plan(), 3000)}["micro_batch"] == 1


class _Rows:
    """What `largest` reads of a trainer: lengths, layout and the order of the rows."""

    def __init__(self, lengths: list[int], steps: list[list[int]], pack: int | None) -> None:
        self.row_lengths = lengths
        self.data_collator = StepCollator(0, 2, pack)
        self._steps = steps

    def get_train_dataloader(self) -> Any:
        return SimpleNamespace(batch_sampler=self._steps)


def test_the_largest_step_is_the_one_with_the_largest_pass_not_with_the_most_rows() -> None:
    lengths = [60, 60, 70, 95, 95, 95, 10, 10]
    # Capacity 200: 190 tokens in one pass beat 285 in two passes of at most 190... by order.
    steps = [[0, 1], [3, 4], [3, 4, 5], [6, 7]]
    found = largest(_Rows(lengths, steps, 100), 4)
    assert found[0] == [3, 4]
    assert found[1] == [3, 4, 5]  # several passes: gradients of the first are alive in the second
    assert largest(_Rows(lengths, steps, None), 1) == [[0, 1]]  # no further than the run goes


ROWS = 16
LONG = 400


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose MLP keeps half a megabyte a token: memory grows with the tokens of a pass."""
    folder = tmp_path_factory.mktemp("wide")
    return make_model(folder, hidden_size=32, intermediate_size=16384, head_dim=8)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(
        folder / "rows.jsonl", [chat("?" * (LONG - i), f"answer {i}") for i in range(ROWS)]
    )


def _spec(model: Path, data: Path, **options: Any) -> TrainSpec:
    return make_spec(
        provider="local-lora",
        model=str(model),
        data=str(data),
        batch_size=4,
        max_steps=2,
        options={
            "local-lora": {
                "threads": 1,
                "device": "cpu",
                "eval_steps": 1,
                "micro_batch": 4,
                "pack_length": 512,
                **options,
            }
        },
    )


def _limit(run: RunDir, more: int) -> None:
    """The process that trains may have so many bytes more than it has now: a real limit."""
    pid = run.pid()
    assert pid is not None
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    now = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData"))
    resource.prlimit(pid, resource.RLIMIT_DATA, (now + more, resource.RLIM_INFINITY))


def _train(provider: LocalLora, plan: Plan) -> tuple[str, list[Event]]:
    """The digest of its adapter, and its events."""
    handle = provider.submit(plan, "run-" + str(plan.value("probe")))
    events = finish(provider, handle)
    model = Path(handle.data["folder"]) / "model" / "adapter_model.safetensors"
    return hashlib.sha256(model.read_bytes()).hexdigest(), events


def test_a_probe_changes_nothing_that_is_learnt_and_corrects_the_next_plan(
    spec: Any, home: Path
) -> None:
    provider = LocalLora()
    lora = {"dropout": 0.1}  # so that random numbers matter
    plain = provider.plan(spec(max_steps=3, **lora))
    asked = provider.plan(spec(max_steps=3, **lora, options={"probe": True}))
    assert plain.value("probe") is False  # not worth it on a CPU unless asked for
    expected, _ = _train(provider, plain)
    found, events = _train(provider, asked)
    assert found == expected
    measured = next(event.data for event in events if "measured" in event.data)
    first = next(event.data for event in events if event.kind == "metrics")
    assert sum(measured["measured"]["lengths"]) > 0
    assert first["step"] == 1
    again = provider.plan(spec(max_steps=3, **lora)).estimate
    source = again["sources"][-1]
    assert source["age_days"] == 0
    assert "torch" in source["source"][1]
    factor = measured["probe"]["time_factor"]
    assert again["time"]["tokens_per_second"] == pytest.approx(
        plain.estimate["time"]["tokens_per_second"] / factor, rel=0.02
    )
    kept = measured["measured"]["resident_gib"]
    assert again["memory"]["device_gib"] == pytest.approx(kept, abs=0.01)
    other = provider.plan(spec(max_steps=3, seed=7, **lora)).estimate  # other rows in a step
    assert any("other rows or settings" in line for line in other["assumptions"])


def _word(provider: LocalLora, handle: Handle, word: str) -> None:
    deadline = time.monotonic() + 120
    run = RunDir(Path(handle.data["folder"]))
    while (status := run.status()) is None or status.word != word:
        assert time.monotonic() < deadline
        assert provider.poll(handle).state is not State.FAILED
        time.sleep(0.002)  # another process has to get there first


def test_an_estimate_with_a_probe_runs_it_and_later_ones_know_it(
    model_folder: Path, train_file: Path, home: Path
) -> None:
    given: dict[str, Any] = {
        "model": str(model_folder),
        "data": str(train_file),
        "providers": ["local-lora"],
    }
    before = unift.estimate(**given).as_dict()["rows"][0]
    probed = unift.estimate(**given, max_length=512, probe=True).as_dict()["rows"][0]
    after = unift.estimate(**given).as_dict()["rows"][0]
    assert not any("probe" in one["what"] for one in before["sources"])
    for row in (probed, after):
        assert row["sources"][-1]["what"].startswith("probe:")
        assert row["time"]["tokens_per_second"] != before["time"]["tokens_per_second"]
    assert probed["fits"] is True
    assert not list((home / "runs").glob("*"))  # nothing is left but the record


@pytest.mark.parametrize(
    ("changes", "where"), [({"data": None, "tokens": 1e6}, "probe"), ({"gpu": "h100"}, "gpu")]
)
def test_what_cannot_be_probed(
    model_folder: Path, train_file: Path, changes: dict[str, Any], where: str
) -> None:
    given: dict[str, Any] = {"model": str(model_folder), "data": str(train_file), **changes}
    with pytest.raises(UsageError) as caught:
        unift.estimate(**given, providers=["local-lora"], probe=True)
    assert caught.value.where == where


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_that_runs_out_in_the_probe_and_later_costs_no_training(
    wide: Path, rows: Path
) -> None:
    provider = LocalLora()
    plan = provider.plan(_spec(wide, rows, probe=True))
    handle = provider.submit(plan, "run-short")
    run = RunDir(Path(handle.data["folder"]))
    _word(provider, handle, "probing")
    _limit(run, 200 * 2**20)  # the largest pass needs more than a GiB
    _, before = follow(provider, handle, reached(1))
    assert [event.data["out_of_memory"] for event in before if "replanned" in event.data] == [
        "in the probe"
    ]
    _limit(run, 2**20)
    events = finish(provider, handle)
    said = [event for event in events if "replanned" in event.data]
    assert len(said) == 2
    assert said[0].data["replanned"] == {"micro_batch": 2, "accumulation": 2}
    assert said[1].data["out_of_memory"].startswith("at step ")
    assert all(event.kind == "warning" for event in said)
    resumed = [
        event.data["resumed_from_step"] for event in events if "resumed_from_step" in event.data
    ]
    assert resumed
    assert resumed[-1] >= 1
    steps = [event.data["step"] for event in events if event.kind == "checkpoint"]
    assert steps == [1, 2]  # none twice, none lost
    assert run.plan().value("batch_size") == 4
    assert run.plan().value("micro_batch") < plan.value("micro_batch")
