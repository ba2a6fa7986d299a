"""How often a model was right, by how sure it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from unift.report import _svg as svg


def reliability_chart(
    bins: Sequence[Mapping[str, Any]], *, name: str, width: int, id: str
) -> Markup:
    """A point for each bin (keys n, confidence, accuracy) over the line of a model that is as right
    as it is sure, as inline SVG."""
    side = min(float(width) - 90, 300.0)
    x = svg.Axis(0, 1, 60, 60 + side)
    y = svg.Axis(0, 1, 16 + side, 16)
    parts: list[Markup] = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(svg.line(x.at(value), y.at(0), x.at(value), y.at(1), "grid"))
        parts.append(svg.line(x.at(0), y.at(value), x.at(1), y.at(value), "grid"))
        parts.append(svg.text(x.at(value), y.at(0) + 18, f"{value:.0%}", "tick", "middle"))
        parts.append(svg.text(x.at(0) - 8, y.at(value) + 4, f"{value:.0%}", "tick", "end"))
    parts.append(svg.line(x.at(0), y.at(0), x.at(1), y.at(1), "zero"))
    total = sum(one["n"] for one in bins)
    for one in bins:
        radius = 3 + 9 * (one["n"] / total) ** 0.5  # the area says how many rows
        parts.append(
            svg.element(
                "circle", cx=x.at(one["confidence"]), cy=y.at(one["accuracy"]), r=radius,
                class_="dot",
            )
        )  # fmt: skip
    parts.append(svg.text(x.at(0.5), y.at(0) + 40, "How sure (across), how often right (up)",
                          "axis", "middle"))  # fmt: skip
    told = " ".join(
        f"{one['n']} answers of {one['confidence']:.0%} confidence are right in "
        f"{one['accuracy']:.0%}."
        for one in bins
    )
    return svg.picture(
        parts, width, y.at(0) + 48, id=id, title=f"Reliability of {name}", about=told
    )
