"""The shape of a decoder, and what follows from it by counting. `_config` reads it from a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unift._text import did_you_mean
from unift.errors import UsageError

ATTENTION_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")
MLP_TARGETS = ("gate_proj", "up_proj", "down_proj")
ALL_TARGETS = ATTENTION_TARGETS + MLP_TARGETS
# Families that hold queries, keys and values in one tensor, gate and up in another.
_ONE_TENSOR = ("phi3",)
_ONE_TENSOR_TARGETS = ("qkv_proj", "gate_up_proj")
LATENT_TARGETS = ("q_proj", "q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")


@dataclass(frozen=True, slots=True)
class Latent:
    """Latent attention (DeepSeek-V2, https://arxiv.org/abs/2405.04434, section 2.1): widths of the
    compressed queries (0: not compressed) and keys and values, and of a head's parts."""

    q_rank: int
    kv_rank: int
    rope: int
    nope: int
    value: int


@dataclass(frozen=True, slots=True)
class Vision:
    """A vision tower beside the decoder: all its weights, those in linear layers (what 4-bit
    loading quantises), its widths and layers, and the patches and numbers of a picture."""

    parameters: int
    linear: int
    hidden: int
    mlp: int
    layers: int
    patches: int
    numbers: int


@dataclass(frozen=True, slots=True)
class Linear:
    """One kind of projection: `count` of them in the whole model. `reads` names the tensor that it
    takes; projections that read the same one share what is kept of it. `layer` is False for weights
    that are no linear layer of their own (fused experts, routers), `peft` for what gets no adapter
    when its name is asked for."""

    name: str
    inputs: int
    outputs: int
    count: int
    reads: str
    peft: bool = True
    layer: bool = True

    @property
    def parameters(self) -> int:
        """Weights of all of them."""
        return self.inputs * self.outputs * self.count


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder-only transformer. Widths are in elements; counts are exact for the families known.

    ``experts`` is 0 for a dense model; with experts, ``mlp`` is the width of one expert and
    ``shared_mlp`` the width of the part that every token passes. ``window_layers`` of the layers
    see only the last ``window`` tokens. ``stored`` names the quantisation of the files, if any.
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
    shared_gate: bool = False
    dense_layers: int = 0
    dense_mlp: int = 0
    window: int | None = None
    window_layers: int = 0
    context: int | None = None
    latent: Latent | None = None
    vision: Vision | None = None
    stored: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, where: str = "config.json") -> Shape:
        """Read a Hugging Face ``config.json``.

        Raises:
            UsageError: The architecture is not one of the dense or expert decoders known here, or
                a width is missing.
        """
        from unift.estimate._config import shape_of

        return shape_of(config, where)

    @property
    def q_width(self) -> int:
        """Width of all query heads together."""
        if self.latent:
            return self.heads * (self.latent.nope + self.latent.rope)
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together (values have the same, except in latent attention)."""
        return self.q_width if self.latent else self.kv_heads * self.head_dim

    @property
    def o_width(self) -> int:
        """Width of what attention returns: the input of the output projection."""
        return self.heads * (self.latent.value if self.latent else self.head_dim)

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

    @property
    def widest_mlp(self) -> int:
        """MLP width that one token passes in the widest layer."""
        if not self.experts:
            return self.mlp
        sparse = self.mlp * self.experts_per_token + self.shared_mlp
        return max(sparse, self.dense_mlp if self.dense_layers else 0)

    def linears(self) -> tuple[Linear, ...]:
        """Every kind of projection inside the layers."""
        return (*self._attention(), *self._mlp())

    def _attention(self) -> list[Linear]:
        h, q, kv, n = self.hidden, self.q_width, self.kv_width, self.layers
        if self.family in _ONE_TENSOR:
            return [
                Linear("qkv_proj", h, q + 2 * kv, n, "attention"),
                Linear("o_proj", q, h, n, "heads"),
            ]
        if self.latent is None:
            return [
                Linear("q_proj", h, q, n, "attention"),
                Linear("k_proj", h, kv, n, "attention"),
                Linear("v_proj", h, kv, n, "attention"),
                Linear("o_proj", q, h, n, "heads"),
            ]
        one = self.latent
        queries = (
            [
                Linear("q_a_proj", h, one.q_rank, n, "attention"),
                Linear("q_b_proj", one.q_rank, q, n, "latent q"),
            ]
            if one.q_rank
            else [Linear("q_proj", h, q, n, "attention")]
        )
        up = self.heads * (one.nope + one.value)
        return [
            *queries,
            Linear("kv_a_proj_with_mqa", h, one.kv_rank + one.rope, n, "attention"),
            Linear("kv_b_proj", one.kv_rank, up, n, "latent kv"),
            Linear("o_proj", self.o_width, h, n, "heads"),
        ]

    def _mlp(self) -> list[Linear]:
        h = self.hidden
        if self.family in _ONE_TENSOR:
            return [
                Linear("gate_up_proj", h, 2 * self.mlp, self.layers, "mlp"),
                Linear("down_proj", self.mlp, h, self.layers, "gated"),
            ]
        if not self.experts:
            return _gated(h, self.mlp, self.layers)
        # transformers 5 stores experts fused. peft takes the names of an MLP's projections for
        # those of the experts alone; shared experts and dense layers then get no adapter.
        sparse = self.expert_layers * self.experts
        found = [
            Linear("expert_in", h, 2 * self.mlp, sparse, "routed", peft=False, layer=False),
            Linear("expert_out", self.mlp, h, sparse, "experts", peft=False, layer=False),
            Linear("router", h, self.experts, self.expert_layers, "mlp", peft=False, layer=False),
        ]
        if self.shared_mlp:
            found += _gated(h, self.shared_mlp, self.expert_layers, peft=False)
            if self.shared_gate:
                found.append(
                    Linear("shared_expert_gate", h, 1, self.expert_layers, "mlp", peft=False)
                )
        if self.dense_layers:
            found += _gated(h, self.dense_mlp, self.dense_layers, peft=False)
        return found

    @property
    def expert_targets(self) -> tuple[str, ...]:
        """What peft calls the three projections of an expert: gate, up, down; () without any."""
        if not self.experts:
            return ()
        return ("w1", "w3", "w2") if self.family == "mixtral" else MLP_TARGETS

    def expert_adapters(self, rank: int, targets: tuple[str, ...]) -> int:
        """Adapter weights of one layer's experts. Gate and up are one tensor, whose adapter has
        twice the rank (peft 0.21 ``transformers_weight_conversion``, ``ParamWrapper``)."""
        if not set(targets) & set(self.expert_targets):
            return 0
        h, m = self.hidden, self.mlp
        gate, _, down = self.expert_targets
        each = 2 * rank * (h + 2 * m) if gate in targets else 0
        return self.experts * (each + (rank * (m + h) if down in targets else 0))

    @property
    def linear_parameters(self) -> int:
        """Weights of the projections inside the layers."""
        return sum(one.parameters for one in self.linears())

    @property
    def quantised_parameters(self) -> int:
        """Weights that 4-bit loading quantises: linear layers, the vision tower's too, but neither
        the head nor fused experts and their router (bitsandbytes replaces ``nn.Linear`` only)."""
        own = sum(one.parameters for one in self.linears() if one.layer)
        return own + (self.vision.linear if self.vision else 0)

    @property
    def embedding_parameters(self) -> int:
        """Input embeddings plus the output head, once if they are tied."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def other_parameters(self) -> int:
        """Norms and biases."""
        per_layer = self.layer_norms * self.hidden
        per_layer += 2 * self.head_dim if self.head_norms else 0
        if self.latent:
            per_layer += self.latent.q_rank + self.latent.kv_rank
        elif self.qkv_bias:
            per_layer += self.q_width + 2 * self.kv_width
        per_layer += self.hidden if self.o_bias else 0
        per_layer += 2 * self.mlp + self.hidden if self.mlp_bias else 0
        return self.layers * per_layer + self.hidden

    @property
    def parameters(self) -> int:
        """All parameters; exact for every family that is known (``tests/estimate/test_shape.py``
        builds them in transformers)."""
        text = self.linear_parameters + self.embedding_parameters + self.other_parameters
        return text + (self.vision.parameters if self.vision else 0)

    @property
    def active_parameters(self) -> int:
        """Parameters that take part in one token's arithmetic: all but the unused experts, the
        embedding lookup and the vision tower."""
        per_token = self.linear_parameters + self.vocab * self.hidden
        if self.experts:
            expert = 3 * self.hidden * self.mlp * self.expert_layers
            per_token -= expert * (self.experts - self.experts_per_token)
        return per_token

    def adapter_parameters(
        self, rank: int, targets: tuple[str, ...] | None = None, *, dora: bool = False
    ) -> int:
        """Weights of low-rank adapters: rank * (inputs + outputs) for each adapted projection
        (all that can be by default; Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4);
        DoRA adds one magnitude per
        output (Liu et al. 2024, https://arxiv.org/abs/2402.09353, section 4).

        Raises:
            UsageError: A target that this model does not have.
        """
        known = self.default_targets()
        targets = known if targets is None else targets
        for target in targets:
            if target not in known:
                raise UsageError(
                    f"The model has no projection '{target}' that can carry an adapter.",
                    code="unknown_target",
                    where="targets",
                    fix=did_you_mean(target, known),
                )
        halves = [one for one in self.expert_targets[:2] if one in targets]
        if len(halves) == 1:
            other = next(one for one in self.expert_targets[:2] if one not in targets)
            raise UsageError(
                f"Experts hold '{halves[0]}' and '{other}' in one tensor, so that both get an "
                "adapter or none.",
                code="unknown_target",
                where="targets",
                fix=f"add '{other}', or leave '{halves[0]}' out",
            )
        return self.expert_layers * self.expert_adapters(rank, targets) + sum(
            (rank * (one.inputs + one.outputs) + (one.outputs if dora else 0)) * one.count
            for one in self.linears()
            if one.peft and one.name in targets
        )

    def default_targets(self) -> tuple[str, ...]:
        """Every projection that peft can adapt in this model."""
        names = {one.name for one in self.linears() if one.peft} | set(self.expert_targets)
        ordered = (*ALL_TARGETS, *_ONE_TENSOR_TARGETS, *LATENT_TARGETS, *self.expert_targets)
        return tuple(dict.fromkeys(name for name in ordered if name in names))


def _gated(hidden: int, width: int, count: int, *, peft: bool = True) -> list[Linear]:
    return [
        Linear("gate_proj", hidden, width, count, "mlp", peft=peft),
        Linear("up_proj", hidden, width, count, "mlp", peft=peft),
        Linear("down_proj", width, hidden, count, "gated", peft=peft),
    ]


def read_shape(folder: str | Path) -> Shape:
    """The shape of a model in a local folder.

    Raises:
        UsageError: No ``config.json`` there, no JSON in it, or an architecture without formula.
    """
    from unift.estimate._config import read_config

    path = Path(folder) / "config.json"
    return Shape.from_config(read_config(path), where=str(path))
