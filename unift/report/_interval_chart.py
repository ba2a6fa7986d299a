"""Differences with their confidence intervals, and the line where there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from unift.report import _svg as svg
from unift.report._format import change, tick

_CHARACTER = 7.6  # width of a digit of the figures, as browsers draw it


def interval_chart(
    comparisons: Sequence[Mapping[str, Any]], *, title: str, width: int, id: str
) -> Markup:
    """One line for each comparison (keys b, difference, low, high, scale), as inline SVG.

    Returns an empty string when there is no comparison.
    """
    if not comparisons:
        return Markup("")
    share = all(one.get("scale", 1) == 1 for one in comparisons)
    factor = 100.0 if share else 1.0
    wide = width > 500
    left, right, row, top = (190.0, 170.0, 40.0, 16.0) if wide else (16.0, 16.0, 62.0, 8.0)
    if wide:  # room for the longest figures
        right = max(right, 20 + _CHARACTER * max(len(_figures(one, share)) for one in comparisons))
    ends = [factor * one[key] for one in comparisons for key in ("low", "high")] + [0.0]
    span = max(ends) - min(ends) or 1.0
    x = svg.Axis(min(ends) - span * 0.06, max(ends) + span * 0.06, left, width - right)
    bottom = top + row * len(comparisons)
    parts: list[Markup] = []
    for value in svg.ticks(x.low, x.high, 6 if wide else 4):
        parts.append(svg.line(x.at(value), top, x.at(value), bottom, "grid"))
        parts.append(svg.text(x.at(value), bottom + 18, tick(value), "tick", "middle"))
    parts.append(svg.line(x.at(0), top, x.at(0), bottom, "zero"))
    for i, one in enumerate(comparisons):
        parts += _row(one, x, top + row * i, row, factor, share, width)
    unit = "Difference in percentage points" if share else "Difference"
    caption = f"{unit} — left of 0: worse, right: better" if wide else unit
    parts.append(svg.text((x.start + x.end) / 2, bottom + 40, caption, "axis", "middle"))
    return svg.picture(
        parts, width, bottom + 48, id=id, title=title, about=" ".join(map(_told, comparisons))
    )


def _row(
    one: Mapping[str, Any],
    x: svg.Axis,
    top: float,
    height: float,
    factor: float,
    share: bool,
    width: int,
) -> list[Markup]:
    low, high, mid = (x.at(factor * one[key]) for key in ("low", "high", "difference"))
    found = "positive" if one["low"] > 0 else "negative" if one["high"] < 0 else "open"
    figures = _figures(one, share)
    name = shortened(f"vs {one['b']}", 26 if width > 500 else 24)
    if width > 500:
        y = top + height / 2
        labels = [
            svg.text(x.start - 14, y + 4, name, "label", "end"),
            svg.text(x.end + 14, y + 4, figures, "figure"),
        ]
    else:
        y = top + height - 18
        labels = [
            svg.text(x.start, top + 22, name, "label"),
            svg.text(x.end, top + 22, figures, "figure", "end"),
        ]
    return [
        *labels,
        svg.line(low, y, high, y, f"interval {found}"),
        svg.line(low, y - 5, low, y + 5, f"interval {found}"),
        svg.line(high, y - 5, high, y + 5, f"interval {found}"),
        svg.element("circle", cx=mid, cy=y, r=5, class_=f"point {found}"),
    ]


def _figures(one: Mapping[str, Any], share: bool) -> str:
    return (
        f"{change(one['difference'], share)} "
        f"({change(one['low'], share)} to {change(one['high'], share)})"
    )


def shortened(text: str, most: int) -> str:
    """At most `most` characters, the middle left out."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def _told(one: Mapping[str, Any]) -> str:
    share = one.get("scale", 1) == 1
    unit = " points" if share else ""
    return (
        f"Against {one['b']}: {change(one['difference'], share)}{unit}, interval "
        f"{change(one['low'], share)} to {change(one['high'], share)}."
    )
