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

import numpy as np
import torch

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
    return check_rows(
        [
            Row(
                list(one.input_ids),
                [
                    token if wanted else -100
                    for token, wanted in zip(one.input_ids, one.trained, strict=True)
                ],
            )
            for one in rendered
        ]
    )


def check_rows(rows: list[Row]) -> list[Row]:
    """The rows, if each of them carries loss; TRL would drop others without a word."""
    empty = [number for number, row in enumerate(rows) if row.trained == 0]
    if empty:
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


def even_bins(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """As few bins as `bins` makes, but filled alike where that needs no more of them.

    A last forward pass over a few tokens takes nearly as long as one over many.
    """
    packed = bins(lengths, capacity)
    even = -(-sum(lengths) // len(packed))
    for slack in (64, 16, 4):  # shares of a bin left free, the smallest first
        tried = bins(lengths, min(capacity, even + even // slack))
        if len(tried) == len(packed):
            return tried
    return packed


class StepCollator:
    """Lays the rows of one optimiser step out as micro-batches.

    Packed rows lie end to end in one sequence, (1, tokens), with the bounds of each for attention
    that keeps them apart; unpacked ones are padded to the longest, (rows, tokens).

    Args:
        pad: Token that fills what is not a row.
        micro_batch: Packs, or single rows, per forward pass.
        pack_length: Tokens per pack; None pads single rows instead.
        multiple: A pack's tokens are filled up to a multiple of this.
        longest: Tokens of the longest row there is: constant, where kernels are compiled for it.
        alike: All rows have one length, so that packs of them need no bounds: (rows, tokens), for
            the kernels of plain causal attention. Not decided pack by pack, for the sake of code
            that is compiled for one shape.
    """

    def __init__(
        self,
        pad: int,
        micro_batch: int,
        pack_length: int | None,
        multiple: int = 1,
        longest: int = 0,
        alike: bool = False,
    ) -> None:
        self._pad = pad
        self._micro_batch = micro_batch
        self._pack_length = pack_length
        self._multiple = multiple
        self._longest = longest
        self._alike = alike

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The micro-batches of a step, its tokens, and how many of them carry loss.

        Each micro-batch has ``trained_at``, places in the flattened sequence whose next token
        carries loss, and ``targets``, those tokens.
        """
        lengths = [len(row["input_ids"]) for row in rows]
        lay = self._padded if self._pack_length is None else self._packed
        micro = [lay([rows[i] for i in group]) for group in self.groups(lengths)]
        trained = sum(len(one["targets"]) for one in micro)
        return {"micro_batches": micro, "tokens": sum(lengths), "trained": trained}

    def groups(self, lengths: Sequence[int]) -> list[list[int]]:
        """Which rows of a step share a forward pass, by their lengths."""
        if self._pack_length is not None:
            return even_bins(lengths, self._pack_length * self._micro_batch)
        # Neighbours of like length waste the least padding.
        order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
        size = self._micro_batch
        return [order[start : start + size] for start in range(0, len(order), size)]

    def tokens(self, lengths: Sequence[int]) -> list[int]:
        """Tokens of each forward pass of a step, padding included."""
        each = [[lengths[i] for i in group] for group in self.groups(lengths)]
        if self._pack_length is None:
            return [max(group) * len(group) for group in each]
        return [sum(group) + -sum(group) % self._multiple for group in each]

    def most(self, lengths: Sequence[int]) -> int:
        """No pass of a step has more tokens than that; quickly told."""
        if self._pack_length is None:
            return max(lengths) * min(len(lengths), self._micro_batch)
        capacity = max(self._pack_length * self._micro_batch, *lengths)
        return min(sum(lengths), capacity) + self._multiple

    def _packed(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        if self._alike and len(set(lengths)) == 1:
            whole = self._padded(rows)
            del whole["attention_mask"]  # nothing is padded
            return whole
        filler = -sum(lengths) % self._multiple
        ids = np.concatenate(
            [*(np.asarray(row["input_ids"]) for row in rows), np.full(filler, self._pad)]
        )
        labels = np.concatenate(
            [*(np.asarray(row["labels"]) for row in rows), np.full(filler, -100)]
        )
        documents = [*lengths, filler] if filler else lengths
        positions = np.concatenate([np.arange(length) for length in documents])
        labels[positions == 0] = -100  # nothing predicts the first token of a row
        bounds = np.concatenate([[0], np.cumsum(documents)])
        if self._multiple > 1:  # few different numbers of documents: empty ones fill up
            bounds = np.pad(bounds, (0, -(len(bounds) - 1) % 16), mode="edge")
        cu = torch.from_numpy(bounds.astype(np.int32))
        longest = max(self._longest, *documents)
        return {
            "input_ids": torch.from_numpy(ids.astype(np.int64))[None],
            "position_ids": torch.from_numpy(positions.astype(np.int64))[None],
            "labels": torch.from_numpy(labels.astype(np.int64))[None],
            "cu_seq_lens_q": cu,
            "cu_seq_lens_k": cu,
            "max_length_q": longest,
            "max_length_k": longest,
            **_trained(labels[None]),
        }

    def _padded(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        width = max(len(row["input_ids"]) for row in rows)
        ids = np.full((len(rows), width), self._pad)
        labels = np.full((len(rows), width), -100)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        for number, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[number, :length] = row["input_ids"]
            labels[number, :length] = row["labels"]
            mask[number, :length] = 1
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(mask),
            "labels": torch.from_numpy(labels),
            **_trained(labels),
        }


def _trained(labels: np.ndarray[Any, Any]) -> dict[str, torch.Tensor]:
    """Where the next token carries loss, and which it is."""
    wanted = np.full_like(labels, -100)
    wanted[:, :-1] = labels[:, 1:]
    flat = wanted.reshape(-1)
    at = np.flatnonzero(flat != -100)
    return {"trained_at": torch.from_numpy(at), "targets": torch.from_numpy(flat[at])}
