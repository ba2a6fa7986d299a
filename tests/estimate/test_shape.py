"""Parameters counted from config.json are those of the real model, built without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unift import catalog
from unift.errors import UsageError
from unift.estimate import ALL_TARGETS, Shape, read_shape


def real_parameters(config: dict[str, Any]) -> int:
    """Build the model of transformers on the meta device and count, tied weights once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = {key: value for key, value in config.items() if key != "model_type"}
    built = AutoConfig.for_model(config["model_type"], **rest)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(built)
    model.tie_weights()
    return sum(parameter.numel() for parameter in set(model.parameters()))


SMALL = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

LATENT = {
    **SMALL,
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 24,
    "n_routed_experts": 4,
    "n_shared_experts": 2,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    "tie_word_embeddings": False,
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama tied": {"model_type": "llama", **SMALL, "tie_word_embeddings": True},
    "llama untied": {"model_type": "llama", **SMALL, "tie_word_embeddings": False},
    "llama all heads": {"model_type": "llama", **SMALL, "num_key_value_heads": 4},
    "llama wide heads": {"model_type": "llama", **SMALL, "head_dim": 32},
    "llama biases": {"model_type": "llama", **SMALL, "attention_bias": True, "mlp_bias": True},
    "mistral": {"model_type": "mistral", **SMALL, "tie_word_embeddings": False},
    "qwen2": {"model_type": "qwen2", **SMALL, "tie_word_embeddings": True},
    "qwen3 tied": {"model_type": "qwen3", **SMALL, "head_dim": 16, "tie_word_embeddings": True},
    "qwen3 wide": {"model_type": "qwen3", **SMALL, "head_dim": 48, "tie_word_embeddings": False},
    "qwen3 biases": {"model_type": "qwen3", **SMALL, "head_dim": 16, "attention_bias": True},
    "gemma3": {"model_type": "gemma3_text", **SMALL, "head_dim": 32, "tie_word_embeddings": True},
    "gemma2": {"model_type": "gemma2", **SMALL, "head_dim": 32, "tie_word_embeddings": True},
    "qwen3 experts": {
        "model_type": "qwen3_moe",
        **SMALL,
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "tie_word_embeddings": False,
    },
    "qwen3 experts, some layers dense": {
        "model_type": "qwen3_moe",
        **SMALL,
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "mlp_only_layers": [1],
        "tie_word_embeddings": False,
    },
    "latent attention": {"model_type": "deepseek_v3", **LATENT, "q_lora_rank": None},
    "latent queries too": {"model_type": "deepseek_v3", **LATENT, "q_lora_rank": 24},
    "experts with a shared one": {
        "model_type": "qwen2_moe",
        **SMALL,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 48,
        "tie_word_embeddings": False,
    },
    "gemma3 with a vision tower": {
        "model_type": "gemma3",
        "text_config": {"model_type": "gemma3_text", **SMALL, "head_dim": 32},
        "vision_config": {
            "model_type": "siglip_vision_model",
            "hidden_size": 48,
            "intermediate_size": 100,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "image_size": 56,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "gemma": {"model_type": "gemma", **SMALL, "head_dim": 32},
    "one head of keys": {"model_type": "llama", **SMALL, "num_key_value_heads": 1},
    "latent attention of the second version": {
        "model_type": "deepseek_v2",
        **LATENT,
        "q_lora_rank": None,
    },
    "smollm3": {"model_type": "smollm3", **SMALL, "pad_token_id": 0},
    "granite": {"model_type": "granite", **SMALL, "mlp_bias": True},
    "ministral": {"model_type": "ministral", **SMALL, "head_dim": 32},
    "ministral3": {"model_type": "ministral3", **SMALL, "head_dim": 32},
    "ernie": {"model_type": "ernie4_5", **SMALL, "head_dim": 16, "use_bias": True},
    "exaone4": {"model_type": "exaone4", **SMALL},
    "hunyuan": {"model_type": "hunyuan_v1_dense", **SMALL, "head_dim": 16},
    "phi3": {"model_type": "phi3", **SMALL, "pad_token_id": 0},
    "mixtral": {
        "model_type": "mixtral",
        **SMALL,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "tie_word_embeddings": False,
    },
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_parameters_are_exact(config: dict[str, Any]) -> None:
    assert Shape.from_config(config).parameters == real_parameters(config)


@pytest.mark.parametrize("entry", catalog.load().open_models, ids=lambda entry: entry.ids[0])
def test_shapes_of_the_catalogue_have_the_parameters_of_the_real_model(
    entry: catalog.OpenModel,
) -> None:
    assert Shape.from_config(entry.config).parameters == real_parameters(entry.config)


@pytest.mark.parametrize(
    ("model", "published"),
    [
        # The counts that the hub shows for these checkpoints.
        ("meta-llama/Llama-3.1-8B", 8_030_261_248),
        ("meta-llama/Llama-3.2-1B", 1_235_814_400),
        ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496),
        ("Qwen/Qwen3-0.6B", 596_049_920),
        ("Qwen/Qwen3-8B", 8_190_735_360),
        ("mistralai/Mistral-7B-v0.3", 7_248_023_552),
        ("Qwen/Qwen2.5-0.5B", 494_032_768),
    ],
)
def test_published_parameter_counts(model: str, published: int) -> None:
    assert Shape.from_config(catalog.open_model(model).config).parameters == published


EXPERTS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 40},
    "deepseek_v2": {**LATENT, "q_lora_rank": None},
    "deepseek_v3": {**LATENT, "q_lora_rank": 24},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft's call
def test_adapter_parameters_are_those_that_peft_makes() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = CONFIGS["qwen3 wide"]
    rest = {key: value for key, value in config.items() if key != "model_type"}
    for targets in (ALL_TARGETS, ("q_proj", "v_proj")):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3", **rest))
            adapted = get_peft_model(
                model,
                LoraConfig(r=4, target_modules=list(targets), task_type="CAUSAL_LM"),
            )
        real = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert Shape.from_config(config).adapter_parameters(4, targets) == real


def test_experts_count_in_parameters_but_not_in_the_work_of_a_token() -> None:
    shape = Shape.from_config(catalog.open_model("Qwen/Qwen3-30B-A3B").config)
    assert shape.parameters == pytest.approx(30.5e9, rel=0.01)
    assert shape.active_parameters == pytest.approx(3.0e9, rel=0.1)
    assert shape.default_targets() == ALL_TARGETS


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["qwen3_moe", "deepseek_v2", "deepseek_v3", "mixtral"])
def test_adapters_of_experts_are_those_that_peft_makes(family: str) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    rest = {**SMALL, **EXPERTS[family], "num_hidden_layers": 3}
    shape = Shape.from_config({"model_type": family, **rest})
    attention = tuple(set(shape.default_targets()) - set(shape.expert_targets))
    for targets in (shape.default_targets(), attention):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **rest))
            config = LoraConfig(r=4, target_modules=list(targets), task_type="CAUSAL_LM")
            adapted = get_peft_model(model, config)
        real = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
        assert shape.adapter_parameters(4, targets) == real


