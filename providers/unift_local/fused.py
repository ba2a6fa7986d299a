"""Puts the functions of `lora_math` into a model with a peft adapter.

Nothing of the model is rewritten. Every adapted layer is made by peft from `FusedLora`, through
peft's own registration of custom layers; the MLPs and attention blocks that are known to compute
what `lora_math` computes are replaced by modules which hold the very same layers under the same
names. What peft saves and loads is therefore unchanged. A replaced block is compared with the
original on random input first, and put back if the two differ.
"""

from __future__ import annotations

import sys
from typing import Any, cast

import torch
from peft import LoraConfig
from peft.tuners.lora import Linear as PeftLinear
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unift_local import lora_math
from unift_local.kernels import NF4_PARTS, Projection

_ADAPTER = "default"
#: Classes of transformers whose forward is: project, normalise heads if they have norms, rotate,
#: attend, project.
_ATTENTIONS = frozenset({"LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention"})
_SILU = ("silu", "swish")
_QKV = ("q_proj", "k_proj", "v_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")
_TOKENS = 8  # of the comparison
#: Largest relative difference of a replaced block, by precision of its weights.
_TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 5e-3}


class FusedLora(PeftLinear):
    """peft's LoRA layer, with base and adapter in one function once `fuse` has prepared it.

    From then on it is for training alone: switching adapters off or merging them has no effect.
    """

    fused: Projection | None = None
    narrow = False  # see `narrow`

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if self.fused is None:
            return super().forward(x, *args, **kwargs)
        out = _project(x, [self])[0]
        return out.to(x.dtype) if self.narrow else out


def register_layers(config: LoraConfig) -> None:
    """Let peft build its layers from `FusedLora`, over dense and over 4-bit weights."""
    mapping: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: FusedLora}
    config._register_custom_module(mapping)  # peft documents it for layers of one's own


def _fusable(layer: Any) -> bool:
    """Whether base plus one plain adapter, without dropout, is all that a layer computes."""
    return (
        isinstance(layer, FusedLora)
        and layer.active_adapters == [_ADAPTER]
        and _ADAPTER in layer.lora_A
        and not layer.merged
        and not layer.disable_adapters
        and not layer.lora_variant
        and not layer.lora_bias[_ADAPTER]
        and isinstance(layer.lora_dropout[_ADAPTER], nn.Identity)
        and _weight_known(layer.base_layer.weight)
    )


def _weight_known(weight: Any) -> bool:
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.is_floating_point() and not weight.requires_grad
    return state.quant_type == "nf4" and state.nested


def _prepare(layer: Any) -> None:
    """Put a 4-bit weight's tensors where compiled code finds them; use the function from now on."""
    base = layer.base_layer
    state = getattr(base.weight, "quant_state", None)
    blocks = (64, 256)
    if state is not None:
        blocks = (state.blocksize, state.state2.blocksize)
        parts = (
            base.weight.data,
            state.absmax,
            state.offset,
            state.state2.absmax,
            state.state2.code,
        )
        for number, part in enumerate(parts):
            layer.register_buffer(f"base_part_{number}", part, persistent=False)
    count = 1 if state is None else NF4_PARTS
    scale = float(layer.scaling[_ADAPTER])
    layer.compute_dtype = base.weight.dtype if state is None else state.dtype
    layer.fused = Projection(scale, count, base.bias is not None, blocks)


def _project(x: torch.Tensor, layers: list[Any]) -> tuple[torch.Tensor, ...]:
    """Several layers on one input, in one function."""
    ones, tensors = _arguments(layers)
    return lora_math.project(x.to(layers[0].compute_dtype), ones, tensors)


def _arguments(layers: list[Any]) -> tuple[tuple[Projection, ...], list[torch.Tensor]]:
    """Layers as `lora_math` takes them."""
    tensors: list[torch.Tensor] = []
    for layer in layers:
        tensors += [layer.lora_A[_ADAPTER].weight, layer.lora_B[_ADAPTER].weight]
        if layer.fused.bias:
            tensors.append(layer.base_layer.bias)
        if layer.fused.parts == 1:
            tensors.append(layer.base_layer.weight)
        else:
            tensors += [getattr(layer, f"base_part_{n}") for n in range(layer.fused.parts)]
    return tuple(layer.fused for layer in layers), tensors


class _Replacement(nn.Module):
    """Takes over everything that the original holds, under the same names."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.__dict__.update(original.__dict__)


class FusedMlp(_Replacement):
    """``down(silu(gate(x)) * up(x))`` in one function."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        me = cast("Any", self)
        ones, tensors = _arguments([me.gate_proj, me.up_proj, me.down_proj])
        return lora_math.mlp(x.to(me.gate_proj.compute_dtype), ones, tensors)


