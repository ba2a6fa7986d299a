"""Rows -> micro-batches, without losing, cutting or mixing any of them.

Every optimiser step takes exactly `batch_size` rows. Packing only decides how those rows are laid
out for the forward passes of the step: best-fit-decreasing bins of at most `pack_length` tokens,
each row with positions of its own, so that the attention mask keeps rows apart. The sum of the
losses is divided by the trained tokens of the whole step. A packed run, an unpacked run and any
micro-batch size therefore follow the same gradients; only speed and memory differ.

TRL's own packing works on the data set instead: it makes the rows per step depend on their
lengths, and its ``bfd`` cuts rows longer than ``max_length``.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unift.errors import DataError


@dataclass(frozen=True)
class Row:
    """A tokenised row; `labels` is -100 where there is no loss."""

    input_ids: list[int]
    labels: list[int]

    @property
    def trained(self) -> int:
        """Tokens that carry loss; the first of a row never does, nothing predicts it."""
        return sum(label != -100 for label in self.labels[1:])


def make_rows(rendered: Sequence[Any]) -> list[Row]:
    """Rows with masked labels from `unift.data.rendering.Rendered`, one for each."""
    rows = [
        Row(
            list(one.input_ids),
            [
                token if wanted else -100
                for token, wanted in zip(one.input_ids, one.trained, strict=True)
            ],
        )
        for one in rendered
    ]
    empty = [number for number, row in enumerate(rows) if row.trained == 0]
    if empty:  # TRL would drop such rows without a word
        raise DataError(
            f"{len(empty)} rows carry no loss (the first is row {empty[0] + 1}).",
            code="empty_mask",
            fix="remove the rows, or give them an assistant answer",
        )
    return rows


def bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Best-fit-decreasing bin packing (Johnson 1974); a row longer than `capacity` gets its own.

    Returns the indices of the rows in each bin; each index occurs exactly once.
    """
    packed: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), sorted
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        at = bisect_left(free, (lengths[index], -1))
        if at < len(free):
            room, number = free.pop(at)
            packed[number].append(index)
        else:
            room, number = max(capacity, lengths[index]), len(packed)
            packed.append([index])
        insort(free, (room - lengths[index], number))
    return packed


class StepCollator:
    """Lays the rows of one optimiser step out as micro-batches.

    Args:
        collate: TRL's collator, padding-free when packing.
        micro_batch: Sequences per forward pass.
        pack_length: Tokens per packed sequence; None pads single rows instead.
    """

    def __init__(self, collate: Any, micro_batch: int, pack_length: int | None) -> None:
        self._collate = collate
        self._micro_batch = micro_batch
        self._pack_length = pack_length

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        if self._pack_length is not None:
            sequences = bins(lengths, self._pack_length)
        else:  # neighbours of like length waste the least padding
            sequences = [[i] for i in sorted(range(len(rows)), key=lambda i: (-lengths[i], i))]
        micro: list[dict[str, Any]] = []
        for start in range(0, len(sequences), self._micro_batch):
            group = [
                i for sequence in sequences[start : start + self._micro_batch] for i in sequence
            ]
            micro.append(self._collate([rows[i] for i in group]))
        trained = sum(sum(label != -100 for label in row["labels"][1:]) for row in rows)
        return {"micro_batches": micro, "tokens": sum(lengths), "trained": trained}