def test_gate_and_up_of_experts_go_together() -> None:
    shape = Shape.from_config({"model_type": "mixtral", **SMALL, **EXPERTS["mixtral"]})
    with pytest.raises(UsageError, match="one tensor") as caught:
        shape.adapter_parameters(4, ("q_proj", "w1"))
    assert "'w3'" in caught.value.fix


def test_text_model_inside_a_vision_config() -> None:
    inner = {**CONFIGS["gemma3"]}
    outer = {"model_type": "gemma3", "text_config": inner, "vision_config": {"hidden_size": 8}}
    assert Shape.from_config(outer) == Shape.from_config(inner)


def test_a_target_that_the_model_lacks_names_the_nearest() -> None:
    shape = Shape.from_config(CONFIGS["llama tied"])
    with pytest.raises(UsageError) as caught:
        shape.adapter_parameters(8, ("qproj",))
    assert "q_proj" in caught.value.fix


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (None, "no_config"),
        ("{", "bad_config"),
        ("[]", "bad_config"),
        ('{"model_type": "bert"}', "unknown_architecture"),
        ('{"model_type": "lama"}', "unknown_architecture"),
        (json.dumps({"model_type": "llama", **SMALL, "vocab_size": 0}), "bad_config"),
        (json.dumps({"model_type": "llama", "hidden_size": 64}), "bad_config"),
    ],
)
def test_bad_folders_are_errors_in_words(tmp_path: Path, content: str | None, code: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UsageError) as caught:
        read_shape(tmp_path)
    assert caught.value.code == code
    assert str(tmp_path) in caught.value.where


_VALUES = st.none() | st.booleans() | st.integers(-2, 300) | st.text(max_size=4) | st.just([])


@given(
    st.dictionaries(st.sampled_from([*SMALL, "head_dim", "num_experts", "text_config"]), _VALUES)
)
def test_any_config_is_read_or_refused_in_words(changes: dict[str, Any]) -> None:
    error, parameters = None, 1
    try:
        parameters = Shape.from_config({"model_type": "qwen3", **SMALL, **changes}).parameters
    except UsageError as caught:
        error = caught
    assert parameters > 0
    assert error is None or error.fix
