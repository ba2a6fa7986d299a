"""Draws the losses of `same_end.py`: ``python curves.py SAME_END.jsonl OUT.svg``.

Above, the training loss of every path from one seed, laid over each other; below, by how much each
differs from the plain path, as a share of that path's own loss: both are means over 20 steps, since
single steps differ by their rows. Validation losses of all seeds are listed beside. The figures
behind the picture are written to OUT.json.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

WINDOW = 20
#: Path -> (name, colour, dashes); drawn in this order, so that later ones lie on top.
PATHS = {
    "unsloth": ("Unsloth", "#888888", ""),
    "trl": ("TRL as it comes", "#d55e00", ""),
    "trl tuned": ("TRL tuned", "#e69f00", "7 3"),
    "plain": ("unift, plain path", "#0072b2", ""),
    "fast": ("unift, fast path", "#009e73", "3 3"),
}
WIDTH, LEFT, RIGHT = 860, 70, 20
UPPER, LOWER = (40, 330), (390, 560)  # top and bottom of each panel


def means(losses: list[float]) -> list[tuple[int, float]]:
    """(step, mean of the steps up to it) every five steps."""
    ends = range(WINDOW, len(losses) + 1, 5)
    return [(end, sum(losses[end - WINDOW : end]) / WINDOW) for end in ends]


def line(points: list[tuple[float, float]], colour: str, dashes: str) -> str:
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 13) -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}">{words}</text>'


def draw(found: dict[str, list[float]], title: str) -> str:
    """The picture, as SVG."""
    curves = {name: means(found[name]) for name in PATHS if name in found}
    steps = max(step for curve in curves.values() for step, _ in curve)
    values = [value for curve in curves.values() for _, value in curve]
    low, high = math.log10(min(values)) - 0.05, math.log10(max(values)) + 0.05

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps

    def up(value: float) -> float:
        return UPPER[1] - (math.log10(value) - low) / (high - low) * (UPPER[1] - UPPER[0])

    plain = dict(curves["plain"])
    shares = {
        name: [(s, v / plain[s] - 1) for s, v in curve if s in plain]
        for name, curve in curves.items()
    }
    widest = max(abs(v) for curve in shares.values() for _, v in curve) * 1.1 or 1.0

    def down(share: float) -> float:
        return (LOWER[0] + LOWER[1]) / 2 - share / widest * (LOWER[1] - LOWER[0]) / 2

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 610" '
        'font-family="sans-serif" fill="#222">',
        f'<rect width="{WIDTH}" height="610" fill="white"/>',
        text(LEFT, 24, title, size=15),
    ]
    for top, bottom in (UPPER, LOWER):
        box = f'x="{LEFT}" y="{top}" width="{WIDTH - LEFT - RIGHT}" height="{bottom - top}"'
        parts.append(f'<rect {box} fill="none" stroke="#bbb"/>')
    for value in (5, 2, 1, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01):
        if low <= math.log10(value) <= high:
            parts.append(line([(LEFT, up(value)), (WIDTH - RIGHT, up(value))], "#eee", ""))
            parts.append(text(LEFT - 8, up(value) + 4, f"{value:g}", "end"))
    for share in (-widest / 1.1, 0.0, widest / 1.1):
        parts.append(line([(LEFT, down(share)), (WIDTH - RIGHT, down(share))], "#eee", ""))
        parts.append(text(LEFT - 8, down(share) + 4, f"{share:+.1%}", "end"))
    for step in range(0, steps + 1, 50):
        parts.append(text(x(step), LOWER[1] + 18, str(step), "middle"))
    parts.append(text((LEFT + WIDTH) / 2, LOWER[1] + 40, "step", "middle"))
    parts.append(text(LEFT, LOWER[0] - 12, "difference from the plain path, of its loss"))
    for number, (name, curve) in enumerate(curves.items()):
        label, colour, dashes = PATHS[name]
        parts.append(line([(x(s), up(v)) for s, v in curve], colour, dashes))
        parts.append(line([(x(s), down(v)) for s, v in shares[name]], colour, dashes))
        at = UPPER[0] + 22 + 20 * number
        parts.append(line([(WIDTH - 240, at - 4), (WIDTH - 205, at - 4)], colour, dashes))
        parts.append(text(WIDTH - 198, at, f"{label} ({curve[-1][1]:.4f})"))
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    """Read, draw, and leave the figures beside the picture."""
    runs: list[dict[str, Any]] = [
        json.loads(row) for row in Path(sys.argv[1]).read_text().splitlines() if row
    ]
    seed = min(run["seed"] for run in runs)
    found = {run["path"]: run["losses"] for run in runs if run["seed"] == seed}
    out = Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else "Training loss, mean of 20 steps"
    out.write_text(draw(found, title))
    ends = [
        {key: run[key] for key in ("seed", "path", "validation_loss")}
        for run in runs
        if "validation_loss" in run
    ]
    losses = {name: [round(one, 5) for one in curve] for name, curve in found.items()}
    beside = {"seed": seed, "training_losses": losses, "validation_losses": ends}
    out.with_suffix(".json").write_text(json.dumps(beside) + "\n")


if __name__ == "__main__":
    main()