class FusedAttention(_Replacement):
    """Query, key and value in one function; then as in the original."""

    def __init__(self, original: Any) -> None:
        super().__init__(original)
        self._rotate: Any = sys.modules[type(original).__module__].apply_rotary_pos_emb

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: Any = None,
        attention_mask: Any = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Any]:
        me = cast("Any", self)
        shape = (*hidden_states.shape[:-1], -1, me.head_dim)
        query, key, value = (
            one.view(shape) for one in _project(hidden_states, [me.q_proj, me.k_proj, me.v_proj])
        )
        if hasattr(self, "q_norm"):
            query, key = me.q_norm(query), me.k_norm(key)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        cos, sin = position_embeddings
        query, key = me._rotate(query, key, cos, sin)
        if not torch.is_autocast_enabled(query.device.type):  # which casts all three alike
            value = value.to(query.dtype)  # others are, where projections are narrower (`narrow`)
        attend = ALL_ATTENTION_FUNCTIONS[me.config._attn_implementation]
        # A layer's own window (None: it has none), or the one that all layers of the model have.
        window = getattr(me.config, "sliding_window", None)
        kwargs["sliding_window"] = getattr(self, "sliding_window", window)
        out, weights = attend(
            self, query, key, value, attention_mask, dropout=0.0, scaling=me.scaling, **kwargs
        )
        return me.o_proj(out.reshape(*hidden_states.shape[:-1], -1)), weights


def fuse(model: nn.Module) -> dict[str, int]:
    """Switch the adapted layers of a model to fused functions; how many of each kind there are.

    Layers stay as peft made them if they have dropout or are of another kind, and blocks stay as
    they are if the replacement computes something else on random input. For training without a
    cache of keys and values.
    """
    found = {"mlp": 0, "attention": 0, "single": 0, "plain": 0}
    for layer in model.modules():
        if isinstance(layer, FusedLora) and not _fusable(layer):
            found["plain"] += 1
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            kind = _kind(child)
            if kind is not None:
                fused = _replace(kind, child)
                if fused is not None:
                    setattr(parent, name, fused)
                    found[kind] += 1
    for layer in model.modules():
        if isinstance(layer, FusedLora) and layer.fused is None and _fusable(layer):
            _prepare(layer)
            found["single"] += 1
    return found


def narrow(model: nn.Module) -> int:
    """Products with frozen weights in bf16, all else in fp32 as before; how many layers that are.

    For a CPU with bf16 instructions. What torch's autocast does for the same purpose makes bf16 of
    attention too, whose backward pass is five times slower there in bf16, and casts every weight
    anew in each step.
    """
    count = 0
    for layer in model.modules():
        if isinstance(layer, FusedLora) and layer.fused is not None and layer.fused.parts == 1:
            one: Any = layer
            one.base_layer.weight.data = one.base_layer.weight.data.to(torch.bfloat16)
            one.compute_dtype, one.narrow = torch.bfloat16, True
            count += 1
    return count


def _kind(block: Any) -> str | None:
    if isinstance(block, _Replacement):
        return None
    config = getattr(block, "config", None)
    if type(block).__name__ in _ATTENTIONS:
        dropout = getattr(config, "attention_dropout", 0.0)
        return "attention" if not dropout and _all_fusable(block, _QKV) else None
    silu = getattr(config, "hidden_act", None) in _SILU
    if silu and {name for name, _ in block.named_children()} - {"act_fn"} == set(_MLP):
        return "mlp" if _all_fusable(block, _MLP) else None
    return None


def _all_fusable(block: Any, names: tuple[str, ...]) -> bool:
    return all(_fusable(getattr(block, name, None)) for name in names)


def _replace(kind: str, original: Any) -> nn.Module | None:
    """The replacement of a block, or None if it computes something else on random input.

    A new adapter adds nothing, since its B is zero, so every B is filled for the comparison.
    """
    names = _MLP if kind == "mlp" else _QKV
    layers = [getattr(original, name) for name in names]
    weight = layers[0].lora_A[_ADAPTER].weight
    generator = torch.Generator(weight.device).manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=weight.device, generator=generator)

    state = getattr(layers[0].base_layer.weight, "quant_state", None)
    dtype = layers[0].base_layer.weight.dtype if state is None else state.dtype
    x = noise(1, _TOKENS, layers[0].in_features).to(dtype)
    given: dict[str, Any] = {}
    if kind == "attention":
        angles = noise(1, _TOKENS, original.head_dim // 2).repeat(1, 1, 2)
        rotation = (angles.cos().to(dtype), angles.sin().to(dtype))
        given = {"position_embeddings": rotation, "attention_mask": None}
    saved = [layer.lora_B[_ADAPTER].weight.data for layer in layers]
    precision = torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32)
    with torch.no_grad():
        for layer in layers:
            b = layer.lora_B[_ADAPTER].weight
            b.data = noise(*b.shape) / b.shape[1]
        with precision:
            expected = original(x, **given)
        for layer in layers:
            _prepare(layer)
        fused = FusedMlp(original) if kind == "mlp" else FusedAttention(original)
        with precision:
            got = fused(x, **given)
        for layer, b in zip(layers, saved, strict=True):
            layer.lora_B[_ADAPTER].weight.data = b
    if kind == "attention":
        expected, got = expected[0], got[0]
    difference = (got.float() - expected.float()).norm() / expected.float().norm()
    return fused if float(difference) < _TOLERANCE.get(dtype, 0.0) else None
