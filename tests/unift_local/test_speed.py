"""The fast path computes what the plain path computes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from unift_local import attention, fused, lora_math, loss, recompute, speed
from unift_local.kernels import Projection

from tests.unift_local.layers import (
    ALL,
    adapted,
    alone,
    base_model,
    difference,
    gradients,
    packed,
    together,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Qwen3", "Mistral"])
def test_a_pack_gives_the_loss_and_gradients_of_its_documents_alone(family: str) -> None:
    changes = {"sliding_window": 6} if family == "Mistral" else {}
    base = base_model(family, **changes)
    plain, fast = adapted(base, False), adapted(base, True)
    kinds = {type(module).__name__ for module in fast.modules()}
    assert {"FusedMlp", "FusedAttention", "FusedLora"} <= kinds
    assert set(fast.state_dict()) == set(plain.state_dict())  # peft saves and loads it unchanged
    plain.get_base_model().set_attn_implementation("sdpa")
    wanted, wanted_gradients = alone(plain)
    got, got_gradients = together(fast)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert difference(got_gradients, wanted_gradients) < 1e-5


@pytest.mark.parametrize("family", ["Llama", "Qwen3"])
@pytest.mark.parametrize("targets", [ALL, ["q_proj", "o_proj", "up_proj"]])
def test_bf16_products_of_frozen_weights_leave_all_else_in_fp32(
    family: str, targets: list[str]
) -> None:
    base = base_model(family)
    wanted_loss, wanted = together(adapted(base, fuse=True, targets=targets))
    model = adapted(base, fuse=True, targets=targets)
    assert fused.narrow(model) == 2 * len(targets)
    found_loss, found = together(model)
    assert found_loss == pytest.approx(wanted_loss, rel=1e-3)
    assert found_loss != wanted_loss
    assert difference(found, wanted) < 2e-2
    kinds = {p.dtype for n, p in model.named_parameters() if "base_layer" not in n}
    assert kinds == {torch.float32}


def test_blocks_with_other_activations_or_missing_adapters_stay_as_they_are() -> None:
    other = base_model("Llama", hidden_act="gelu")
    some = base_model("Llama")
    for base, targets in ((other, ALL), (some, ["q_proj", "down_proj"])):
        plain, fast = adapted(base, False, targets), adapted(base, True, targets)
        assert not any(isinstance(module, fused.FusedMlp) for module in fast.modules())
        wanted, wanted_gradients = alone(plain)
        got, got_gradients = together(fast)
        assert got == pytest.approx(wanted, rel=1e-6)
        assert difference(got_gradients, wanted_gradients) < 1e-5


def test_a_block_that_computes_something_else_is_not_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    plain_forward = LlamaMLP.forward
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: 1.01 * plain_forward(self, x))
    fast = adapted(base_model("Llama"), True)
    assert not any(isinstance(module, fused.FusedMlp) for module in fast.modules())


def tensors(projections: int, inputs: int, outputs: int, bias: bool) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int, grad: bool = True) -> torch.Tensor:
        one = torch.randn(*shape, dtype=torch.float64, generator=generator) * 0.5
        return one.requires_grad_(grad)

    found: list[torch.Tensor] = []
    for _ in range(projections):
        found += [noise(2, inputs), noise(outputs, 2)]
        found += [noise(outputs, grad=False)] if bias else []
        found += [noise(outputs, inputs, grad=False)]
    return found


@pytest.mark.parametrize("bias", [False, True])
def test_derivatives_are_those_of_the_functions(bias: bool) -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    two = (Projection(0.7, 1, bias), Projection(1.3, 1, bias))
    given = tensors(2, 4, 5, bias)
    assert torch.autograd.gradcheck(lambda x, *t: lora_math.project(x, two, t), (x, *given))
    three = (*two, Projection(2.0, 1, bias))
    square = tensors(3, 4, 4, bias)
    assert torch.autograd.gradcheck(lambda x, *t: lora_math.mlp(x, three, t), (x, *square))


@pytest.mark.parametrize("bias", [False, True])
def test_an_mlp_whose_result_nobody_reads_has_the_same_gradients(
    bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_math, "_PIECE", 3)
    three = tuple(Projection(scale, 1, bias) for scale in (0.7, 1.3, 2.0))
    square = [one.requires_grad_() for one in tensors(3, 4, 4, bias)]
    learnt = [one for one in square if one.shape in ((2, 4), (4, 2))]
    for rows in (1, 3, 7, 8):
        x = torch.randn(rows, 4, dtype=torch.float64, requires_grad=True)
        given = torch.randn(rows, 4, dtype=torch.float64)
        whole = lora_math.mlp(x, three, square)
        wanted = torch.autograd.grad(whole, [x, *learnt], given)
        with lora_math.mlp_unread():
            unread = lora_math.mlp(x, three, square)
        assert not unread.any()
        for a, b in zip(torch.autograd.grad(unread, [x, *learnt], given), wanted, strict=True):
            torch.testing.assert_close(a, b)


def recomputing(model: Any, compiled: bool = False, keeper: Any = None) -> Any:
    """The model with all its layers computed again in the backward pass."""
    model.get_base_model().enable_input_require_grads()
    for layer in speed.layers(model):
        forward = layer.forward
        if compiled:
            forward = torch.compile(forward, backend="aot_eager", fullgraph=True)
        layer.forward = recompute.recomputed(layer, forward, keeper)
    return model


def test_layers_that_end_in_their_mlp_are_computed_again_without_its_last_product() -> None:
    base = base_model("Llama")
    wanted, wanted_gradients = together(adapted(base, True))
    model = recomputing(adapted(base, True), keeper=recompute.Offload())
    assert all(recompute.ends_in_fused_mlp(layer) for layer in speed.layers(model))
    got, got_gradients = together(model)
    assert got == pytest.approx(wanted, rel=1e-6)
    assert difference(got_gradients, wanted_gradients) < 1e-5


def test_a_layer_compiles_as_a_whole_and_is_compiled_when_it_is_computed_again() -> None:
    base = base_model("Qwen3")
    ids = torch.randint(5, 300, (2, 30), generator=torch.Generator().manual_seed(0))
    found: list[dict[str, torch.Tensor]] = []
    for compiled in (False, True):
        model = adapted(base, True)
        if compiled:
            model = recomputing(model, compiled)
        hidden = model.get_base_model().base_model(input_ids=ids, use_cache=False)
        hidden.last_hidden_state.square().mean().backward()
        found.append(gradients(model))
    assert difference(found[1], found[0]) < 1e-5


def test_layers_that_end_in_something_else_are_computed_again_as_a_whole() -> None:
    base = base_model("Olmo2")  # whose last norm wants to know what the MLP gave
    plain = adapted(base, True)
    assert any(isinstance(module, fused.FusedMlp) for module in plain.modules())
    wanted, wanted_gradients = together(plain)
    model = adapted(base, True)
    assert not any(recompute.ends_in_fused_mlp(layer) for layer in speed.layers(model))
    got, got_gradients = together(recomputing(model))
    assert got == pytest.approx(wanted, rel=1e-6)
    assert difference(got_gradients, wanted_gradients) < 1e-5


def test_four_bit_bases_give_what_peft_gives() -> None:
    from bitsandbytes.nn import Linear4bit, Params4bit

    base = base_model("Qwen3")
    base.requires_grad_(False)
    for parent in list(base.model.layers.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is torch.nn.Linear:
                four = Linear4bit(
                    child.in_features,
                    child.out_features,
                    bias=False,
                    compute_dtype=torch.float32,
                    quant_type="nf4",
                )
                four.support_avx512bf16_for_cpu = False
                four.weight = Params4bit(
                    child.weight.data, requires_grad=False, quant_type="nf4"
                ).to("cpu")
                setattr(parent, name, four)
    base.is_loaded_in_4bit = True
    plain, fast = adapted(base, False), adapted(base, True)
    assert any(isinstance(module, fused.FusedMlp) for module in fast.modules())
    wanted, wanted_gradients = together(plain)
    for model in (fast, recomputing(adapted(base, True))):
        got, got_gradients = together(model)
        assert got == pytest.approx(wanted, rel=1e-6)
        assert difference(got_gradients, wanted_gradients) < 1e-5


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_the_chunked_loss_is_the_loss(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "_CHUNK_BYTES", rows * 50 * 8)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (23,), generator=generator)
    found: list[list[torch.Tensor]] = []
    for function in (
        lambda: loss.chunked_cross_entropy(hidden, weight, targets),
        lambda: torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum"),
    ):
        total = function() / 23
        found.append([total.detach().double(), *torch.autograd.grad(total, (hidden, weight))])
    for got, wanted in zip(*found, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-7)


def test_the_chunked_loss_under_autocast_keeps_the_precision_of_its_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(23, 16, generator=generator, requires_grad=True)
    weight = torch.randn(50, 16, generator=generator, requires_grad=True)
    targets = torch.randint(0, 50, (23,), generator=generator)
    wanted = torch.nn.functional.cross_entropy(hidden @ weight.T, targets, reduction="sum")
    exact = torch.autograd.grad(wanted, (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        total = loss.chunked_cross_entropy(hidden, weight, targets)
    assert total.item() == pytest.approx(wanted.item(), rel=1e-2)
    for got, right in zip(torch.autograd.grad(total, (hidden, weight)), exact, strict=True):
        assert got.dtype == torch.float32
        assert float((got - right).norm() / right.norm()) < 1e-2


def test_models_that_scale_their_logits_keep_their_own_loss() -> None:
    assert loss.plain_head(base_model("Qwen3"))
    assert not loss.plain_head(base_model("Granite", logits_scaling=4.0))


def test_rows_of_one_length_are_laid_side_by_side() -> None:
    from unift_local.packing import StepCollator

    rows = [{"input_ids": [5 + i] * 6, "labels": [5 + i] * 6} for i in range(4)]
    side_by_side = StepCollator(0, 2, 12, alike=True)(rows)
    end_to_end = StepCollator(0, 2, 12)(rows)
    assert side_by_side["trained"] == end_to_end["trained"] == 20
    (micro,) = side_by_side["micro_batches"]
    (packed,) = end_to_end["micro_batches"]
    assert tuple(micro["input_ids"].shape) == (4, 6)
    assert "cu_seq_lens_q" not in micro
    assert tuple(packed["input_ids"].shape) == (1, 24)
    assert "cu_seq_lens_q" in packed
    model = adapted(base_model("Qwen3"), True)
    found: list[dict[str, torch.Tensor]] = []
    for one in (micro, packed):
        given = {k: v for k, v in one.items() if k not in ("labels", "trained_at", "targets")}
        hidden = model.get_base_model().base_model(**given, use_cache=False).last_hidden_state
        flat = hidden.flatten(0, 1)[one["trained_at"]]
        head = model.get_base_model().get_output_embeddings().weight
        loss.chunked_cross_entropy(flat, head, one["targets"]).backward()
        found.append(gradients(model))
    assert difference(*found) < 1e-5


def test_a_flash_attn_wheel_gets_the_bounds_of_the_documents(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a stand-in for the wheel, which computes what its documentation says."""
    from transformers import modeling_flash_attention_utils as wheel

    calls: list[list[int]] = []

    def varlen(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        softmax_scale: float | None = None,
        causal: bool = False,
        **kwargs: Any,
    ) -> torch.Tensor:
        assert causal
        assert max_seqlen_q == max_seqlen_k >= int(cu_seqlens_q.diff().max())
        calls.append(cu_seqlens_q.tolist())
        heads = (one.transpose(0, 1)[None] for one in (q, k, v))
        out, _ = attention.varlen_attention(
            torch.nn.Identity(),
            *heads,
            None,
            softmax_scale,
            cu_seq_lens_q=cu_seqlens_q,
            max_length_q=max_seqlen_q,
        )
        return out[0]

    monkeypatch.setattr(wheel, "_lazy_imports", lambda *_, **__: (varlen, varlen, None, None, None))
    monkeypatch.setattr(wheel, "_loaded_implementation", None)
    base = base_model("Qwen3")
    wanted, wanted_gradients = together(adapted(base, True))
    model = adapted(base, True)
    model.config._attn_implementation_internal = "flash_attention_2"  # past the look for the wheel
    got, got_gradients = together(model)
    assert calls == [packed()["cu_seq_lens_q"].tolist()] * 2
    assert got == pytest.approx(wanted, rel=1e-6)
    assert difference(got_gradients, wanted_gradients) < 1e-5
