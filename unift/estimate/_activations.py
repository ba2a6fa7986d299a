"""What the forward pass leaves behind for the backward pass, in bytes per token and layer.

Counted operation by operation, as Korthikanti et al. 2022 do (https://arxiv.org/abs/2205.05198,
section 4.1), for the layer of today: RMSNorm in float32, rotary positions, grouped or latent keys
and values, memory-efficient attention, gated MLP or experts, and peft's adapters, which keep a copy
of their input. ``tests/estimate/test_activations.py`` holds these counts against what autograd
really keeps, in models of transformers with adapters of peft.

Symbols: w bytes of the arithmetic, s of the residual stream, h hidden, q and k the query and key
widths, o the width that attention returns, m the MLP width of one token.
"""

from __future__ import annotations

from dataclasses import replace

from unift.estimate._shape import Linear, Shape
from unift.estimate._training import Training


def saved_bytes(shape: Shape, run: Training) -> float:
    """Kept of one layer, the mean over all layers: norms, attention, MLP, inputs of trained
    projections. Layers with a sliding window get a mask once rows are longer than it."""
    share = shape.window_layers / shape.layers if _windowed(shape, run) else 0.0
    common = _norms(shape, run) + _mlp(shape, run) + _inputs(shape, run)
    attention = _attention(shape, run)
    if share:
        attention += share * (_attention(shape, replace(run, masked=True)) - attention)
    return (common + attention) * (_COMPILED if run.compiled else 1.0)


# The compiler's own choice of what to keep, norms without their float32 copies above all: 88% on
# an 8 B model, about 93% on one of 0.5 B (the MLP's product taken off an older measurement).
_COMPILED = 0.92


def widest_bytes(shape: Shape, run: Training) -> float:
    """Kept of the layer that keeps most: what a recomputed layer needs."""
    widest = replace(run, masked=True) if _windowed(shape, run) else run
    mean = saved_bytes(shape, run) - _attention(shape, run) + _attention(shape, widest)
    more = shape.widest_mlp - shape.active_mlp
    if run.unread(shape):
        return mean - _mlp(shape, run) * (_COMPILED if run.compiled else 1.0)
    return mean + more * run.width * (2 if run.fused_mlp(shape) else 3)


def mask_bytes(shape: Shape, run: Training) -> float:
    """Boolean masks made once for all layers: one byte for each pair of positions of each row, once
    more for layers with a window."""
    if run.attention != "sdpa":
        return 0.0
    pairs = float(run.tokens * run.span)
    return pairs * (int(run.masked) + int(_windowed(shape, run)))


def _windowed(shape: Shape, run: Training) -> bool:
    """Whether sdpa needs a mask for its window: rows are longer than it sees."""
    return (
        bool(shape.window_layers)
        and shape.window is not None
        and run.span > shape.window
        and run.attention == "sdpa"
        and not run.masked
    )


def _norms(shape: Shape, run: Training) -> float:
    """Per norm 4h (the float32 input) and 4 (the scale), and, if its weight is trained, the
    normalised value; Liger keeps s*h. Head norms the same at their width."""
    h, full = shape.hidden, run.full
    heads = shape.q_width + shape.kv_width
    latent = (shape.latent.q_rank + shape.latent.kv_rank) if shape.latent else 0
    if run.liger:
        total = float(shape.layer_norms * h * run.stream)
        return total + (heads * run.width if shape.head_norms else 0) + latent * run.width
    # Gemma multiplies by (1 + weight) in float32, so it keeps the float32 value.
    gemma = shape.family.startswith("gemma")
    kept = (4 if gemma else run.stream) if full else 0
    total = float(shape.layer_norms * (4 * h + 4 + h * kept))
    small = (4 if gemma else run.width) if full else 0
    if shape.head_norms:
        total += heads * (4 + small) + 4 * (shape.heads + shape.kv_heads)
    if latent:
        total += latent * (4 + small) + 4 * (2 if shape.latent and shape.latent.q_rank else 1)
    return total


