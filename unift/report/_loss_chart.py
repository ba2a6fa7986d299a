"""Loss over steps: training, validation, the best checkpoint, where it stopped, learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from unift.report import _svg as svg
from unift.report._curves import Curve, Curves
from unift.report._format import tick

# More points than this cannot be told apart on paper; neighbours are averaged.
_MOST_POINTS = 300
# Dots that would touch each other are left out.
_MOST_DOTS = 60
_RATE_HEIGHT = 64.0


def loss_chart(curves: Curves, *, width: int, id: str) -> Markup:
    """The chart as inline SVG, `width` user units wide (one unit is a CSS pixel at full size).

    Returns an empty string when there is nothing to draw.
    """
    train = thinned(_finite(curves.train))
    held_out = thinned(_finite(curves.validation))
    if len(train) + len(held_out) < 2:
        return Markup("")
    left, right, top, plot = 52.0, 16.0, 34.0, 250.0 if width > 500 else 220.0
    rate = thinned(_finite(curves.rate))
    steps = [step for step, _ in (*train, *held_out)]
    x = svg.Axis(0, max(steps), left, width - right)
    values = [value for _, value in (*train, *held_out)]
    low, high = min(values), max(values)
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    y = svg.Axis(
        max(0.0, low - margin) if low >= 0 else low - margin, high + margin, top + plot, top
    )
    parts = [*_frame(x, y, width), *_legend(left, width, bool(train), bool(held_out))]
    parts.append(svg.path([(x.at(s), y.at(v)) for s, v in train], "curve train"))
    parts.append(svg.path([(x.at(s), y.at(v)) for s, v in held_out], "curve held-out"))
    for step, value in held_out if len(held_out) <= _MOST_DOTS else ():
        parts.append(svg.element("circle", cx=x.at(step), cy=y.at(value), r=3, class_="dot"))
    parts += _marks(curves, x, y, width)
    bottom = top + plot
    if rate:
        parts += _rate(rate, x, bottom + 38, width)
        bottom += 38 + _RATE_HEIGHT
    parts += _steps(x, bottom, width)
    about = _told(curves, train, held_out)
    return svg.picture(
        parts, width, bottom + 44, id=id, title="Loss over training steps", about=about
    )


def _finite(curve: Curve) -> Curve:
    return tuple(point for point in curve if math.isfinite(point[1]))


def thinned(curve: Curve, most: int = _MOST_POINTS) -> Curve:
    """At most `most` points, each the mean of its neighbours; first and last step stay."""
    if len(curve) <= most:
        return curve
    size = math.ceil(len(curve) / most)
    groups = [curve[i : i + size] for i in range(0, len(curve), size)]
    return tuple((group[-1][0], sum(v for _, v in group) / len(group)) for group in groups)


def _frame(x: svg.Axis, y: svg.Axis, width: int) -> list[Markup]:
    parts: list[Markup] = []
    for value in svg.ticks(y.low, y.high, 5):
        parts.append(svg.line(x.start, y.at(value), x.end, y.at(value), "grid"))
        parts.append(svg.text(x.start - 8, y.at(value) + 4, tick(value), "tick", "end"))
    parts.append(svg.text(12 if width > 500 else 4, y.end - 14, "Loss", "axis"))
    return parts


def _steps(x: svg.Axis, bottom: float, width: int) -> list[Markup]:
    parts = [svg.line(x.start, bottom, x.end, bottom, "base")]
    for value in svg.ticks(x.low, x.high, 6 if width > 500 else 4):
        if value == int(value):
            parts.append(svg.text(x.at(value), bottom + 18, tick(value), "tick", "middle"))
    parts.append(svg.text((x.start + x.end) / 2, bottom + 38, "Optimiser step", "axis", "middle"))
    return parts


def _legend(left: float, width: int, train: bool, held_out: bool) -> list[Markup]:
    parts: list[Markup] = []
    at = left + 8
    for shown, name, class_ in ((train, "Training", "train"), (held_out, "Validation", "held-out")):
        if shown:
            parts.append(svg.path([(at, 16), (at + 22, 16)], f"curve {class_}"))
            parts.append(svg.text(at + 28, 20, name, "label"))
            at += 112
    return parts


def _marks(curves: Curves, x: svg.Axis, y: svg.Axis, width: int) -> list[Markup]:
    parts: list[Markup] = []
    best, last = curves.best_step, curves.last_step
    lowest = dict(curves.validation).get(best) if best is not None else None
    if best is not None and lowest is not None and math.isfinite(lowest):
        parts.append(svg.line(x.at(best), y.end, x.at(best), y.start, "mark best"))
        parts.append(svg.element("circle", cx=x.at(best), cy=y.at(lowest), r=6, class_="best-dot"))
        side, shift = ("end", -8.0) if x.at(best) > width * 0.6 else ("start", 8.0)
        label = f"best: {lowest:.3g} at step {best}"
        # Above the curve where there is room: late in training the losses are low.
        parts.append(svg.text(x.at(best) + shift, y.end + 14, label, "note", side))
    stopped = last is not None and curves.total_steps and last < curves.total_steps
    if stopped and last is not None:
        parts.append(svg.line(x.at(last), y.end, x.at(last), y.start, "mark stop"))
        label = f"stopped early at {last} of {curves.total_steps}"
        parts.append(svg.text(x.at(last) - 8, y.end + 32, label, "note", "end"))
    return parts


def _rate(rate: Sequence[tuple[int, float]], x: svg.Axis, top: float, width: int) -> list[Markup]:
    highest = max(value for _, value in rate)
    y = svg.Axis(0, highest * 1.1 or 1.0, top + _RATE_HEIGHT, top)
    return [
        svg.line(x.start, y.at(highest), x.end, y.at(highest), "grid"),
        svg.text(x.start - 8, y.at(highest) + 4, tick(float(f"{highest:.2g}")), "tick", "end"),
        svg.text(x.start - 8, y.start, "0", "tick", "end"),
        svg.text(12 if width > 500 else 4, top - 12, "Learning rate", "axis"),
        svg.path([(x.at(s), y.at(v)) for s, v in rate], "curve rate"),
    ]


def _told(curves: Curves, train: Curve, held_out: Curve) -> str:
    said: list[str] = []
    if train:
        said.append(f"Training loss went from {train[0][1]:.3g} to {train[-1][1]:.3g}.")
    if held_out:
        said.append(
            f"Validation loss went from {held_out[0][1]:.3g} to {held_out[-1][1]:.3g}, lowest at "
            f"step {curves.best_step}."
        )
    return " ".join(said)
