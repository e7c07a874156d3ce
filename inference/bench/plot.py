"""Lines over a logarithmic axis as an SVG of a few kilobytes, without a plotting package.

+- title -------+  +- title -------+
|  ___ a        |  |         / b   |     panels side by side, one scale each
| /             |  | a _____/      |
+--1--10--100---+  +---------------+
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

__all__ = ["Line", "Panel", "draw"]

_Scale = Callable[[float], float]

_WIDTH, _HEIGHT = 460, 300  # of a panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 176, 40, 44  # around the lines
_COLOURS: Final = ("#1f6fb4", "#d1622b", "#3a8f5c", "#8a5aa8")
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}.t{font-size:13px;font-weight:600}"
    ".g{stroke:#ddd}.l{fill:none;stroke-width:2}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) with a name; x is above 0."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines with one scale, which begins at 0."""

    title: str
    lines: Sequence[Line]


def draw(panels: Sequence[Panel], along: str) -> str:
    """Returns an SVG of the panels.

    Args:
        panels: From left to right.
        along: What the horizontal axis counts.
    """
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH * len(panels)} {_HEIGHT}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
    ]
    for index, panel in enumerate(panels):
        parts.append(f'<g transform="translate({index * _WIDTH})">')
        parts += _panel(panel, along)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, along: str) -> list[str]:
    points = [point for line in panel.lines for point in line.points]
    first, last = (math.log10(pick(x for x, _ in points)) for pick in (min, max))
    step = _step(max(y for _, y in points))
    top = step * math.ceil(max(y for _, y in points) / step)
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def across(x: float) -> float:
        share = (math.log10(x) - first) / (last - first) if last > first else 0.5
        return round(_LEFT + share * (right - _LEFT), 1)

    def up(y: float) -> float:
        return round(bottom - y / top * (bottom - _TOP), 1)

    parts = [f'<text class="t" x="{_LEFT}" y="22">{escape(panel.title)}</text>']
    for mark in range(round(top / step) + 1):
        y, text = up(mark * step), f"{mark * step:g}"
        parts.append(f'<path class="g" d="M{_LEFT} {y}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
    for power in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1):
        x = across(10**power)
        parts.append(f'<text x="{x}" y="{bottom + 17}" text-anchor="middle">{10**power:,}</text>')
    parts.append(
        f'<text x="{(_LEFT + right) / 2}" y="{bottom + 36}" text-anchor="middle">'
        f"{escape(along)}</text>"
    )
    return parts + _lines(panel, across, up)


def _lines(panel: Panel, across: _Scale, up: _Scale) -> list[str]:
    """The lines, and their names at their ends, pushed apart where they would overlap."""
    parts: list[str] = []
    ends: list[tuple[float, float, str, str]] = []
    for line, colour in zip(panel.lines, _COLOURS, strict=False):
        places = [(across(x), up(y)) for x, y in line.points]
        path = "L".join(f"{x} {y}" for x, y in places)
        parts.append(f'<path class="l" stroke="{colour}" d="M{path}"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in places]
        ends.append((places[-1][1], places[-1][0], colour, line.name))
    above = -math.inf
    for y, x, colour, name in sorted(ends):
        above = max(y, above + 15)
        style = f'style="fill:{colour}"'
        parts.append(f'<text x="{x + 8}" y="{above + 4}" {style}>{escape(name)}</text>')
    return parts


def _step(highest: float) -> float:
    """A round distance between four to eight marks."""
    power = 10.0 ** math.floor(math.log10(highest / 4))
    return next(power * one for one in (1, 2, 5, 10) if highest / (power * one) <= 8)
