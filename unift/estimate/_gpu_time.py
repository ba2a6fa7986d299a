"""Seconds of one forward and backward pass on a GPU, from counted work and measured speeds.

    seconds = (card^4 + host^4)^(1/4)
    card = products / speed + bytes / bandwidth + attention / speed
    host = layers * phases * seconds to launch the kernels of a layer, more where it is recomputed

The card works while the processor launches its kernels, so the slower of the two counts; the power
makes the change smooth. What is counted:

- products: 2 FLOPs a weight and token forward, 2 backward for a frozen weight (activation
  gradients only), 4 for a trained one (Kaplan et al. 2020, https://arxiv.org/abs/2001.08361,
  section 2.1), and 2 again for a recomputed layer; the bytes of weights, inputs and outputs that
  each product moves, which is what makes narrow models and short passes inefficient;
- attention: causal over real row lengths, or all pairs under a dense mask; 2.5 times backward;
- elementwise work: every tensor that norms, rotations, gates, adapters and the loss read and write,
  operation by operation, for the kernels in use (`_elementwise`, `_adapters`, `_loss`);
- 4-bit weights are made dense in each phase, whatever the number of tokens; experts that carry
  adapters have these added in each forward phase (`_merged`), and experts in float32 are multiplied
  in it, one after the other (`_wide_share`).

The constants are fitted by ``benchmarks/memory/fit_time.py`` to the fit half of the timed steps
(``benchmarks/results/time.md`` has them all). Launches are those of the first session's host.
"""

from __future__ import annotations

from dataclasses import dataclass

from unift.estimate._shape import Shape
from unift.estimate._training import Training

# Arithmetic in float32 outside tensor cores, share of the bf16 data sheet (H100: 67 of 989).
_FP32_SHARE = 1 / 14.8
# Backward elementwise work over forward.
_BACKWARD = 2.0
# Seconds to launch one small kernel: 400 of them took 3.3 to 5 ms on the hosts that were measured.
_LAUNCH = 1e-5
# Pinned main memory over PCIe 5.0 x16, GB/s, half of its 63.
_PCIE = 30.0


@dataclass(frozen=True, slots=True)
class Speeds:
    """What was measured. Shares are of the card's data sheet; launches are seconds of the
    processor per layer and phase (forward, backward and recomputing are one each); `compiled` is
    the share of them that compiled layers leave. `cast` is the share of the bus that stock adapters
    reach, above 1 where their tensors stay in the cache; `merged` that of adapters on experts,
    whose products have an inner width of the rank; `wrapped` is what peft's processor work for
    these takes in each forward phase of a layer."""

    products: float = 0.79
    bandwidth: float = 0.818
    causal: float = 0.580
    dense: float = 0.400
    four_bit: float = 0.842
    layer: float = 2.04e-3
    adapters: float = 1.50e-3
    quantised: float = 1.93e-3
    fused: float = 3.84e-3
    compiled: float = 0.405
    cast: float = 0.866
    experts: float = 3.00e-3
    wrapped: float = 2.23e-3
    merged: float = 0.348
    again: float = 1.81
    step: float = 13.7e-3


SPEEDS = Speeds()


@dataclass(frozen=True, slots=True)
class Work:
    """One pass: FLOPs, bytes on the memory bus, and how many layers are launched how often. `wide`
    are FLOPs in float32, `merged` bytes of adapters on experts, `singly` products of one expert
    that are launched each by itself."""

    products: float
    wide: float
    attention: float
    dense: bool
    bytes: float
    adapters: float
    merged: float
    singly: float
    dequantised: float
    phases: float
    again: float


def product_flops(
    shape: Shape, *, full: bool, recomputed: float, scored: float, training: bool = True
) -> float:
    """FLOPs of matrix products per token; `recomputed` is the share of layers, `scored` the share
    of tokens that the head works for."""
    head = float(shape.vocab * shape.hidden)
    layers = shape.active_parameters - head
    if not training:
        return 2.0 * (layers + scored * head)
    backward = 4.0 if full else 2.0
    return (2.0 + backward + 2.0 * recomputed) * layers + (2.0 + backward) * scored * head


def attention_flops(
    shape: Shape, *, context: float, recomputed: float, training: bool = True
) -> float:
    """FLOPs of causal attention per token: 2 * layers * query width * context forward (half of all
    pairs), 2.5 times that backward; layers with a window see no more than it."""
    whole = shape.layers - (shape.window_layers if shape.window else 0)
    seen = whole * context + shape.window_layers * min(context, shape.window or context)
    forward = (shape.q_width + shape.o_width) * seen
    return forward * ((3.5 + recomputed) if training else 1.0)


