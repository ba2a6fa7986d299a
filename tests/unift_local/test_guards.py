"""Traps of the libraries that give no error, each with the guard that closes it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unift_local import LocalLora, LocalQlora, guards
from unift_local.packing import Row, StepCollator, bins, even_bins, make_rows

from unift.data.rendering import Rendered, render_all
from unift.errors import DataError, RunError

Trainer = Callable[..., Any]
# Libraries among themselves; the worker keeps these in its log.
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
_LOCAL = {"local-lora": LocalLora, "local-qlora": LocalQlora}


@pytest.fixture
def trainer(
    spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Trainer:
    """The worker's trainer, built in this process; `dropout` is off so that losses compare."""
    from unift_local.checkpoint import Progress
    from unift_local.recipe import build
    from unift_local.rundir import EventLog, run_dir

    monkeypatch.setattr("unift_local.launch.start", lambda run: None)
    made: list[int] = []

    def make(provider: str = "local-lora", **settings: Any) -> Any:
        local, token = _LOCAL[provider](), f"t{len(made)}"
        made.append(1)
        plan = local.plan(spec(provider, **{"dropout": 0.0, **settings}))
        local.submit(plan, token)
        run = run_dir(token)
        no_stop: Any = False
        log = EventLog(run.events_file)
        request.addfinalizer(log.close)
        return build(run, plan, log, no_stop, Progress())[1]

    return make


