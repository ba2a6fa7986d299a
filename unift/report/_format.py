"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import Any

_MINUS = "−"
_DASH = "–"


def score(value: float | None, share: bool) -> str:
    """A mean score: ``92.0%`` for a share, else three significant digits."""
    if value is None:
        return _DASH
    return f"{value * 100:.1f}%" if share else f"{value:.3g}".replace("-", _MINUS)


def change(value: float, share: bool) -> str:
    """A signed difference: percentage points for a share."""
    text = f"{value * 100:+.1f}" if share else f"{value:+.3g}"
    return text.replace("-", _MINUS)


def p_value(value: float) -> str:
    """A p-value with at most three decimals; ``< 0.001`` below that."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def plain(value: Any) -> str:
    """A setting's value: lists joined, numbers without noise, yes and no."""
    if value is None:
        return _DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:.6g}".replace("-", _MINUS) if value < 0 else f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]  # any JSON
    return str(value)


def tick(value: float) -> str:
    """An axis label."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e5:
        text = f"{value:.1e}".replace("e-0", "e-").replace("e+0", "e").replace(".0e", "e")
        return text.replace("-", _MINUS)
    return f"{value:.6g}".replace("-", _MINUS)