def work(shape: Shape, run: Training, tokens: float, row: float, *, training: bool = True) -> Work:
    """What one pass over `tokens` does; `row` is what attention sees without a dense mask."""
    again = run.recomputed / shape.layers
    dense = run.masked and run.attention in ("sdpa", "eager")
    scored = run.scored / run.tokens
    phases = (2.0 + again) if training else 1.0
    elementwise = (1.0 + again + _BACKWARD) if training else 1.0
    backward = 2.0 if run.full else 1.0
    moved = shape.layers * tokens * _elementwise(shape, run) * elementwise
    forward, back = _adapters(shape, run)
    adapters = tokens * (forward * (1 + again) + back) if training else tokens * forward
    merged = _merged(shape, run) * ((_MERGE * (1 + again) + _UNMERGE) if training else _MERGE)
    total = tokens * product_flops(
        shape, full=run.full, recomputed=again, scored=scored, training=training
    )
    wide = _wide_share(shape, run) * total
    moved += _product_bytes(shape, run, tokens) * ((1 + again + backward) if training else 1.0)
    moved += _loss(shape, run, tokens * scored, training)
    if run.mixed:  # autocast makes a 16-bit copy of every weight, and widens every gradient
        moved += shape.linear_parameters * (6.0 * (1 + again) + (6.0 if training else 0.0))
    if training and run.full and run.passes > 1:
        moved += 3.0 * shape.parameters * run.stream  # added to the gradients of the passes before
    four_bit = shape.quantised_parameters if run.tuning == "qlora" else 0
    return Work(
        products=total - wide + _weight_gradients(shape, run, tokens, training),
        wide=wide,
        attention=tokens
        * attention_flops(
            shape,
            context=max(1.0, run.span if dense else row) * (2.0 if dense else 1.0),
            recomputed=again,
            training=training,
        ),
        dense=dense,
        bytes=moved,
        adapters=adapters,
        merged=merged,
        singly=_PARTS * shape.expert_layers * shape.experts * (elementwise if wide else 0.0),
        dequantised=four_bit * 2.6 * phases,
        phases=phases,
        again=again if training else 0.0,
    )


def _elementwise(shape: Shape, run: Training) -> float:
    """Bytes per token and layer that one forward phase reads and writes outside of products.

    Llama's RMSNorm runs as six kernels (36 bytes a value of width 2), a rotation as five (22), an
    addition moves three values, a gate five; fused kernels (Liger, compiled layers) read and write
    each once. Fused adapters fuse the gate only.
    """
    w, s, h = run.width, run.stream, shape.hidden
    heads = shape.q_width + shape.kv_width
    tight = run.liger or run.compiled
    norm = (2.0 * s) if tight else (4 * s + 28.0)
    total = shape.layer_norms * h * norm + 2 * h * (0.0 if run.compiled else 3.0 * s)
    total += heads * ((2.0 * w) if tight else 11.0 * w)
    if shape.head_norms:
        total += heads * ((2.0 * w) if tight else (4 * w + 28.0))
    total += shape.active_mlp * w * (3.0 if tight or run.fused else 5.0)
    if run.mixed:
        total += (3 * h + shape.active_mlp) * 6.0  # every product casts its own input
    if shape.experts:  # gathered, weighted, scattered back
        total += shape.experts_per_token * h * 8.0 * w
    return total


def _adapters(shape: Shape, run: Training) -> tuple[float, float]:
    """Bytes per token, all layers, that adapters move in a forward phase and in the backward phase.

    peft's float32 adapter on a 16-bit layer: casts its input, multiplies twice in float32, scales,
    adds, casts back: 10 bytes an input and 28 an output forward, 20 and 22 backward; 16-bit ones
    under autocast 2 and 12, 8 and 12. Fused with the base: 2 and 4, 6 and 4.
    """
    if run.full:
        return 0.0, 0.0
    inputs = sum(o.inputs * o.count for o in shape.linears() if o.peft and o.name in run.adapted)
    outputs = sum(o.outputs * o.count for o in shape.linears() if o.peft and o.name in run.adapted)
    if run.fused:
        return 2.0 * inputs + 4.0 * outputs, 6.0 * inputs + 4.0 * outputs
    mask = 14.0 * inputs if run.dropout_mask else 0.0
    if run.casts:
        return 10.0 * inputs + 28.0 * outputs + mask, 20.0 * inputs + 22.0 * outputs + mask
    return 2.0 * inputs + 12.0 * outputs + mask, 8.0 * inputs + 12.0 * outputs + mask


# Bytes a weight of experts whose adapters peft 0.21 adds to them (`ParamWrapper`): one product
# reads the weight and writes the sum; going back, the gradient of the sum is written, and read for
# either half of the adapter.
_MERGE, _UNMERGE = 4.0, 6.0
# Linear layers in a layer of the models that `Speeds.quantised` was fitted on.
_LINEARS = 7
# Tensors that hold an expert: gate and up, down.
_PARTS = 2.0


def _wide_share(shape: Shape, run: Training) -> float:
    """Share of the FLOPs that are in float32: those of experts whose weights are. Their grouped
    product takes the type of the weights, and autocast does not touch it (transformers 5.17
    ``integrations/moe.py``); in float32 torch has no grouped kernel and takes one expert after the
    other."""
    if not (run.full and run.mixed and shape.experts):
        return 0.0
    one = 3.0 * shape.hidden * shape.mlp * shape.expert_layers * shape.experts_per_token
    return one / shape.active_parameters