def _attention(shape: Shape, run: Training) -> float:
    """w(q + 2k + o) and the softmax sums; eager keeps the scores, as sdpa does in float32 with
    grouped keys on CUDA, where it has no kernel for them. Masks rule out grouped attention
    in sdpa; then keys count at query width, as they do where a varlen kernel wants them
    repeated, and the mask as w bytes for each position seen."""
    w, q, k, o = run.width, shape.q_width, shape.kv_width, shape.o_width
    if run.math(shape):
        return w * (3 * q + o) + w * shape.heads * float(run.span)
    if run.attention == "eager":
        # Keys and values are repeated; the probabilities are kept in float32 and again in w bytes.
        return w * 3 * q + shape.heads * run.span * (4 + w)
    keys = q if run.masked or run.attention == "varlen_repeated" else k
    total = float(w * (q + o) + 4 * shape.heads)
    if shape.latent:
        # Keys are put together anew; values stay a view of what held their unrotated keys.
        total += w * (keys + shape.heads * (shape.latent.nope + shape.latent.value))
        if run.attention == "varlen":
            total += w * o  # one document after the other, then put together
    else:
        total += w * 2 * keys
    if run.attention == "varlen" and not run.cuda:
        # On a CPU the local provider's own attention computes in float32, whatever comes in.
        total += (4 - w) * (q + 2 * keys + o)
    return total + (run.span * w if run.masked else 0)


def _mlp(shape: Shape, run: Training) -> float:
    """Gated MLP 3wm (Liger and fused adapters 2wm, they make the product again). Each
    chosen expert also keeps its
    output before weighting (w*h), order and weights (34 bytes), and the router its float32
    probabilities."""
    w = run.width
    total = float(shape.active_mlp * w * (2 if run.fused_mlp(shape) and not shape.experts else 3))
    if shape.experts:
        share = shape.expert_layers / shape.layers
        routed = shape.experts_per_token * (w * shape.hidden + 34)
        if run.full or run.adapts_experts(shape):  # inputs of the experts' own products
            routed += shape.experts_per_token * w * (shape.hidden + shape.mlp)
        wider = run.expert_width - w  # gate, up, their product; what goes in and comes out
        routed += shape.experts_per_token * wider * (4 * shape.mlp + 2 * shape.hidden)
        routed += w * shape.hidden if wider else 0  # the router computes in 16 bits
        total += share * (routed + 4.0 * shape.experts)
    return total


def _inputs(shape: Shape, run: Training) -> float:
    """Inputs that trained projections keep, and what lies between the halves of adapters.

    Projections that read the same tensor share it, unless each casts it for itself: a float32
    adapter on a 16-bit model does (peft ``_cast_input_dtype``; on a 4-bit one it leaves that to
    autocast, which does not), so does any under autocast when the stream is float32, and dropout
    makes a tensor of its own per adapter, with a mask. Fused
    adapters (`unift_local.lora_math`) share it and make the MLP's product again. DoRA also keeps
    the result of the frozen layer and its own, to scale them.
    """
    w = run.width
    total = 0.0
    groups: dict[tuple[str, int], list[Linear]] = {}
    for one in shape.linears():
        trained = one.layer if run.full else one.peft and one.name in run.adapted
        if not trained:
            continue
        groups.setdefault((one.reads, one.inputs), []).append(one)
        if not run.full:
            total += run.rank * w * one.count
            if run.dora:
                total += one.outputs * _DORA * w * one.count
    for (reads, size), members in groups.items():
        layers = max(one.count for one in members)
        count = len(members)
        if run.fused:
            made_again = reads == "gated" and run.fused_mlp(shape)
            total += 0 if reads == "heads" or made_again else size * w * layers
        elif not run.full and (run.casts or run.dropout_mask):
            total += size * count * (w + run.dropout_mask) * layers
        elif run.full and run.mixed and reads in ("attention", "mlp"):
            total += size * count * w * layers
        elif reads != "heads" or run.attention == "eager":
            total += size * w * layers  # the output projection reads what attention keeps anyway
    return total / shape.layers


def tower_bytes(shape: Shape, run: Training) -> float:
    """Kept of a trained vision tower: all of each layer, or its input where layers are recomputed;
    and autocast's copies of its weights."""
    tower = shape.vision
    if tower is None or not run.vision or not run.full or not run.images:
        return 0.0
    copies = float(tower.linear * run.width) if run.mixed else 0.0
    if run.recomputes:
        stream = run.images * tower.patches * tower.hidden * run.stream
        return float(tower.layers * stream) + copies / tower.layers
    return tower.layers * _tower_layer(shape, run) + copies


def tower_layer_bytes(shape: Shape, run: Training) -> float:
    """What a layer of the tower takes while the backward pass is in it: itself if it is recomputed,
    and two gradients of its MLP's width."""
    tower = shape.vision
    if tower is None:
        return 0.0
    again = _tower_layer(shape, run) if run.recomputes else 0.0
    return again + run.images * tower.patches * 2.0 * tower.mlp * run.width


def _tower_layer(shape: Shape, run: Training) -> float:
    """transformers' SigLIP layer: two norms keep the stream, the three projections their input
    (each its own copy of it under autocast), attention queries, keys, values and result, and the
    MLP its input and both sides of the GELU."""
    tower, w, s = shape.vision, run.width, run.stream
    assert tower is not None
    inputs = 3 if run.mixed else 1
    per_patch = tower.hidden * (2 * s + inputs * w + 5 * w) + 2 * tower.mlp * w
    return float(run.images * tower.patches * per_patch)


