"""The diagnosis on recorded trainings of the embedded model, and while a training goes on."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.evaluate.test_diagnosis import Curve, events, falling, plan, turning
from unift.evaluate import Diagnosis, Watch, diagnose
from unift.provider import Event

CURVES = sorted((Path(__file__).parent / "curves").rglob("*.json"))
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "diagnosis" / "confusion.py"
HEALTHY = {"healthy", "plateau", "underfitting"}
#: What is known to come out wrong; benchmarks/results/diagnosis.md has more of it.
MISSED = {
    "rank-64-b": "rate_too_high",
    "dice": "healthy", "full": "healthy", "full-b": "healthy", "full-c": "healthy",
    "settles-b": "healthy", "settles-c": "healthy", "small-batch-b": "healthy",
    "large-batch": "plateau", "rank-64": "plateau",
    "ladder-desk-22e-3": "underfitting", "ladder-full-3e-3": "overfitting",
}  # fmt: skip


def _script() -> Any:
    spec = importlib.util.spec_from_file_location("confusion", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


confusion = _script()  # the table is made of the very same events


def recorded(path: Path) -> tuple[str, list[Event]]:
    """The label of a recorded curve, and its events in order."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found["label"], confusion.events_of(found)


def alarms(curve: list[Event]) -> list[str]:
    watch = Watch(plan())
    return [found.code for event in curve if (found := watch.see(event))]


@pytest.mark.parametrize("path", CURVES, ids=lambda path: path.stem)
def test_a_recorded_training_gets_its_label(path: Path) -> None:
    label, curve = recorded(path)
    found, live = diagnose(curve, plan()), alarms(curve)
    if path.stem in MISSED:  # so that nobody improves it without saying so
        assert found.code == MISSED[path.stem], found.sentence
        return
    assert found.code == label, found.sentence
    if label in HEALTHY:
        assert live == []
    elif label == "bad_masks":
        assert live == [label]
    elif label == "overfitting":  # a slight one may be told at the end only
        assert set(live) <= {label}
    else:  # one of the two is told, since the advice is the same
        assert len({"diverging", "rate_too_high"} & set(live)) <= 1


def test_trouble_is_mostly_told_while_it_happens() -> None:
    bad = [curve for label, curve in map(recorded, CURVES) if label not in HEALTHY]
    # A loss that stood and fell as the rate sank is known only when it has fallen.
    bad = [curve for curve in bad if "stood" not in diagnose(curve, plan()).evidence]
    told = [curve for curve in bad if alarms(curve)]
    assert len(told) >= 0.8 * len(bad), (len(told), len(bad))


def test_there_are_recorded_trainings() -> None:
    assert {recorded(path)[0] for path in CURVES} >= {
        "healthy", "overfitting", "diverging", "bad_masks"
    }  # fmt: skip


@pytest.mark.parametrize("noise", [0.0, 0.05, 0.1])
@pytest.mark.parametrize("pace", [12, 25, 40])
@pytest.mark.parametrize("floor", [0.02, 0.3, 1.2])
def test_a_good_training_raises_no_alarm_at_any_moment(
    noise: float, pace: float, floor: float
) -> None:
    curve = events(falling(floor, pace), falling(floor * 1.2, pace), noise=noise)
    assert alarms(curve) == []
    assert diagnose(curve).code in ("healthy", "plateau")


def test_level_for_half_of_the_steps_is_a_plateau() -> None:
    found = diagnose(events(falling(0.3, 12), falling(0.5, 12)), plan())
    assert found.code == "plateau"
    assert found.advice[0].flags == "--epochs 2"


def jumping(step: int) -> float:
    return falling(0.5)(step) + (1.5 * (1 - (step - 60) / 90) if 60 <= step < 150 else 0)


def test_a_loss_that_jumps_and_comes_back_has_too_high_a_rate() -> None:
    found = diagnose(events(jumping, falling(0.6), noise=0.05), plan())
    assert found.code == "rate_too_high"
    assert found.advice[0].flags == "--learning-rate 5e-05"


def cosine(step: int) -> float:
    return 2e-4 * (1 + math.cos(math.pi * step / 200)) / 2


def standing(level: float, end: float) -> Curve:
    """Falls to a level at once, stands there, and falls on from the middle."""
    return lambda step: (
        falling(level, 8)(step) if step < 100 else end + (level - end) * (200 - step) / 100
    )


