"""What lies on the device however long the rows are: weights, adapters, optimiser."""

from __future__ import annotations

from unift.estimate._shape import Shape
from unift.estimate._training import Training

# NF4: 4 bits a weight plus one constant per block of 64; double quantisation stores the constants
# in 8 bits plus float32 per 256 of them: 0.127 bits a weight (Dettmers et al. 2023,
# https://arxiv.org/abs/2305.14314, section 3).
NF4_BYTES = 0.5 + 0.127 / 8


def weights_bytes(shape: Shape, run: Training) -> float:
    """The frozen or trained model: parameters * bytes; for QLoRA the linear layers in NF4 (0.516 B
    each) and the rest (embeddings, head, norms, fused experts) in the compute type."""
    if run.tuning != "qlora":
        return float(shape.parameters * run.storage)
    rest = shape.parameters - shape.quantised_parameters
    return shape.quantised_parameters * NF4_BYTES + rest * run.width


def optimizer_bytes(shape: Shape, run: Training) -> float:
    """AdamW keeps two moments in the type of the parameters (torch.optim.AdamW: zeros_like), so
    bfloat16 weights have bfloat16 states.

    8-bit AdamW keeps one byte each plus a float32 constant per block of 256 (Dettmers et al. 2021,
    https://arxiv.org/abs/2110.02861); transformers keeps input embeddings at two float32 (trainer
    ``create_optimizer``). Paged states lie in memory that the driver moves to the host when the
    device is short of it: they are no part of what torch allocates.
    """
    if run.optimizer.startswith("paged"):
        return 0.0
    trainable = run.trainable(shape)
    if run.optimizer == "adamw":
        return 2.0 * trainable * run.trained_width
    per_weight = 2 * (1 + 4 / 256)
    # unift's own loss comes with its own trainer, which leaves them at 8 bits.
    embeddings = shape.vocab * shape.hidden if run.full and run.loss != "chunked" else 0
    return (trainable - embeddings) * per_weight + embeddings * 8.0


# unift_local.optimizer draws random bits for so many weights at a time.
_PIECE = 2**26


def widened_bytes(shape: Shape, run: Training) -> float:
    """8-bit AdamW with random rounding (`unift_local.optimizer`) widens one weight and its gradient
    to float32 at a time, of which the largest is the embedding or a layer's experts; then it draws
    32 random bits a weight."""
    own = run.loss == "chunked"  # TRL's trainer takes bitsandbytes' optimiser as it is
    if not own or not run.full or run.optimizer != "adamw_8bit" or run.storage != 2:
        return 0.0
    largest = max(shape.vocab * shape.hidden, shape.experts * 2 * shape.hidden * shape.mlp)
    return 4.0 * (largest + max(largest, min(largest, _PIECE)))