def expert_copies(shape: Shape, run: Training) -> tuple[float, float]:
    """Bytes of one layer's experts with their adapters multiplied out, and of the largest gradient
    of these beside what is still kept: peft's ``ParamWrapper`` makes weights of base and adapter
    that autograd keeps whole, 16-bit copies of the adapter's halves beside them, and differentiates
    by all of it. Going back, the gradient of a third of it lies beside everything: of `down`, then
    of `gate` and `up` where `down` is free again."""
    adapters = shape.expert_adapters(run.rank, run.adapted)
    if not adapters:
        return 0.0, 0.0
    one = float(shape.experts * shape.hidden * shape.mlp * run.width)
    gate, _, down = shape.expert_targets
    parts = (2 if gate in run.adapted else 0) + (1 if down in run.adapted else 0)
    return parts * one + adapters * run.width, one if parts != 2 else 2 * one


_PIECE = 2048  # tokens (`unift_local.lora_math`)

# Tensors of output width that DoRA's rescaling keeps for each adapter (peft ``DoraLinearLayer``).
_DORA = 3


def transient_bytes(shape: Shape, run: Training) -> float:
    """Short-lived tensors at the worst point of a layer's backward pass, above what the layer
    keeps, in bytes per token.

    In the MLP: two gradients of its width and one of the stream; with fused adapters three, in a
    recomputed layer for a piece of the tokens only, so that attention may need more there: the
    gradients of what goes in and comes out, and a float32 sum for the queries. With an adapter
    that casts, the product's gradient and a float32 copy (twice with dropout) and four of the
    stream. In attention with whole score matrices: gradients of the scores (float32 three times;
    eager 10 bytes a score), when what the MLP kept is free again.
    """
    m, h, w = shape.widest_mlp, shape.hidden, run.width
    if shape.experts:
        return _expert_transient(shape, run)
    mlp = float(2 * m * w + h * run.stream)
    if run.fused:
        piece = min(1.0, _PIECE / run.tokens) if run.unread(shape) else 1.0
        mlp = float(3 * m * w * piece + 2 * h * w)
        if run.unread(shape):
            q, k = shape.q_width, shape.kv_width
            mlp = max(mlp, float(w * (2 * q + 2 * k + h) + 4 * q))
    elif run.casts and "down_proj" in run.adapted:
        copies = run.adapter_width * (2 if run.dropout_mask else 1)
        mlp = float(m * (w + copies) + 4 * h * w)
    freed = _mlp(shape, run)
    if run.math(shape):
        return max(mlp, 3.0 * w * shape.heads * run.span - freed)
    if run.attention == "eager":
        return max(mlp, 10.0 * shape.heads * run.span - freed)
    return mlp


# Families whose routers weight what experts return in float32 (transformers 5.17 modeling files).
_WIDE_ROUTERS = ("deepseek_v2", "deepseek_v3", "mixtral")


def _expert_transient(shape: Shape, run: Training) -> float:
    """Of a layer with experts, where their results are weighted and put back in order (transformers
    5.17 ``grouped_mm_experts_forward``): three gradients of all that they returned in the type of
    the routing weights, one more where that is wider than the arithmetic's; or, in the MLP, three
    of its width."""
    w, back = run.width, 4 if shape.family in _WIDE_ROUTERS or run.mixed else run.width
    weighted = 3.0 * back + (w if back > run.expert_width else 0)
    weighted *= shape.experts_per_token * shape.hidden
    return max(weighted, 3.0 * shape.widest_mlp * run.expert_width) + shape.hidden * run.stream


def dora_bytes(shape: Shape, run: Training) -> float:
    """DoRA's norm of weight plus adapter for one projection (peft ``DoraLinearLayer``): a unit
    matrix of its input width, to multiply the two halves out, their product and the sum, all
    float32. Over a 4-bit base its gradients come on top, 8 bytes an output of the layer (fitted on
    one run)."""
    if not run.dora:
        return 0.0
    adapted = [one for one in shape.linears() if one.peft and one.name in run.adapted]
    widest = max(adapted, key=lambda one: one.inputs * (one.inputs + 2 * one.outputs))
    total = 4.0 * widest.inputs * (widest.inputs + 2 * widest.outputs)
    if run.tuning == "qlora":
        outputs = sum(one.outputs * one.count for one in adapted) / shape.layers
        total += 8.0 * outputs * run.tokens
    return total