def one_step(trainer: Any) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of the first eight rows."""
    rows = [trainer.train_dataset[i] for i in range(8)]
    trainer.model.zero_grad()
    loss = trainer.training_step(trainer.model, trainer.data_collator(rows))
    trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
    return loss.item(), {
        name: None if p.grad is None else p.grad.clone() for name, p in trained.items()
    }


def nudge(trainer: Any) -> None:
    """Make the adapter do something: half of it starts as zeros, with no gradient behind it."""
    import torch

    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)


def test_the_loss_is_that_of_the_answers_and_not_of_the_prompts(
    trainer: Trainer, tokenizer: Any, validation_file: Path
) -> None:
    import torch

    from unift.data import read_examples

    made = trainer()
    loss = made.evaluate()["eval_loss"]
    masked, everything, trained, tokens = 0.0, 0.0, 0, 0
    for row in render_all(tokenizer, read_examples(validation_file)):
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            logits = made.model(input_ids=ids, use_cache=False).logits[0, :-1]
        each = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
        mask = torch.tensor(row.trained[1:])
        masked += each[mask].sum().item()
        everything += each.sum().item()
        trained += int(mask.sum())
        tokens += len(each)
    assert loss == pytest.approx(masked / trained, abs=1e-5)
    assert abs(loss - everything / tokens) > 1e-3


def test_packing_and_micro_batches_change_nothing_but_speed(trainer: Trainer) -> None:
    import torch

    layouts: list[dict[str, Any]] = [
        {"packing": False, "options": {"micro_batch": 1}},
        {"packing": False, "options": {"micro_batch": 8}},
        {"packing": True, "options": {"pack_length": 500}},
        {"packing": True, "options": {"pack_length": 60, "micro_batch": 2}},
    ]
    results: list[tuple[float, dict[str, Any], float]] = []
    passes: list[int] = []
    for layout in layouts:
        made = trainer(**layout)
        nudge(made)
        rows = [made.train_dataset[i] for i in range(8)]
        passes.append(len(made.data_collator(rows)["micro_batches"]))
        results.append((*one_step(made), made.evaluate()["eval_loss"]))
    assert passes[:3] == [8, 1, 1]
    assert passes[3] > 1
    loss, gradients, evaluated = results[0]
    for other_loss, other_gradients, other_evaluated in results[1:]:
        assert other_loss == pytest.approx(loss, abs=1e-5)
        assert other_evaluated == pytest.approx(evaluated, abs=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(other_gradients[name], gradient, atol=1e-5, rtol=1e-4)


def test_four_bit_keeps_all_gradients_after_evaluating(trainer: Trainer) -> None:
    import torch

    made = trainer("local-qlora")
    nudge(made)
    loss, before = one_step(made)
    made.evaluate()
    again, after = one_step(made)
    assert len(after) == 28
    assert [name for name, gradient in after.items() if gradient is None] == []
    assert again == pytest.approx(loss, abs=1e-6)
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient)


def test_four_bit_evaluates_shapes_that_are_no_multiple_of_64(
    trainer: Trainer, tmp_path: Path
) -> None:
    from tests.unift_local.conftest import make_model

    made = trainer("local-qlora", model=str(make_model(tmp_path / "m", intermediate_size=96)))
    assert made.evaluate()["eval_loss"] > 0


def test_adapters_are_trained_in_fp32(trainer: Trainer) -> None:
    for provider in ("local-lora", "local-qlora"):
        made = trainer(provider)
        kinds = {str(p.dtype) for p in made.model.parameters() if p.requires_grad}
        assert kinds == {"torch.float32"}


def test_dtype_and_checkpointing_options_reach_the_model(trainer: Trainer) -> None:
    plain = trainer()
    assert str(plain.model.get_input_embeddings().weight.dtype) == "torch.float32"
    options = {"dtype": "bf16", "gradient_checkpointing": True}
    changed = trainer(options=options, max_steps=1, validation=None, batch_size=2)
    assert str(changed.model.get_input_embeddings().weight.dtype) == "torch.bfloat16"
    times: list[int] = []
    for number, layer in enumerate(changed.model.get_base_model().model.layers):
        layer.input_layernorm.register_forward_hook(lambda *_, number=number: times.append(number))
    changed.train()
    assert sorted(times) == [0, 0, 1, 1]  # once more in the backward pass


def test_the_seed_decides_the_adapter_and_the_order(trainer: Trainer) -> None:
    def start(seed: int) -> tuple[Any, list[int]]:
        made = trainer(seed=seed)
        first = next(iter(made.get_train_dataloader()))
        adapter = {n: p for n, p in made.model.named_parameters() if "lora_A" in n}
        return next(iter(adapter.values())).detach().clone(), first["micro_batches"][0][
            "input_ids"
        ].flatten().tolist()

    one, same, other = start(1), start(1), start(2)
    assert one[0].equal(same[0])
    assert one[1] == same[1]
    assert not one[0].equal(other[0])
    assert one[1] != other[1]


def test_a_row_without_loss_is_an_error_and_not_dropped() -> None:
    good = Rendered([1, 2, 3], [False, True, True], "abc", ((1, 3),))
    bad = Rendered([1, 2, 3], [True, False, False], "abc", ((0, 1),))
    assert make_rows([good]) == [Row([1, 2, 3], [-100, 2, 3])]
    with pytest.raises(DataError, match="row 2"):
        make_rows([good, bad])


@given(st.lists(st.integers(1, 60), max_size=60), st.integers(1, 50))
def test_every_row_is_packed_once_and_no_pack_is_too_long(
    lengths: list[int], capacity: int
) -> None:
    packed = bins(lengths, capacity)
    assert sorted(index for one in packed for index in one) == list(range(len(lengths)))
    for one in packed:
        assert sum(lengths[i] for i in one) <= capacity or len(one) == 1
    # No two packs could have been one: at most one of them is half empty.
    light = [one for one in packed if sum(lengths[i] for i in one) * 2 <= capacity]
    assert len(light) <= 1


def test_no_token_is_lost_between_rows_and_micro_batches() -> None:
    rows = [{"input_ids": [n] * n, "labels": [-100] + [n] * (n - 1)} for n in (1500, 3, 7, 2)]
    for length, multiple in ((10, 1), (4000, 1), (4000, 256), (None, 1)):
        step = StepCollator(0, 1, length, multiple)(rows)
        tokens = sum(int((one["input_ids"] != 0).sum()) for one in step["micro_batches"])
        labels = sum(int((one["labels"] != -100).sum()) for one in step["micro_batches"])
        assert (tokens, step["tokens"]) == (1512, 1512)
        assert (labels, step["trained"]) == (1508, 1508)
        for one in step["micro_batches"]:
            if length is not None:
                assert one["input_ids"].shape[1] % multiple == 0
            flat = one["labels"].flatten()
            assert flat[one["trained_at"] + 1].tolist() == one["targets"].tolist()
            assert len(one["targets"]) == int((flat != -100).sum())


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(16, 400))
def test_forward_passes_are_as_few_and_filled_alike(lengths: list[int], capacity: int) -> None:
    packed, even = bins(lengths, capacity), even_bins(lengths, capacity)
    assert len(even) == len(packed)
    assert sorted(index for one in even for index in one) == list(range(len(lengths)))

    def fullest(groups: list[list[int]]) -> int:
        return max(sum(lengths[i] for i in one) for one in groups)

    assert fullest(even) <= fullest(packed)


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


@pytest.mark.parametrize(
    ("error", "code", "words", "resumable"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried 2 GiB"), "out_of_memory", "micro_batch", True),
        (RuntimeError("[enforce fail] can't allocate memory"), "out_of_memory", "resume", True),
        (MemoryError(), "out_of_memory", "local-qlora", True),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full", "free at least", True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "disk_full", "", True),
        (guards.NotFinite("nan", fix="lower"), "loss_not_finite", "lower", False),
        (DataError("bad row", code="row_too_long", fix="cut"), "row_too_long", "cut", False),
        (RunError("x"), "run_failed", "", False),
        (KeyError("surprise"), "worker_crashed", "read the end of that log", True),
    ],
)
def test_failures_become_words(
    error: Exception, code: str, words: str, resumable: bool, tmp_path: Path
) -> None:
    wrapped = RuntimeError("while saving")
    wrapped.__cause__ = error
    for one in (error, wrapped):
        failure, can_resume = guards.explain(one, tmp_path / "worker.log", 2**20)
        assert failure.code == code
        assert words in failure.fix
        assert can_resume == resumable