def _weight_gradients(shape: Shape, run: Training, tokens: float, training: bool) -> float:
    """FLOPs of the gradients of experts with their adapters added, which frozen ones lack."""
    merged = _merged(shape, run) if training else 0.0
    return 2.0 * tokens * merged * shape.experts_per_token / shape.experts if merged else 0.0


def _merged(shape: Shape, run: Training) -> float:
    """Weights of experts that are multiplied out with their adapters in each forward phase."""
    if not run.adapts_experts(shape):
        return 0.0
    gate, _, down = shape.expert_targets
    parts = (2 if gate in run.adapted else 0) + (1 if down in run.adapted else 0)
    return float(parts * shape.expert_layers * shape.experts * shape.hidden * shape.mlp)


def _product_bytes(shape: Shape, run: Training, tokens: float) -> float:
    """Bytes that the layers' products move once: weights, inputs and outputs."""
    total = 0.0
    for one in shape.linears():
        share = shape.experts_per_token / shape.experts if one.reads in ("routed", "experts") else 1
        total += run.width * (
            one.parameters + tokens * share * (one.inputs + one.outputs) * one.count
        )
    return total


def _loss(shape: Shape, run: Training, scored: float, training: bool) -> float:
    """Bytes of the head: logits written and read by the softmax and by two products; a trained
    head's gradient is read and written for each chunk of logits."""
    w = run.width if run.full else run.stream
    logits = scored * shape.vocab * w * (6.0 if training else 3.0)
    head = shape.vocab * shape.hidden * w
    chunks = max(1.0, scored * shape.vocab * w / 2**28)
    total = logits + head * chunks * (2.0 if training else 1.0)
    if training and run.full:
        total += head * 2.0 * chunks + 3.0 * shape.vocab * shape.hidden * run.stream
    return total


def pass_seconds(
    shape: Shape,
    run: Training,
    tokens: float,
    row: float,
    *,
    tflops: float,
    bandwidth: float,
    training: bool = True,
    host: float = 1.0,
    speeds: Speeds = SPEEDS,
) -> float:
    """Seconds of one pass over `tokens` on a card of so many bf16 TFLOP/s and GB/s, beside a
    processor that takes `host` times as long as the one that was measured."""
    one = work(shape, run, tokens, row, training=training)
    peak = tflops * 1e12 * (_FP32_SHARE if run.width == 4 else 1.0)
    bus = bandwidth * 1e9
    card = one.products / (peak * speeds.products)
    card += one.attention / (peak * (speeds.dense if one.dense else speeds.causal))
    card += one.wide / (tflops * 1e12 * _FP32_SHARE * speeds.products)
    card += one.bytes / (bus * speeds.bandwidth) + one.dequantised / (bus * speeds.four_bit)
    card += one.adapters / (bus * (speeds.bandwidth if run.fused else speeds.cast))
    card += one.merged / (bus * speeds.merged)
    # Recomputing goes through hooks that keep nothing: more of the processor for the same kernels.
    phases = one.phases + one.again * (speeds.again - 1)
    launching = shape.layers * phases * _launch(shape, run, speeds)
    launching += shape.expert_layers * phases * speeds.experts
    if one.merged:
        launching += shape.expert_layers * (phases - (1.0 if training else 0.0)) * speeds.wrapped
    launching += one.singly * _LAUNCH
    seconds = (card**4 + (host * launching) ** 4) ** 0.25
    if run.checkpointing == "offloaded" and training:
        moved = 2.0 * shape.layers * tokens * shape.hidden * run.stream
        seconds += moved / (_PCIE * 1e9)
    return seconds


def _launch(shape: Shape, run: Training, speeds: Speeds) -> float:
    if run.full:
        launch = speeds.layer
    elif run.fused:
        launch = speeds.fused
    else:
        launch = speeds.layer + speeds.adapters
    if run.tuning == "qlora":
        layers = sum(one.count for one in shape.linears() if one.layer) / shape.layers
        launch += speeds.quantised * layers / _LINEARS
    return launch * (speeds.compiled if run.compiled else 1.0)


def optimizer_seconds(
    shape: Shape, run: Training, bandwidth: float, speeds: Speeds = SPEEDS
) -> float:
    """Seconds of one optimiser step: AdamW reads and writes weight, gradient and two moments (28
    bytes a float32 weight) and clipping reads and scales the gradient (12); 8-bit states with
    random rounding widen weight and gradient and draw random bits: 60 bytes by counting, 115 by the
    one row of the fit half that has them."""
    per_weight = 115.0 if "8bit" in run.optimizer else 40.0
    trained = run.trainable(shape)
    return trained * per_weight / (bandwidth * 1e9 * speeds.bandwidth) + speeds.step
