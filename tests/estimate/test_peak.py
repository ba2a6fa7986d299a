"""The peak that the formula says is the peak that unift's own trainer has, storage by storage.

Real steps of small models on the CPU in bfloat16; every storage is counted from its making to its
end. What CUDA compiles into one kernel is counted as one: its results, and nothing between.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from unift.estimate import Shape, estimate_memory

FOLDER = Path(__file__).parents[2] / "benchmarks" / "memory"
GIB = 2**30
# Wide enough that nothing hides behind rounding; a vocabulary whose logits are no small thing.
LLAMA = {
    "model_type": "llama",
    "vocab_size": 3000,
    "hidden_size": 256,
    "intermediate_size": 896,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": False,
}
EXPERTS = {
    **LLAMA,
    "model_type": "qwen3_moe",
    "vocab_size": 500,
    "num_experts": 16,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 96,
}
NONE = {"checkpointing": "none"}
CASES: list[tuple[str, dict[str, Any], str, dict[str, Any]]] = [
    ("adapters, nothing recomputed", LLAMA, "lora", NONE),
    ("adapters, everything recomputed", LLAMA, "lora", {}),
    ("full, two passes", LLAMA, "full", {"dtype": "mixed", "passes": 2, **NONE}),
    ("adapters on experts", EXPERTS, "lora", {"targets": "default", **NONE}),
    ("experts in float32", EXPERTS, "full", {"dtype": "mixed", **NONE}),
]


@pytest.fixture(scope="module", autouse=True)
def _benchmarks() -> Iterator[None]:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("config", "tuning", "how"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_a_step_peaks_where_the_formula_says(
    config: dict[str, Any], tuning: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = importlib.import_module("_configs").Run(
        "a model",
        tuning,
        512,
        rows_per_pack=6,
        attention="varlen",
        product=True,
        **how,
    )
    words: dict[str, Any] = {
        "tuning": tuning,
        "length": run.length,
        "checkpointing": run.checkpointing,
        "dtype": run.dtype,
        "packing": True,
        "attention": "varlen",
        "kernels": "adapters" if tuning == "lora" else "torch",
        "passes": run.passes,
        "device": "cpu",
    }
    memory = estimate_memory(Shape.from_config(config), **words)
    assert memory.allocated_gib * GIB == pytest.approx(_peak(run, config, monkeypatch), rel=0.025)


def _peak(run: Any, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> int:
    """Bytes at the peak of the second step, when the optimiser has its states."""
    import torch
    from unift_local import lora_math, loss

    _build, _train, grid = map(importlib.import_module, ("_build", "_train", "grid"))
    base = _build.build(config, run.tuning, run.dtype, "cpu")
    model, _ = _train._adapt(run, base)
    trainer, _ = _train.make_trainer(
        run, model, "cpu", grid._tokenizer(), None, 1, _train.Clock(False)
    )
    precision = next(one for one in trainer._plan.settings if one.name == "dtype")
    object.__setattr__(precision, "value", "bf16")  # a CPU's plan says fp32
    with _counting(monkeypatch, lora_math, loss) as (add, peak):
        for tensor in (*model.parameters(), *model.buffers()):
            add(tensor.data)
        batch = trainer.data_collator(
            [trainer.train_dataset[i] for i in range(len(trainer.train_dataset))]
        )
        trainer.create_optimizer()
        trained = [one for one in model.parameters() if one.requires_grad]
        for _ in range(2):
            peak[0] = 0
            micro = [dict(one) for one in batch["micro_batches"]]
            assert len(micro) == run.passes
            trainer.accumulate(model, {**batch, "micro_batches": micro})
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
    return peak[0]


@contextmanager
def _counting(
    monkeypatch: pytest.MonkeyPatch, *fused: Any
) -> Iterator[tuple[Callable[[Any], None], list[int]]]:
    """Bytes of storages that are alive, and their highest sum."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
    from torch.utils._pytree import tree_leaves

    alive: dict[int, int] = {}
    now, peak = [0], [0]

    def gone(place: int) -> None:
        now[0] -= alive.pop(place, 0)

    def add(tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place not in alive:
            alive[place] = storage.nbytes()
            now[0] += storage.nbytes()
            weakref.finalize(storage, gone, place)
            peak[0] = max(peak[0], now[0])

    def one_kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with _disable_current_modes():
                found = function(*args)
            for tensor in tree_leaves(found):
                add(tensor)
            return found

        return call

    class Counting(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            found = func(*args, **(kwargs or {}))
            for tensor in tree_leaves(found):
                if isinstance(tensor, torch.Tensor):
                    add(tensor)
            return found

    pointwise = (
        "_into_gradient",
        "_swiglu",
        "_swiglu_again",
        "_swiglu_backward",
        "_swiglu_into_gradients",
    )
    for module in fused:
        for name in pointwise:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, one_kernel(getattr(module, name)))
    with Counting():
        yield add, peak
