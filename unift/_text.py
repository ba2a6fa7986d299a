"""Small helpers for words shown to people."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
