"""Guards against failures that are silent, and words for those that are not."""

from __future__ import annotations

import errno
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unift.errors import RunError, UniftError
from unift.provider import Failure

_DISK_ERRNO = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DISK_WORDS = ("no space left", "disk quota", "file too large", "os error 28", "os error 27")
#: How torch and safetensors report a short write when they swallow the errno.
_WRITE_WORDS = ("pytorchstreamwriter failed", "file write failed", "unexpected pos")
_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "cublas_status_alloc_failed",
)
_GIB = 2**30


class NotFinite(RunError):
    """The loss or the gradient became infinite or not a number; going on would be pointless."""

    default_code = "loss_not_finite"


def keep_four_bit_exact(model: Any) -> int:
    """Keep 4-bit layers on the exact path of bitsandbytes; how many were found.

    On CPUs with AVX512-BF16 bitsandbytes 0.50 repacks the weights at the first forward pass in
    eval mode and from then on computes without a gradient for the activations: half of the adapter
    gradients are None, with a loss that looks normal (measured 2026-11-24: 44 of 88). The repacking
    also fails for shapes that are no multiple of 64. The path is chosen by this attribute.
    """
    from bitsandbytes.nn.modules import Linear4bit

    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def check_finite(value: float, what: str, step: int, learning_rate: float) -> None:
    """Raise `NotFinite` for a loss or gradient norm that is inf or nan."""
    if not math.isfinite(value):
        raise NotFinite(
            f"The {what} became {value} at step {step} (peak learning rate {learning_rate:g}): the "
            "training diverged.",
            where=f"step {step}",
            fix=f"train again with a learning rate about 10 times lower ({learning_rate / 10:g}), "
            "or longer warm-up; if it stays, look for broken rows near this step",
        )


def explain(error: BaseException, log: Path, checkpoint_bytes: int) -> tuple[Failure, bool]:
    """An exception that ended a run, in words, and whether resuming can help."""
    chain = list(_chain(error))
    for one in chain:
        if isinstance(one, NotFinite):
            return Failure(**one.as_dict()), False
        if isinstance(one, UniftError):
            return Failure(**one.as_dict()), one.code == "model_download_failed"
    if is_memory(error):
        return _memory(error), True
    if any(_is_disk(one, log, checkpoint_bytes) for one in chain):
        free = shutil.disk_usage(log.parent).free
        need = max(checkpoint_bytes - free, checkpoint_bytes)
        return (
            Failure(
                code="disk_full",
                message=f"A file could not be written: {error}. {free / _GIB:.2f} GiB are free, a "
                f"checkpoint needs about {checkpoint_bytes / _GIB:.2f} GiB.",
                where=str(log.parent),
                fix=f"free at least {need / _GIB:.2f} GiB there (and check quotas and file size "
                "limits), then resume the run; it goes on from its last complete checkpoint",
            ),
            True,
        )
    return (
        Failure(
            code="worker_crashed",
            message=f"The training process stopped with {type(error).__name__}: {error}",
            where=str(log),
            fix="read the end of that log; resume the run if the cause was outside it",
        ),
        True,
    )


def is_memory(error: BaseException) -> bool:
    """Whether an exception, or what caused it, says that there was not enough memory."""
    return any(_is_memory(one) for one in _chain(error))


def _memory(error: BaseException) -> Failure:
    return Failure(
        code="out_of_memory",
        message=f"There was not enough memory: {str(error).splitlines()[0] if str(error) else ''}",
        where="memory",
        fix="train again with a smaller micro_batch or pack_length, gradient_checkpointing on, a "
        "smaller max_length, or local-qlora; if another process held the memory, end it and resume",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _MEMORY_WORDS)


def _is_disk(error: BaseException, log: Path, checkpoint_bytes: int) -> bool:
    if isinstance(error, OSError) and error.errno in _DISK_ERRNO:
        return True
    text = str(error).lower()
    if any(word in text for word in _DISK_WORDS):
        return True
    short = shutil.disk_usage(log.parent).free < checkpoint_bytes
    return short and any(word in text for word in _WRITE_WORDS)