@pytest.mark.parametrize(
    ("curve", "decays", "code"),
    [
        (standing(1.2, 0.3), True, "rate_too_high"),
        (standing(1.2, 0.3), False, "underfitting"),  # the rate cannot have done it
        (standing(1.2, 0.9), True, "underfitting"),  # fell by a quarter: there was more to learn
        (standing(2.4, 0.3), True, "underfitting"),  # learnt nothing before: a slow start
        (standing(0.05, 0.01), True, "healthy"),  # next to nothing was left
        (falling(0.3, 25), True, "healthy"),
    ],
)
def test_a_loss_that_falls_only_as_the_rate_sinks(curve: Curve, decays: bool, code: str) -> None:
    made = events(curve, curve)
    if decays:
        made = [
            one.model_copy(update={"data": {**one.data, "learning_rate": cosine(one.data["step"])}})
            for one in made
        ]
    found = diagnose(made, plan())
    assert found.code == code, found.sentence
    assert alarms(made) == []
    if code == "rate_too_high":
        assert [one.flags for one in found.advice] == ["--learning-rate 5e-05", "--epochs 8"]
        assert "stood there until step 100" in found.sentence


def test_a_first_batch_that_the_base_knows_is_no_low_to_jump_from() -> None:
    """The very first training loss may be near zero; the base's loss on all rows is not."""
    good, known = falling(0.3), 1e-4
    made = events(lambda step: known if step == 1 else good(step), falling(0.5), noise=0.1)
    before = late({"step": 0, "validation_loss": 2.5}, "evaluation")
    assert diagnose([before, *made], plan()).code == "healthy"
    assert alarms([before, *made]) == []


def test_masks_by_the_losses_and_by_the_plan() -> None:
    found = diagnose(events(lambda _: 0.0, lambda _: 0.0), plan())
    assert found.code == "bad_masks"
    assert "--show 3" in found.advice[0].command
    assert "--model" in found.advice[0].command  # rows cannot be shown without one
    nan = float("nan")
    assert diagnose(events(lambda _: nan, lambda _: nan), plan()).code == "bad_masks"
    good = events(falling(0.3), falling(0.5))
    for trained in (0, 1000):
        broken = plan().model_copy(update={"payload": {"tokens": 1000, "trained_tokens": trained}})
        assert diagnose(good, broken).code == "bad_masks"
    right = plan().model_copy(update={"payload": {"tokens": 1000, "trained_tokens": 400}})
    assert diagnose(good, right).code == "healthy"


def late(data: dict[str, Any], kind: Any = "checkpoint") -> Event:
    return Event(id=f"c{data}", at=confusion.AT, kind=kind, data=data)


def advice_of(*more: Event, provider: str = "local-lora") -> Diagnosis:
    asked = plan()
    asked = asked.model_copy(update={"spec": asked.spec.model_copy(update={"provider": provider})})
    return diagnose([*events(falling(0.1), turning(0.5, 100, 0.003)), *more], asked)


def test_the_checkpoint_to_go_back_to_is_a_command() -> None:
    local = advice_of(late({"step": 100, "folder": "/runs/a b/checkpoint-100"}))
    assert local.advice[0].command == (
        "unift evaluate 'path:/runs/a b/checkpoint-100' --data TEST.jsonl"
    )
    vendor = advice_of(
        late({"step": 90, "model": "ft:m:ckpt-step-90"}),
        late({"step": 200, "model": "ft:m"}),
        provider="openai",
    )
    assert vendor.advice[0].command == "unift evaluate openai:ft:m:ckpt-step-90 --data TEST.jsonl"
    assert "step 90, the kept one nearest to step 100" in vendor.advice[0].text
    kept = advice_of(late({"step": 100}, "artifact"))
    assert kept.advice[0].command == ""
    assert "use it as it is" in kept.advice[0].text


def test_a_checkpoint_that_is_worse_than_the_base_is_not_recommended() -> None:
    def rising(step: int) -> float:
        return 2.5 + 0.01 * step

    for base, last in ((2.0, "No step is better than the base"), (4.0, "Go back to")):
        before = late({"step": 0, "validation_loss": base}, "evaluation")
        kept = late({"step": 20, "folder": "/runs/checkpoint-20"})
        found = diagnose([before, *events(rising, rising), kept], plan())
        assert found.code == "diverging"
        assert found.advice[-1].text.startswith(last)


def test_an_alarm_is_told_once_also_after_a_resume() -> None:
    bad: Curve = turning(0.5, 80, 0.003)
    curve = events(falling(0.1), bad)
    assert alarms(curve) == ["overfitting"]
    told = late({"step": 1, "diagnosis": {"code": "overfitting"}}, "warning")
    assert alarms([told, *curve]) == []


def test_a_hidden_rate_is_changed_by_its_multiplier() -> None:
    curve = events(lambda s: 2.5 + max(0, s - 60) * 0.05, None)
    found = diagnose(curve, plan(learning_rate=None, learning_rate_multiplier=2.0))
    assert found.advice[0].flags == "--learning-rate-multiplier 0.5"
    found = diagnose(curve, plan(learning_rate=None, learning_rate_multiplier="auto"))
    assert "--learning-rate-multiplier below" in found.advice[0].text
