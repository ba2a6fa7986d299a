"""From a Hugging Face ``config.json`` to a `Shape`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from unift.errors import UsageError
from unift.estimate._shape import Latent, Shape, Vision

# Architectures of one layout (RMSNorm, rotary positions, gated MLP), and what sets them apart:
# norms of hidden width per layer, norms of head width (queries and keys), and whether the
# projections of q, k, v carry a bias that the config does not mention.
_FAMILIES: dict[str, tuple[int, bool, bool]] = {
    "llama": (2, False, False),
    "mistral": (2, False, False),
    "mixtral": (2, False, False),
    "qwen2": (2, False, True),
    "qwen2_moe": (2, False, True),
    "qwen3": (2, True, False),
    "qwen3_moe": (2, True, False),
    "gemma": (2, False, False),
    "gemma2": (4, False, False),
    "gemma3_text": (4, True, False),
    "deepseek_v2": (2, False, False),
    "deepseek_v3": (2, False, False),
    "ernie4_5": (2, False, False),
    "exaone4": (2, True, False),
    "granite": (2, False, False),
    "hunyuan_v1_dense": (2, True, False),
    "ministral": (2, False, False),
    "ministral3": (2, False, False),
    "phi3": (2, False, False),
    "smollm3": (2, False, False),
}
_NESTED = {"gemma3": "gemma3_text"}
_TIED_BY_DEFAULT = {"gemma", "gemma2", "gemma3_text", "smollm3", "ernie4_5"}
# Every layer but each sixth (Gemma 3), every second (Gemma 2), when the config lists no types.
_WINDOW_PATTERN = {"gemma3_text": 6, "gemma2": 2}


@dataclass(frozen=True, slots=True)
class _Reader:
    """Numbers of one config, refused in words where they are unusable."""

    values: Mapping[str, Any]
    where: str

    def number(self, key: str, default: int | None = None) -> int:
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
            raise UsageError(
                f"The model's config has no usable '{key}' (got {value!r}).",
                code="bad_config",
                where=f"{self.where}: {key}",
                fix="use the config.json that came with the model",
            )
        return value

    def optional(self, key: str) -> int:
        """The number, or 0 when the config has none."""
        return self.number(key) if self.values.get(key) else 0


def shape_of(config: Mapping[str, Any], where: str) -> Shape:
    """See `Shape.from_config`."""
    top = dict(config)
    inner = top.get("text_config")
    text = cast("dict[str, Any]", inner) if isinstance(inner, dict) else top
    kind = str(text.get("model_type") or _NESTED.get(str(top.get("model_type")), ""))
    kind = _NESTED.get(kind, kind)
    if kind not in _FAMILIES:
        raise UsageError(
            f"No memory formula for models of type '{kind}'."
            if kind
            else "The config does not say what type of model it is of.",
            code="unknown_architecture",
            where=f"{where}: model_type",
            fix=_fix(kind),
        )
    norms, head_norms, qkv_bias = _FAMILIES[kind]
    read = _Reader(text, where)
    hidden, heads = read.number("hidden_size"), read.number("num_attention_heads")
    everywhere = bool(text.get("use_bias", False))  # Ernie
    bias = everywhere or bool(text.get("attention_bias", False))
    tied = text.get("tie_word_embeddings", top.get("tie_word_embeddings"))
    layers = read.number("num_hidden_layers")
    window, window_layers = _window(text, kind, layers)
    key_heads = read.number("num_key_value_heads", heads)
    if heads % key_heads:
        raise UsageError(
            f"{heads} query heads cannot share {key_heads} heads of keys evenly.",
            code="bad_config",
            where=f"{where}: num_key_value_heads",
            fix="use the config.json that came with the model",
        )
    shape = Shape(
        family=kind,
        vocab=read.number("vocab_size"),
        hidden=hidden,
        mlp=read.number("intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=key_heads,
        head_dim=read.optional("head_dim") or hidden // heads,
        tied=bool(kind in _TIED_BY_DEFAULT if tied is None else tied),
        layer_norms=norms,
        head_norms=head_norms,
        qkv_bias=qkv_bias or bias,
        o_bias=bias and kind != "qwen2",
        mlp_bias=everywhere or bool(text.get("mlp_bias", False)),
        window=window,
        window_layers=window_layers,
        context=read.optional("max_position_embeddings") or None,
        vision=_vision(top, hidden, where),
        stored=_stored(top),
    )
    if kind in ("deepseek_v2", "deepseek_v3"):
        return _deepseek(shape, read)
    return _with_experts(shape, read) if _expert_key(text) else shape


# `unift_local` plans such a model with its defaults, and its probe finds out what fits.
_WITHOUT_FORMULA = (
    "to train it all the same: unift train, which starts with one row a pass and replans by itself "
    "where memory runs out"
)


def _fix(kind: str) -> str:
    """The nearest family where that is a slip of the pen, else what can be done without one."""
    near = get_close_matches(kind, _FAMILIES, n=1, cutoff=0.8)
    if near:
        return f"did you mean '{near[0]}'?"
    return f"known are {', '.join(sorted(_FAMILIES))}; {_WITHOUT_FORMULA}"


def _stored(top: Mapping[str, Any]) -> str:
    """How the weights are quantised on disk: fp8, awq, ...; empty where they are not."""
    found = top.get("quantization_config")
    method = cast("dict[str, Any]", found).get("quant_method") if isinstance(found, dict) else None
    return str(method or "")


def _expert_key(text: Mapping[str, Any]) -> str | None:
    return next((key for key in ("num_experts", "num_local_experts") if text.get(key)), None)


def _with_experts(shape: Shape, read: _Reader) -> Shape:
    step = read.number("decoder_sparse_step", 1)
    listed = read.values.get("mlp_only_layers")
    skipped = cast("list[int]", listed) if isinstance(listed, list) else []
    dense = sum(1 for index in range(shape.layers) if index in skipped or (index + 1) % step != 0)
    shared = read.optional("shared_expert_intermediate_size")
    return replace(
        shape,
        experts=read.number(_expert_key(read.values) or "num_experts"),
        experts_per_token=read.number("num_experts_per_tok"),
        mlp=read.number("moe_intermediate_size", shape.mlp),
        shared_mlp=shared,
        shared_gate=bool(shared),
        dense_layers=dense,
        dense_mlp=shape.mlp,
    )


def _deepseek(shape: Shape, read: _Reader) -> Shape:
    """Latent attention, and experts beside shared ones after the first dense layers."""
    width = read.number("moe_intermediate_size")
    return replace(
        shape,
        latent=Latent(
            q_rank=read.optional("q_lora_rank"),
            kv_rank=read.number("kv_lora_rank"),
            rope=read.number("qk_rope_head_dim"),
            nope=read.number("qk_nope_head_dim"),
            value=read.number("v_head_dim"),
        ),
        experts=read.number("n_routed_experts"),
        experts_per_token=read.number("num_experts_per_tok"),
        mlp=width,
        shared_mlp=width * read.optional("n_shared_experts"),
        dense_layers=min(read.optional("first_k_dense_replace"), shape.layers),
        dense_mlp=shape.mlp,
    )


def _vision(top: Mapping[str, Any], hidden: int, where: str) -> Vision | None:
    """Weights of a SigLIP tower and Gemma's projector, exact for Gemma 3: a patch convolution and
    positions; per layer four square projections and an MLP with biases, two layer norms; a last
    norm; then a norm and one matrix into the decoder's width.

    Raises:
        UsageError: Another tower.
    """
    part = top.get("vision_config")
    if not isinstance(part, dict) or not cast("dict[str, Any]", part).get("num_hidden_layers"):
        return None
    read = _Reader(cast("dict[str, Any]", part), f"{where}: vision_config")
    kind = str(read.values.get("model_type") or _TOWER)
    if kind != _TOWER:
        raise UsageError(
            f"No memory formula for vision towers of type '{kind}', only for Gemma 3's.",
            code="unknown_architecture",
            where=f"{where}: vision_config.model_type",
            fix=_WITHOUT_FORMULA,
        )
    h, m = read.number("hidden_size"), read.number("intermediate_size")
    layers, patch = read.number("num_hidden_layers"), read.number("patch_size")
    side = read.number("image_size") // patch
    linear = layers * (4 * h * h + 2 * h * m)
    small = layers * (4 * h + m + h + 4 * h) + 2 * h  # biases and norms
    first = h * read.number("num_channels", 3) * patch * patch + h + side * side * h
    total = linear + small + first + h * hidden + h
    if read.values.get("vision_use_head", True):  # attention pooling: a probe, a block, a norm
        linear += h * h + 2 * h * m
        total += 4 * h * h + 4 * h + h + 2 * h + 2 * h * m + m + h
    numbers = read.number("num_channels", 3) * read.number("image_size") ** 2
    return Vision(total, linear, h, m, layers, patches=side * side, numbers=numbers)


_TOWER = "siglip_vision_model"


def _window(text: Mapping[str, Any], kind: str, layers: int) -> tuple[int | None, int]:
    """The sliding window, and how many layers have it."""
    window = text.get("sliding_window")
    if not isinstance(window, int) or text.get("use_sliding_window") is False:
        return None, 0
    types = text.get("layer_types")
    if isinstance(types, list):
        found = cast("list[Any]", types)
        count = sum(one == "sliding_attention" for one in found)
        return (window, count) if count else (None, 0)
    pattern = text.get("sliding_window_pattern") or _WINDOW_PATTERN.get(kind)
    if isinstance(pattern, int) and pattern > 0:
        return window, layers - layers // pattern
    return window, layers


def read_config(path: Path) -> dict[str, Any]:
    """The object in a config.json.

    Raises:
        UsageError: There is none.
    """
    try:
        config: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            "The folder has no config.json, so it is no model.",
            code="no_config",
            where=str(path.parent),
            fix="name the folder that holds config.json and the weights",
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(
            f"config.json cannot be read: {error}.",
            code="bad_config",
            where=str(path),
            fix="copy the file again from where the model came from",
        ) from error
    if not isinstance(config, dict):
        raise UsageError(
            "config.json holds no object.",
            code="bad_config",
            where=str(path),
            fix="copy the file again from where the model came from",
        )
    return cast("dict[str, Any]", config)
