"""The loss path at its peak: from the last hidden state to the gradient that goes back."""

from __future__ import annotations

from unift.estimate._shape import Shape
from unift.estimate._training import Training

# trl 1.16 kernels/chunked_logprob.py: tiles of 4,096 tokens by 32,768 words.
_TOKENS, _WORDS = 4096, 32768
# unift_local/loss.py: logits of so many bytes at one time.
_CHUNK = 2**29


def loss_bytes(shape: Shape, run: Training) -> float:
    """Bytes that the loss needs beside the last hidden state.

    plain: the float32 log-softmax, its gradient and that of the logits (transformers
    ``ForCausalLMLoss``; logits and their float32 copy are free by then): tokens * vocab * 12.
    chunked: only tokens that carry loss: their hidden states and the gradient of these, half a GiB
    of logits and their gradient, and for a trained head its gradient and what is added to it
    (unift_local.loss).
    tiled: only tokens that carry loss; one tile of at most 4,096 tokens by 32,768 words, the
    float32 gradient of the hidden states, for a trained head its gradient in float32, and for
    float32 weights their 16-bit copy of one tile (trl 1.16 ``chunked_logprob``).
    fused: Liger's fused linear cross entropy: logits of one chunk, the gradient of the hidden
    states in the compute type (https://arxiv.org/abs/2410.10989, section 3.2).
    """
    h, v, w = shape.hidden, shape.vocab, run.width
    if run.loss == "plain":
        return run.tokens * v * 12.0
    n = run.scored
    if run.loss == "chunked":
        logits = min(float(_CHUNK), n * v * float(run.stream))
        if run.stream == 2:  # logits, their float32 copy and the gradient: 2 + 4 + 2 bytes
            logits = 2 * min(_CHUNK / 2, n * v * 2.0)
        hidden = 2.0 * n * h * run.stream
        if not run.full:
            return hidden + 2 * logits
        # Forward: the gradient, one product that is added to it, a narrow copy of wide weights.
        # Backward: the gradient and itself times the gradient of the loss.
        copy = float(w) if run.mixed else 0.0
        forward = v * h * (run.stream + w + copy) + 2 * logits
        return hidden + max(forward, 2.0 * v * h * run.stream)
    if run.loss == "tiled":
        head_gradient = v * h * 4.0 if run.full else 0.0
        tile = min(n, _TOKENS) * min(v, _WORDS) * w
        tile += min(v, _WORDS) * h * w if run.mixed else 0
        return tile + n * h * (4.0 + run.stream) + head_gradient
    head_gradient = v * h * float(run.stream) if run.full else 0.0
    chunks = max(1, -(-v // h))
    chunk = _power_of_two(-(-n // chunks))
    return min(chunk, n) * v * (w + 4.0) + n * h * w + head_gradient


def _power_of_two(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()
