"""The table of finding codes. What a code means never changes; ``codes.toml`` holds the words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

Severity = Literal["error", "warning", "advice"]


@dataclass(frozen=True, slots=True)
class Code:
    """One kind of finding.

    Attributes:
        code: Stable name, ``UD`` and three digits; the first digit is the theme.
        severity: How bad it is for everybody.
        refused_by: Providers for which it is an error although it is not one in general.
        reason: Why it matters, in a sentence or two.
        example: A row or a fragment that has the fault.
        fix: What to do about it.
        mended: True if ``--fix`` mends it, where that needs no decision.
        once: Told once a file and key, where it is first seen; one such key is in every row.
    """

    code: str
    title: str
    severity: Severity
    reason: str
    example: str
    fix: str
    refused_by: tuple[str, ...] = ()
    mended: bool = False
    once: bool = False


@cache
def codes() -> Mapping[str, Code]:
    """Every code, in order. Read from the package on first use, because most files are clean."""
    import tomllib

    text = (Path(__file__).parent / "codes.toml").read_text(encoding="utf-8")
    table: dict[str, Code] = {}
    for name, entry in sorted(tomllib.loads(text).items()):
        fields: dict[str, Any] = {**entry, "refused_by": tuple(entry.get("refused_by", ()))}
        table[name] = Code(code=name, **fields)
    return MappingProxyType(table)


def explain(code: str) -> Code:
    """What a code means. KeyError for a code that does not exist."""
    return codes()[code]
