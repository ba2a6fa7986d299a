"""Settings for speed: each can be turned off, and none changes what is learnt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from unift_local import LocalFull, LocalLora, attention, speed

from tests.unift_local.layers import (
    base_model,
    difference,
    gradients,
)
from unift.errors import UsageError

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def step(spec: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    """Loss and gradients of the first step of a run, as its plan has it."""
    from unift_local import _provider, checkpoint, recipe
    from unift_local.rundir import EventLog, RunDir

    def take(provider: Any = None, **options: Any) -> tuple[float, dict[str, torch.Tensor]]:
        provider = provider or LocalLora()
        settings = options.pop("settings", {})
        plan = provider.plan(spec(provider.name, options=options, **settings))
        place = RunDir(tmp_path / str(len(list(tmp_path.iterdir()))))
        place.checkpoints.mkdir(parents=True)
        for part, field in (("train", "data"), ("validation", "validation")):
            _provider._snapshot(place, part, plan, field)
        progress = checkpoint.Progress()
        log = EventLog(place.events_file)
        _, trainer = recipe.build(place, plan, log, _never(), progress)
        inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
        for name, parameter in trainer.model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(3))
        total = trainer.training_step(trainer.model, inputs)
        return float(total), gradients(trainer.model)

    return take


def _never() -> Any:
    """Nobody asks for the end."""
    return False


@pytest.mark.parametrize(
    "options",
    [
        {"attention": "sdpa"},
        {"loss": "plain"},
        {"fused_adapters": False},
        {"pack_length": 64, "micro_batch": 3},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "checkpointing": "selective", "checkpointed_layers": 1},
        {"gradient_checkpointing": True, "checkpointing": "offloaded"},
    ],
)
def test_no_setting_for_speed_changes_the_gradient(step: Any, options: dict[str, Any]) -> None:
    wanted, wanted_gradients = step()
    got, got_gradients = step(**options)
    assert got == pytest.approx(wanted, rel=1e-5)
    assert difference(got_gradients, wanted_gradients) < 1e-4


def test_full_tuning_by_the_fast_path_has_the_plain_gradient(step: Any) -> None:
    wanted, wanted_gradients = step(LocalFull(), attention="sdpa", loss="plain")
    got, got_gradients = step(LocalFull())
    assert got == pytest.approx(wanted, rel=1e-5)
    assert difference(got_gradients, wanted_gradients) < 1e-4


def test_checkpointing_recomputes_as_many_layers_as_it_says(spec: Callable[..., Any]) -> None:
    options = {"gradient_checkpointing": True, "checkpointed_layers": 1}
    plan = LocalLora().plan(spec(options=options))
    assert plan.value("checkpointing") == "selective"
    model = base_model("Llama")
    speed.apply(plan, model)
    model.train()
    times: list[int] = []
    for number, layer in enumerate(speed.layers(model)):
        norm: Any = layer.input_layernorm
        norm.register_forward_hook(lambda *_, number=number: times.append(number))
    ids = torch.arange(10, 20)[None]
    model(input_ids=ids, use_cache=False).logits.sum().backward()
    assert sorted(times) == [0, 0, 1]
    times.clear()
    model.eval()(input_ids=ids, use_cache=False)
    assert times == [0, 1]


@pytest.mark.parametrize(
    ("settings", "options", "where"),
    [
        ({"dropout": 0.1}, {"fused_adapters": True}, "options.fused_adapters"),
        ({"packing": False}, {"attention": "varlen"}, "options.attention"),
        ({}, {"compile": True}, "options.compile"),
        ({"dropout": 0.1}, {"products": "bf16"}, "options.products"),
        ({}, {"optimizer": "adamw_8bit"}, "options.optimizer"),
        ({}, {"checkpointing": "offloaded"}, "options.checkpointing"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    spec: Callable[..., Any], settings: Any, options: Any, where: str
) -> None:
    with pytest.raises(UsageError) as caught:
        LocalLora().plan(spec(options=options, **settings))
    assert caught.value.where == where


def test_dropout_keeps_base_and_adapter_apart_and_the_plan_says_so(
    spec: Callable[..., Any],
) -> None:
    plan = LocalLora().plan(spec(dropout=0.1))
    (setting,) = [one for one in plan.settings if one.name == "fused_adapters"]
    assert setting.value is False
    assert "dropout" in setting.why


def test_an_update_too_small_for_bf16_is_right_on_average() -> None:
    from unift_local.optimizer import round_at_random

    def wanted() -> Iterator[float]:
        yield from (0.02 + 1e-5, -0.02 - 1e-5, 1.0, 0.0)

    torch.manual_seed(0)
    for value in wanted():
        rounded = torch.empty(200_000, dtype=torch.bfloat16)
        round_at_random(torch.full(rounded.shape, value), rounded)
        assert float(rounded.double().mean()) == pytest.approx(value, abs=1e-6)
        assert len(rounded.unique()) <= 2


def test_a_profile_says_where_a_step_went(spec: Callable[..., Any]) -> None:
    import gzip
    import json
    from pathlib import Path

    from tests.unift_local.conftest import finish

    provider = LocalLora()
    plan = provider.plan(
        spec(max_steps=3, options={"profile": True, "gradient_checkpointing": True})
    )
    handle = provider.submit(plan, "profiled")
    events = finish(provider, handle)
    (said,) = [one.message for one in events if one.message.startswith("For speed")]
    assert "fused 2 attention blocks, 2 MLPs" in said
    assert "recomputed without its last product" in said
    (told,) = [one.data for one in events if "profile" in one.data]
    shares = told["profile"]
    assert sum(shares.values()) == pytest.approx(told["seconds"], rel=0.2)
    assert all(shares[kind] > 0 for kind in ("attention", "MLP", "loss", "optimiser"))
    folder = Path(handle.data["folder"]) / "profile"
    page = (folder / "profile.txt").read_text()
    assert all(kind in page for kind in shares)
    with gzip.open(folder / "trace.json.gz") as file:
        assert json.load(file)["traceEvents"]


def test_the_kernel_is_used_only_for_what_it_takes() -> None:
    assert attention.kernel_takes(torch.bfloat16, 128, 128)
    assert not attention.kernel_takes(torch.float32, 128, 128)  # full tuning in fp32
    assert not attention.kernel_takes(torch.bfloat16, 192, 128)  # latent attention
    assert not attention.kernel_takes(torch.bfloat16, 512, 512)


def test_values_may_have_another_size_than_keys() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 4, 9, 24, generator=generator) for _ in range(2))
    value = torch.randn(1, 4, 9, 16, generator=generator)
    bounds = torch.tensor([0, 4, 9], dtype=torch.int32)
    module = torch.nn.Identity()
    got, _ = attention.varlen_attention(
        module, query, key, value, None, cu_seq_lens_q=bounds, max_length_q=5
    )
    document = torch.tensor([0] * 4 + [1] * 5)
    mask = (document[:, None] == document) & torch.ones(9, 9, dtype=torch.bool).tril()
    wanted = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(got, wanted.transpose(1, 2))
