"""The rows of a block that passed the fast way, and what makes two rows the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt

from unift.data._shapes import INSTRUCT, Messages

_ODD, _ALL_BITS = 0x9E3779B97F4A7C15, (1 << 64) - 1

Places = npt.NDArray[np.int64]


@dataclass
class PlainRows:
    """The rows of a block without any fault.

    Attributes:
        lines: Index of each in the block.
        rows: Messages of each.
        roles: Roles of each.
        texts: Texts of all of them, one after the other.
        width: Messages of each row, if all rows have the same roles; else 0.
        system: The system prompt of all rows, if that is known to be one.
        ascii: True if no text has a letter beyond ASCII; False if that is not known.
        notes: Keys of notes beside the conversations (`_notes`), which some rows have.
        noted: The first of these rows, by its index in the block.
    """

    lines: Sequence[int] = ()
    rows: list[Messages] = field(default_factory=list["Messages"])
    roles: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    texts: list[str] = field(default_factory=list[str])
    width: int = 0
    system: str | None = None
    ascii: bool = False
    notes: tuple[str, ...] = ()
    noted: int = 0

    @cached_property
    def lengths(self) -> Places:
        """Characters of each text."""
        if self.system is None:
            return np.fromiter(map(len, self.texts), np.int64, len(self.texts))
        found = np.empty((len(self.rows), self.width), np.int64)
        found[:, 0] = len(self.system)
        for at in range(1, self.width):
            found[:, at] = np.fromiter(map(len, self.texts[at :: self.width]), np.int64)
        return found.ravel()

    def answers(self) -> list[str]:
        """The last text of each row."""
        if self.width:
            return self.texts[self.width - 1 :: self.width]
        return [messages[-1].content for messages in self.rows]

    @cached_property
    def systems(self) -> list[str]:
        """The system prompt of each row, empty if it has none; only one if all are alike."""
        if self.system is not None:
            return [self.system]
        if not self.width:
            return [
                messages[0].content if type(messages[0]) in INSTRUCT else ""
                for messages in self.rows
            ]
        if self.roles[0][0] not in ("system", "developer"):
            return [""]
        first = self.texts[:: self.width]
        # A comparison is cheaper than a hash.
        return first[:1] if first.count(first[0]) == len(first) else first

    def identities(self) -> tuple[Places, Places]:
        """(hash of the prompt, hash of the answer) of each row; see `identity`."""
        if self.width:
            prompts = np.zeros(len(self.rows), np.uint64)
            for column, role in enumerate(self.roles[0][:-1]):
                alike = not column and len(self.systems) == 1 and self.systems[0]
                said = self.systems if alike else self.texts[column :: self.width]
                prompts = (prompts + _hashes(said) + _role_number(role)) * _ODD
            return prompts.view(np.int64), _hashes(self.answers()).view(np.int64)
        hashes = _hashes(self.texts)
        prompts = np.empty(len(self.rows), np.uint64)
        ends = np.cumsum(self.sizes())
        said = hashes.tolist()
        at = 0
        for index, (roles, end) in enumerate(zip(self.roles, ends.tolist(), strict=True)):
            prompts[index] = _mixed(roles, said[at : end - 1])
            at = end
        return prompts.view(np.int64), hashes[ends - 1].view(np.int64)

    def sizes(self) -> Places:
        """Texts of each row."""
        if self.width:
            return np.full(len(self.rows), self.width)
        return np.fromiter(map(len, self.rows), np.int64, len(self.rows))


def _hashes(texts: Sequence[str]) -> npt.NDArray[np.uint64]:
    return np.fromiter(map(hash, texts), np.int64, len(texts)).view(np.uint64)


def identity(roles: Sequence[str], texts: Sequence[str], extra: str) -> tuple[int, int]:
    """Hashes of the prompt and of the answer of a row, whatever way it went.

    They are Python's own of each text (SipHash, keyed anew in each process), those of the prompt
    mixed with the roles by multiplication modulo 2**64 (Horner), and signed at last.
    """
    said = [hash(text) for text in texts[: len(roles) - 1]]
    prompt = _mixed(roles, said)
    if extra:
        prompt = (prompt + hash(extra) + 1) * _ODD & _ALL_BITS
    return prompt - (prompt >> 63 << 64), hash(texts[-1])


def _mixed(roles: Sequence[str], hashes: Sequence[int]) -> int:
    prompt = 0
    for role, each in zip(roles[:-1], hashes, strict=False):
        prompt = (prompt + each + _role_number(role)) * _ODD & _ALL_BITS
    return prompt


@cache
def _role_number(role: str) -> int:
    return hash((role,)) & _ALL_BITS
