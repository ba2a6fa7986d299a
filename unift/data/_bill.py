"""Tokens that a vendor charges for, counted as it counts (`unift.catalog`, billing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unift.data._lengths import Lengths
from unift.data._limits import Limits
from unift.errors import UniftError


@dataclass(frozen=True, slots=True)
class Bill:
    """What one vendor charges a training for.

    Attributes:
        epochs: Passes over the data.
        epoch_tokens: Training tokens of one pass.
        training_tokens: Of all passes.
        validation_tokens: Of all evaluations; 0 where they are free.
        minimum_usd: Least charge of a job, US dollars; 0 for none.
        rule: How the vendor counts, in words.
        notes: What was assumed, and what of it does not follow from the file.
        source: Where the rule is from, and of when.
    """

    epochs: float
    epoch_tokens: int
    training_tokens: int
    validation_tokens: int
    minimum_usd: float
    rule: str
    notes: tuple[str, ...]
    source: str

    @property
    def tokens(self) -> int:
        """Everything that is charged for."""
        return self.training_tokens + self.validation_tokens

    def as_dict(self) -> dict[str, Any]:
        """As the ``--json`` document has it."""
        return {
            "epochs": self.epochs,
            "epoch_tokens": self.epoch_tokens,
            "training_tokens": self.training_tokens,
            "validation_tokens": self.validation_tokens,
            "tokens": self.tokens,
            "minimum_usd": self.minimum_usd,
            "rule": self.rule,
            "notes": list(self.notes),
            "source": self.source,
        }


def bill(
    provider: str,
    limits: Limits,
    training: Lengths,
    validation: Lengths | None,
    *,
    epochs: float,
    max_length: int | None,
) -> Bill | None:
    """The bill of a training; None if the catalogue has no rule, or nobody charges.

    Args:
        training: Lengths of the rows to learn.
        validation: Lengths of the held-out rows.
        epochs: Passes over the data.
        max_length: Tokens that a row may have; some vendors charge it for every row.
    """
    from unift import catalog

    if not training.count or limits.family == "local":
        return None
    try:
        rule = catalog.vendor(provider).billing
    except UniftError:  # a plug-in; the catalogue does not know it
        return None
    if rule is None:
        return None
    notes: list[str] = []
    longest = limits.max_tokens if limits.too_long == "cut" else None
    each = training.within(longest)
    if each < training.total:
        notes.append(f"what is cut off beyond {longest:,} tokens a row is not charged")
    if rule.unpacked_rows_billed_at_max_length:
        if max_length is None:
            notes.append("with packing; without it every row counts max_length tokens")
        else:
            each = training.count * max_length
            notes.append(f"without packing: every row counts {max_length:,} tokens")
    checked = 0
    if validation is not None and validation.count:
        if rule.validation == "free":
            notes.append(f"{validation.within(longest):,} validation tokens are free")
        else:
            checked = round(validation.within(longest) * epochs)
            notes.append("validation tokens are charged for every evaluation: one an epoch here")
    if rule.minimum_usd:
        notes.append(f"a job costs at least ${rule.minimum_usd:.2f}")
    if rule.hosting_unpriced:
        notes.append("hosting comes on top")
    return Bill(
        epochs=epochs,
        epoch_tokens=each,
        training_tokens=round(each * epochs),
        validation_tokens=checked,
        minimum_usd=rule.minimum_usd,
        rule=rule.rule,
        notes=tuple(notes),
        source=f"{', '.join(rule.fact.source)}; {rule.fact.as_of}",
    )
