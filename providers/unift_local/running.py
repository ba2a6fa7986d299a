"""Rows that are answered together, one token a step, and that join and leave between two steps.

Keys and values of all rows lie in one tensor a layer, padded on the left to the longest. A row that
joins is padded, or the others are; a row that leaves is taken out, and padding that nobody needs
any more with it. Padding is masked, so it adds exact zeros and an answer does not depend on who
else is in the batch (beyond the rounding of a matrix product of another size).

A model whose cache is more than plain keys and values (sliding windows, state spaces) cannot be
padded later: `Group.mergeable` is False, rows that joined together stay a group of their own, and
the groups take turns.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from unift_local.answering import Answer, take


class Forward:
    """One pass of a model, whatever its version calls things.

    `transformers` renamed ``past_key_values`` to ``cache`` within version 5, and not every model
    takes position ids (ALiBi needs none).
    """

    def __init__(self, model: Any, config: Any) -> None:
        names = inspect.signature(type(model).forward).parameters
        self._cache = "cache" if "cache" in names else "past_key_values"
        self._positions = "position_ids" in names
        self._keep = "logits_to_keep" in names
        self.config = config

    def __call__(
        self, model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any, names: list[str] | None
    ) -> torch.Tensor:
        """Scores of the next token, rows x vocabulary. `names`: the adapter of every row."""
        given: dict[str, Any] = {self._cache: cache}
        if self._positions:
            places = (mask.long().cumsum(-1) - 1).clamp_min(0)
            given["position_ids"] = places[:, -ids.shape[1] :]
        if self._keep:
            given["logits_to_keep"] = 1
        if names is not None:
            given["adapter_names"] = names
        found = model(input_ids=ids, attention_mask=mask, use_cache=True, **given)
        return found.logits[:, -1, :]


class Group:
    """Rows with one cache. Made from rows whose prompts are read now."""

    def __init__(
        self, rows: Sequence[Answer], model: Any, forward: Forward, pad_id: int, mixed: bool
    ) -> None:
        self.rows = list(rows)
        self._forward = forward
        width = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
        self.mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
            self.mask[i, width - len(row.prompt) :] = 1
        ids, self.mask = ids.to(model.device), self.mask.to(model.device)
        self.cache: Any = DynamicCache(config=forward.config)
        take(self.rows, forward(model, ids, self.mask, self.cache, self._names(mixed)))

    @property
    def mergeable(self) -> bool:
        """Whether every layer keeps plain keys and values."""
        return all(type(layer) is DynamicLayer for layer in self.cache.layers)

    def step(self, model: Any, mixed: bool) -> None:
        """One more token for every row."""
        last = torch.tensor([[row.last] for row in self.rows], device=self.mask.device)
        self.mask = pad(self.mask, (0, 1), value=1)
        scores = self._forward(model, last, self.mask, self.cache, self._names(mixed))
        if self.mergeable:
            take(self.rows, scores)
            return
        alive = [
            i for i, row in enumerate(self.rows) if not row.done
        ]  # the others stay until all end
        take([self.rows[i] for i in alive], scores[alive])

    def drop_finished(self) -> None:
        """Let go of rows that are done. A group that cannot shrink keeps their places."""
        if all(row.done for row in self.rows):
            self.rows = []
        if not self.rows or not self.mergeable or not any(row.done for row in self.rows):
            return
        keep = [i for i, row in enumerate(self.rows) if not row.done]
        self.rows = [self.rows[i] for i in keep]
        places = torch.tensor(keep, device=self.mask.device)
        self.mask = self.mask[places]
        idle = int(self.mask.argmax(dim=1).min())  # columns that are padding for everybody
        self.mask = self.mask[:, idle:]
        for layer in self.cache.layers:
            layer.keys = layer.keys[places, :, idle:]
            layer.values = layer.values[places, :, idle:]

    def merge(self, other: Group) -> None:
        """Take the rows of another group in."""
        here, there = self.mask.shape[1], other.mask.shape[1]
        width = max(here, there)
        self.mask = torch.cat(
            [pad(self.mask, (width - here, 0)), pad(other.mask, (width - there, 0))]
        )
        for mine, theirs in zip(self.cache.layers, other.cache.layers, strict=True):
            for name in ("keys", "values"):
                both = [
                    pad(getattr(layer, name), (0, 0, width - wide, 0))
                    for layer, wide in ((mine, here), (theirs, there))
                ]
                setattr(mine, name, torch.cat(both))
        self.rows += other.rows

    def _names(self, mixed: bool) -> list[str] | None:
        return [row.adapter for row in self.rows] if mixed else None


class Batch:
    """Everybody who is being answered by one model."""

    def __init__(self, forward: Forward, pad_id: int) -> None:
        self._forward = forward
        self._pad = pad_id
        self._groups: list[Group] = []
        self._joining: list[Answer] = []

    @property
    def rows(self) -> list[Answer]:
        """Those included that join at the next step."""
        return [*(row for group in self._groups for row in group.rows), *self._joining]

    @property
    def open(self) -> bool:
        """Whether a row that joins now will become one with the others."""
        return all(group.mergeable for group in self._groups)

    def join(self, row: Answer) -> None:
        self._joining.append(row)

    def clear(self) -> None:
        """Forget every row."""
        self._groups, self._joining = [], []

    def step(self, model: Any, mixed: bool = False) -> None:
        """One token for every row; new ones have their prompts read first.

        Args:
            model: Who answers.
            mixed: Whether every row names the adapter that answers it.
        """
        for group in self._groups:
            group.step(model, mixed)
            group.drop_finished()
        if self._joining:
            rows, self._joining = self._joining, []
            new = Group(rows, model, self._forward, self._pad, mixed)
            new.drop_finished()
            self._groups.append(new)
        self._groups = [group for group in self._groups if group.rows]
        if self.open:
            for group in self._groups[1:]:
                self._groups[0].merge(group)
            del self._groups[1:]
