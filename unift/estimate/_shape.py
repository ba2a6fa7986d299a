"""The shape of a decoder, read from its ``config.json``, and what follows from it by counting."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from unift._text import did_you_mean
from unift.errors import UsageError

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_TARGETS = ("gate_proj", "up_proj", "down_proj")
ALL_TARGETS = ATTENTION_TARGETS + MLP_TARGETS

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
}
_NESTED = {"gemma3": "gemma3_text"}
_TIED_BY_DEFAULT = {"gemma", "gemma2", "gemma3_text"}


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer. Widths are in elements; counts are exact for the families known.

    ``experts`` is 0 for a dense model; with experts, ``mlp`` is the width of one expert and
    ``shared_mlp`` the width of the part that every token passes.
    """

    family: str
    vocab: int
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    layer_norms: int = 2
    head_norms: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    experts: int = 0
    experts_per_token: int = 0
    shared_mlp: int = 0
    dense_layers: int = 0
    dense_mlp: int = 0
    window: int | None = None
    context: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config.json") -> Shape:
        """Read a Hugging Face ``config.json``. A vision tower beside the text model is not counted.

        Raises:
            UsageError: The architecture is not one of the dense or expert decoders known here, or
                a width is missing.
        """
        top = dict(config)
        inner = top.get("text_config")
        text = cast("dict[str, Any]", inner) if isinstance(inner, dict) else top
        kind = str(text.get("model_type") or _NESTED.get(str(top.get("model_type")), ""))
        kind = _NESTED.get(kind, kind)
        if kind not in _FAMILIES:
            raise UsageError(
                f"No memory formula for models of type '{kind or 'unknown'}'.",
                code="unknown_architecture",
                where=f"{where}: model_type",
                fix=did_you_mean(kind, _FAMILIES),
            )
        norms, head_norms, qkv_bias = _FAMILIES[kind]

        def number(key: str, default: int | None = None) -> int:
            value = text.get(key, default)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise UsageError(
                    f"The model's config has no usable '{key}' (got {value!r}).",
                    code="bad_config",
                    where=f"{where}: {key}",
                    fix="use the config.json that came with the model",
                )
            return value

        hidden, heads = number("hidden_size"), number("num_attention_heads")
        bias = bool(text.get("attention_bias", False))
        shape = cls(
            family=kind,
            vocab=number("vocab_size"),
            hidden=hidden,
            mlp=number("intermediate_size"),
            layers=number("num_hidden_layers"),
            heads=heads,
            kv_heads=number("num_key_value_heads", heads),
            head_dim=number("head_dim", hidden // heads)
            if text.get("head_dim")
            else hidden // heads,
            tied=bool(
                text.get(
                    "tie_word_embeddings",
                    top.get("tie_word_embeddings", kind in _TIED_BY_DEFAULT),
                )
            ),
            layer_norms=norms,
            head_norms=head_norms,
            qkv_bias=qkv_bias or bias,
            o_bias=bias and kind != "qwen2",
            mlp_bias=bool(text.get("mlp_bias", False)),
            window=_window(text),
            context=number("max_position_embeddings")
            if text.get("max_position_embeddings")
            else None,
        )
        experts = text.get("num_experts") or text.get("num_local_experts")
        if not experts:
            return shape
        step = number("decoder_sparse_step", 1)
        listed = text.get("mlp_only_layers")
        skipped = cast("list[int]", listed) if isinstance(listed, list) else []
        dense = sum(
            1 for index in range(shape.layers) if index in skipped or (index + 1) % step != 0
        )
        return replace(
            shape,
            experts=number("num_experts" if text.get("num_experts") else "num_local_experts"),
            experts_per_token=number("num_experts_per_tok"),
            mlp=number("moe_intermediate_size", shape.mlp),
            shared_mlp=number("shared_expert_intermediate_size", 0)
            if text.get("shared_expert_intermediate_size")
            else 0,
            dense_layers=dense,
            dense_mlp=shape.mlp,
        )

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together (values have the same)."""
        return self.kv_heads * self.head_dim

    @property
    def expert_layers(self) -> int:
        """Layers whose MLP is a set of experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def active_mlp(self) -> int:
        """MLP width that one token passes in an average layer, in elements."""
        if not self.experts:
            return self.mlp
        sparse = self.expert_layers * (self.mlp * self.experts_per_token + self.shared_mlp)
        return (sparse + self.dense_layers * self.dense_mlp) // self.layers

    def linears(self) -> dict[str, tuple[int, int, int]]:
        """Each kind of projection inside the layers: name -> (inputs, outputs, how many in all)."""
        h, q, kv, n = self.hidden, self.q_width, self.kv_width, self.layers
        table = {
            "q_proj": (h, q, n),
            "k_proj": (h, kv, n),
            "v_proj": (h, kv, n),
            "o_proj": (q, h, n),
        }
        if not self.experts:
            return table | {
                "gate_proj": (h, self.mlp, n),
                "up_proj": (h, self.mlp, n),
                "down_proj": (self.mlp, h, n),
            }
        # Experts are stored fused, so adapters on their projections are not what peft builds; they
        # count as parameters of the model under a name that no target matches.
        sparse = self.expert_layers * self.experts
        table |= {
            "expert_in": (h, 2 * self.mlp, sparse),
            "expert_out": (self.mlp, h, sparse),
            "router": (h, self.experts, self.expert_layers),
        }
        if self.shared_mlp:
            table["shared_in"] = (h, 2 * self.shared_mlp, self.expert_layers)
            table["shared_out"] = (self.shared_mlp, h, self.expert_layers)
            table["shared_gate"] = (h, 1, self.expert_layers)
        if self.dense_layers:
            table["gate_proj"] = (h, self.dense_mlp, self.dense_layers)
            table["up_proj"] = (h, self.dense_mlp, self.dense_layers)
            table["down_proj"] = (self.dense_mlp, h, self.dense_layers)
        return table

    @property
    def linear_parameters(self) -> int:
        """Weights of the projections inside the layers: what NF4 quantises."""
        return sum(inputs * outputs * count for inputs, outputs, count in self.linears().values())

    @property
    def embedding_parameters(self) -> int:
        """Input embeddings plus the output head, once if they are tied."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def other_parameters(self) -> int:
        """Norms and biases."""
        per_layer = self.layer_norms * self.hidden
        per_layer += 2 * self.head_dim if self.head_norms else 0
        per_layer += self.q_width + 2 * self.kv_width if self.qkv_bias else 0
        per_layer += self.hidden if self.o_bias else 0
        per_layer += 2 * self.mlp + self.hidden if self.mlp_bias else 0
        return self.layers * per_layer + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters. Exact for Llama, Mistral, Qwen2, Qwen3 and Gemma decoders."""
        return self.linear_parameters + self.embedding_parameters + self.other_parameters

    @property
    def active_parameters(self) -> int:
        """Parameters that take part in one token's arithmetic: all but the unused experts and the
        embedding lookup."""
        per_token = self.linear_parameters + self.vocab * self.hidden
        if self.experts:
            expert = 3 * self.hidden * self.mlp * self.expert_layers
            per_token -= expert * (self.experts - self.experts_per_token)
        return per_token

    def adapter_parameters(self, rank: int, targets: tuple[str, ...] = ALL_TARGETS) -> int:
        """Weights of low-rank adapters: rank * (inputs + outputs) for each adapted projection
        (Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4).

        Raises:
            UsageError: A target that this model does not have.
        """
        table = self.linears()
        total = 0
        for target in targets:
            if target not in table:
                raise UsageError(
                    f"The model has no projection '{target}' that can carry an adapter.",
                    code="unknown_target",
                    where="targets",
                    fix=did_you_mean(target, (name for name in table if name.endswith("_proj"))),
                )
            inputs, outputs, count = table[target]
            total += rank * (inputs + outputs) * count
        return total

    def default_targets(self) -> tuple[str, ...]:
        """Every projection that peft can adapt in this model."""
        return tuple(target for target in ALL_TARGETS if target in self.linears())


def read_shape(folder: str | Path) -> Shape:
    """The shape of a model in a local folder.

    Raises:
        UsageError: No ``config.json`` there, no JSON in it, or an architecture without formula.
    """
    path = Path(folder) / "config.json"
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
    return Shape.from_config(cast("dict[str, Any]", config), where=str(path))


def _window(text: Mapping[str, Any]) -> int | None:
    """The sliding window, if every layer has it: mixed layers are counted as full attention."""
    window = text.get("sliding_window")
    layer_types = text.get("layer_types")
    if text.get("use_sliding_window") is False or text.get("sliding_window_pattern"):
        return None
    if layer_types and any(kind != "sliding_attention" for kind in layer_types):
        return None
    return window if isinstance(window, int) else None
