"""Small models, plain and fast, and what a pack of documents gives them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from unift_local import attention, fused, loss

DOCUMENTS = [5, 17, 9, 1, 32]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def base_model(family: str, **changes: Any) -> Any:
    import transformers

    attention.register()
    sizes: dict[str, Any] = {
        "vocab_size": 300,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "tie_word_embeddings": True,
        "attn_implementation": attention.NAME,
    }
    config = getattr(transformers, f"{family}Config")(**{**sizes, **changes})
    torch.manual_seed(0)
    return getattr(transformers, f"{family}ForCausalLM")(config)


def adapted(base: Any, fuse: bool, targets: list[str] = ALL) -> Any:
    """The same adapter, with a B that is not zero, over peft's layers or over fused ones."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM")
    if fuse:
        fused.register_layers(config)
    model = get_peft_model(copy.deepcopy(base), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(model.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
    model.train()
    if fuse:
        fused.fuse(model)
    return model


def packed() -> dict[str, Any]:
    """Five documents in one sequence."""
    bounds = torch.tensor([0, *DOCUMENTS]).cumsum(0).int()
    generator = torch.Generator().manual_seed(2)
    return {
        "input_ids": torch.randint(5, 300, (1, sum(DOCUMENTS)), generator=generator),
        "position_ids": torch.cat([torch.arange(one) for one in DOCUMENTS])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(DOCUMENTS),
        "max_length_k": max(DOCUMENTS),
        "use_cache": False,
    }


def gradients(model: Any) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def together(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the pack, by the fast path."""
    inputs = packed()
    inner = model.get_base_model()
    hidden = inner.base_model(**inputs).last_hidden_state[0]
    at = (inputs["position_ids"][0, 1:] != 0).nonzero().flatten()
    weight = inner.get_output_embeddings().weight
    total = loss.chunked_cross_entropy(hidden[at], weight, inputs["input_ids"][0][at + 1])
    total.backward()
    return total.item(), gradients(model)


def alone(model: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of the documents one by one, by peft, transformers and torch alone."""
    total = 0.0
    for ids in packed()["input_ids"].split(DOCUMENTS, dim=1):
        if ids.shape[1] > 1:
            logits = model(input_ids=ids, use_cache=False).logits[0, :-1]
            one = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
            one.backward()
            total += one.item()
    return total, gradients(model)


def difference(got: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    assert set(got) == set(wanted)
    return max(float((got[n] - wanted[n]).norm() / wanted[n].norm()) for n in wanted)
