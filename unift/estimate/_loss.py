"""The loss path at its peak: from the last hidden state to the gradient that goes back."""

from __future__ import annotations

from unift.estimate._shape import Shape
from unift.estimate._training import Training

# trl 1.16 kernels/chunked_logprob.py: tiles of 4,096 tokens by 32,768 words.
_TOKENS, _WORDS = 4096, 32768
# unift_local/loss.py: logits of so many bytes at one time.
_CHUNK = 2**28


def loss_bytes(shape: Shape, run: Training) -> float:
    """Bytes that the loss needs beside the last hidden state.

    plain: the float32 log-softmax, its gradient and that of the logits (transformers
    ``ForCausalLMLoss``; logits and their float32 copy are free by then): tokens * vocab * 12.
    chunked: only tokens that carry loss: their hidden states and the gradient of these, a quarter
    of a GiB of logits, which become their own gradient, and the gradient of a trained head
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
        logits = min(float(_CHUNK), n * v * float(w))
        if not run.full:
            return 2.0 * n * h * run.stream + logits
        # A float32 gradient cannot be added to in one product of 16 bits, and takes a copy of it;
        # the float32 head is narrowed once.
        wide = 2.0 * w if run.mixed else 0.0
        return 2.0 * n * h * run.stream + logits + v * h * (run.stream + wide)
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
