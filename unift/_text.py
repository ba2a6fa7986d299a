"""Small helpers for words shown to people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def dollars(value: float | None, unknown: str = "-") -> str:
    """An amount of US dollars: whole cents, and four digits below one cent."""
    if value is None:
        return unknown
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.4f}"


def duration(seconds: float | None, unknown: str = "-") -> str:
    """``42 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds is None:
        return unknown
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name closest to a mistyped one, or None when nothing is close."""
    candidates = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(candidates), n=1, cutoff=0.5)
    return candidates[found[0]] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence for the `fix` of an unknown name: the nearest one, then all of them."""
    names = sorted(known)
    close = nearest(word, names)
    listing = ", ".join(names) if names else "none"
    return f"did you mean '{close}'? Known: {listing}" if close else f"known: {listing}"
