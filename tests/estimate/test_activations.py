"""The bytes that the formula says autograd saves are the bytes that it does save.

Real models and real peft adapters, on the CPU; the difference between three layers and two is one
layer's share. Shapes are chosen so that no term hides behind another.
"""

from __future__ import annotations

from typing import Any

import pytest

from unift.estimate import Shape, estimate_memory

GIB = 2**30
ROWS, LENGTH = 2, 48
SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "tie_word_embeddings": False,
}


EXTRA: dict[str, dict[str, Any]] = {
    "qwen3_moe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "decoder_sparse_step": 1,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    "gemma3_text": {"sliding_window": 16},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "head_dim": 8,
        "kv_lora_rank": 20,
        "q_lora_rank": None,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 16,
        "v_head_dim": 12,
        "n_routed_experts": 8,
        "n_shared_experts": 2,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "first_k_dense_replace": 0,
        "n_group": 1,
        "topk_group": 1,
    },
}


def _targets(family: str) -> tuple[str, ...]:
    config = {"model_type": family, **SIZES, **EXTRA.get(family, {}), "num_hidden_layers": 1}
    return Shape.from_config(config).default_targets()


def saved_by_autograd(family: str, layers: int, mode: str, **how: Any) -> int:
    """Bytes of all distinct tensors kept for the backward pass of the decoder, no parameters."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {**SIZES, **EXTRA.get(family, {})}
    config = AutoConfig.for_model(family, **sizes, num_hidden_layers=layers, use_cache=False)
    config._attn_implementation = how.get("attention", "sdpa")
    model = AutoModelForCausalLM.from_config(config)
    tuning, dtype = mode.split()
    if dtype == "bf16":
        model = model.to(torch.bfloat16)
    decoder = model.model
    if tuning == "lora":
        adapter = LoraConfig(
            r=4,
            lora_dropout=how.get("dropout", 0.0),
            target_modules=list(how.get("targets", _targets(family))),
            use_dora=how.get("dora", False),
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, adapter)
        decoder = model.get_base_model().model
    model.train()
    owned = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        place = tensor.untyped_storage().data_ptr()
        if place not in owned:
            kept[place] = tensor  # holding it keeps the address from being used again
        return tensor

    mask = torch.ones(ROWS, LENGTH, dtype=torch.long)
    if how.get("padded"):
        mask[0, :5] = 0
    ids = torch.randint(0, 96, (ROWS, LENGTH))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype != "fp32"),
    ):
        decoder(ids, attention_mask=mask)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "lora bf16", {}),
    ("llama", "lora fp32", {}),
    ("llama", "full fp32", {}),
    ("llama", "full bf16", {}),
    ("llama", "full mixed", {}),
    ("llama", "lora bf16", {"padded": True}),
    ("llama", "lora bf16", {"dropout": 0.1}),
    ("llama", "lora fp32", {"dropout": 0.1}),
    ("llama", "lora bf16", {"attention": "eager"}),
    ("llama", "lora bf16", {"targets": ("q_proj", "v_proj")}),
    ("llama", "lora fp32", {"targets": ("q_proj", "o_proj", "down_proj")}),
    ("qwen3", "lora bf16", {}),
    ("qwen3", "lora fp32", {}),
    ("qwen3", "full bf16", {}),
    ("qwen3", "full mixed", {}),
    ("mistral", "lora bf16", {}),
    ("qwen2", "lora fp32", {}),
    ("gemma3_text", "lora bf16", {}),
    ("gemma3_text", "full mixed", {}),
    ("qwen3_moe", "lora bf16", {}),
    ("qwen3_moe", "lora bf16", {"targets": ("q_proj", "k_proj", "v_proj", "o_proj")}),
    ("mixtral", "lora bf16", {}),
    ("qwen3_moe", "full mixed", {}),
    ("llama", "lora bf16", {"dora": True}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("family", "mode", "how"), CASES, ids=lambda value: str(value).replace(" ", "-")
)
def test_one_layer_keeps_what_the_formula_says(family: str, mode: str, how: dict[str, Any]) -> None:
    real = saved_by_autograd(family, 3, mode, **how) - saved_by_autograd(family, 2, mode, **how)
    tuning, dtype = mode.split()
    shape = Shape.from_config(
        {"model_type": family, **SIZES, **EXTRA.get(family, {}), "num_hidden_layers": 1}
    )
    memory = estimate_memory(
        shape,
        tuning=tuning,  # type: ignore[arg-type]  # a word of the table above
        rank=4,
        micro_batch=ROWS,
        length=LENGTH,
        checkpointing=False,
        dtype=dtype,  # type: ignore[arg-type]  # a word of the table above
        loss="plain",
        device="cpu",
        **{key: value for key, value in how.items()},
    )
    kept = memory.terms["activations"] + memory.terms.get("expert_copies", 0.0)
    assert kept * GIB == pytest.approx(real, rel=0.005)
