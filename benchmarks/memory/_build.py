"""Models of a real shape with random weights, built on the device: no files, no hub."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

_DTYPES = {"bf16": torch.bfloat16, "mixed": torch.float32, "fp32": torch.float32}


def build(
    config: dict[str, Any], tuning: str, dtype: str, device: str, auto: Any = AutoModelForCausalLM
) -> Any:
    """The base model as `unift_local.recipe.load_base` would have loaded it."""
    rest = {key: value for key, value in config.items() if key != "model_type"}
    settings = AutoConfig.for_model(config["model_type"], **rest)
    settings.use_cache = False
    settings._attn_implementation = "sdpa"
    kind = _DTYPES[dtype]
    if tuning == "qlora":
        model = _four_bit(settings, kind, device)
    else:
        with torch.device("meta"):
            model = auto.from_config(settings, dtype=kind)
        _materialise(model, kind, device)
        model.tie_weights()
    model.hf_device_map = {"": 0 if device == "cuda" else "cpu"}
    model.config.use_cache = False
    return model


def _four_bit(settings: Any, kind: torch.dtype, device: str) -> Any:
    """NF4 with double quantisation for every projection inside the layers, never more than one of
    them in 16 bits, so that a model fits whose 16-bit weights would not."""
    import bitsandbytes as bnb
    from transformers.quantizers import AutoHfQuantizer
    from transformers.utils.quantization_config import QuantizationMethod
    from unift_local import guards
    from unift_local.quantize import four_bit_config

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(settings, dtype=kind)
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        parent, _, leaf = name.rpartition(".")
        with torch.device("meta"):
            new = bnb.nn.Linear4bit(
                module.in_features,
                module.out_features,
                bias=module.bias is not None,
                compute_dtype=kind,
                compress_statistics=True,
                quant_type="nf4",
            )
        raw = torch.empty(module.out_features, module.in_features, dtype=kind, device=device)
        new.weight = bnb.nn.Params4bit(
            raw.normal_(0, 0.02), requires_grad=False, compress_statistics=True, quant_type="nf4"
        ).to(device)
        del raw
        if module.bias is not None:
            new.bias = torch.nn.Parameter(
                torch.zeros(module.out_features, dtype=kind, device=device), requires_grad=False
            )
        setattr(model.get_submodule(parent), leaf, new)
    _materialise(model, kind, device)
    model.tie_weights()
    model.requires_grad_(False)
    model.hf_quantizer = AutoHfQuantizer.from_config(four_bit_config(kind), pre_quantized=False)
    model.is_loaded_in_4bit = True
    model.is_quantized = True
    model.quantization_method = QuantizationMethod.BITS_AND_BYTES
    guards.keep_four_bit_exact(model)
    return model


def _materialise(model: Any, kind: torch.dtype, device: str) -> None:
    """Real memory and random values for everything that is still on the meta device."""
    made: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is None or not parameter.is_meta:
                continue
            if id(parameter) not in made:
                value = torch.empty(parameter.shape, dtype=kind, device=device)
                fill = torch.nn.init.ones_ if value.dim() < 2 else torch.nn.init.normal_
                fill(value) if value.dim() < 2 else fill(value, 0.0, 0.02)
                made[id(parameter)] = torch.nn.Parameter(value, requires_grad=True)
            module._parameters[name] = made[id(parameter)]
    for name, module in list(model.named_modules()):
        if not any(buffer.is_meta for buffer in module._buffers.values() if buffer is not None):
            continue
        if hasattr(module, "rope_type") or hasattr(module, "rope_init_fn") or "rotary" in name:
            parent, _, leaf = name.rpartition(".")
            with torch.device(device):
                fresh = type(module)(module.config)
            setattr(model.get_submodule(parent), leaf, fresh)
            continue
        for key, buffer in module._buffers.items():
            if buffer is None or not buffer.is_meta:
                continue
            if key == "embed_scale":
                value = torch.tensor(getattr(module, "scalar_embed_scale", 1.0))
            elif buffer.dtype == torch.long:
                value = torch.arange(buffer.numel()).view(buffer.shape)
            else:
                value = torch.zeros(buffer.shape, dtype=buffer.dtype)
            module._buffers[key] = value.to(device)
