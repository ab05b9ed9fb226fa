"""Charts as SVG: bars side by side, and a curve with the line fitted to it. Readable on light and on dark pages.

Nothing is loaded: colours follow the reader's scheme, texts are texts, and every chart says in `<desc>` what it shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

STYLE = """text { font: 12px system-ui, sans-serif; fill: #1f2328 } .faint { fill: #59636e } .title { font-weight: 600 }
.grid { stroke: #8c959f; stroke-opacity: .35 } .bar { fill: #8c959f } .ours { fill: #0969da }
.line { fill: none; stroke: #0969da; stroke-width: 2 } .dot { fill: #0969da }
.fit { stroke: #bc4c00; stroke-dasharray: 5 4; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .faint { fill: #9198a1 } .bar { fill: #6e7681 } .ours { fill: #4493f8 }
  .line { stroke: #4493f8 } .dot { fill: #4493f8 } .fit { stroke: #f0883e }
}"""

LABEL_WIDTH, PANEL_WIDTH, ROW_HEIGHT, HEAD = 190, 210, 22, 44
FIGURE_WIDTH = 62  #: room for the figure beside the longest bar
SPAN_LABEL, SPAN_WIDTH = 330, 470
WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 440, 260, 64, 40, 16, 44
TICKS = 5


class Panel(NamedTuple):
    """One column of bars: a value for each label, None where there is none; the figures are written out."""

    title: str
    values: Sequence[float | None]
    unit: str = ""


def bars(description: str, labels: Sequence[str], panels: Sequence[Panel], ours: str) -> str:
    """Horizontal bars, a row a label and a column a panel; rows whose label begins with `ours` stand out."""
    width = LABEL_WIDTH + PANEL_WIDTH * len(panels)
    parts = []
    for column, panel in enumerate(panels):
        left = LABEL_WIDTH + column * PANEL_WIDTH
        longest = max((value for value in panel.values if value is not None), default=0) or 1
        parts.append(_text(left, 22, panel.title, "title"))
        for row, (label, value) in enumerate(zip(labels, panel.values, strict=True)):
            top = HEAD + row * ROW_HEIGHT
            if value is None:
                parts.append(_text(left, top + 14, "?", "faint"))
                continue
            length = max(1.0, value / longest * (PANEL_WIDTH - FIGURE_WIDTH - 16))
            kind = "ours" if label.startswith(ours) else "bar"
            parts.append(f'<rect class="{kind}" x="{left}" y="{top + 3}" width="{length:.1f}" height="14" rx="2"/>')
            parts.append(_text(left + length + 6, top + 14, f"{short(value)}{panel.unit}"))
    for row, label in enumerate(labels):
        at = HEAD + row * ROW_HEIGHT + 14
        parts.append(_text(LABEL_WIDTH - 12, at, label, "title" if label.startswith(ours) else "", "end"))
    return _svg(width, HEAD + ROW_HEIGHT * len(labels) + 10, description, parts)


class Stretch(NamedTuple):
    """A part of a way: where it is spent, on what, and how long it takes."""

    where: str
    what: str
    length: float


def timeline(description: str, stretches: Sequence[Stretch]) -> str:
    """One stretch after the other, a row each, from left to right as time goes; the longest three stand out."""
    scale = SPAN_WIDTH / (sum(stretch.length for stretch in stretches) or 1)
    long = sorted((stretch.length for stretch in stretches), reverse=True)[:3]
    parts = []
    at = float(SPAN_LABEL)
    for row, (where, what, length) in enumerate(stretches):
        top = row * ROW_HEIGHT + 8
        width = max(1.0, length * scale)
        kind = "ours" if length in long else "bar"
        parts.append(_text(SPAN_LABEL - 12, top + 11, f"{where}: {what}", "", "end"))
        parts.append(f'<rect class="{kind}" x="{at:.1f}" y="{top}" width="{width:.1f}" height="14" rx="2"/>')
        parts.append(_text(at + width + 6, top + 11, f"{length:.0f}", "faint"))
        at += length * scale
    return _svg(SPAN_LABEL + SPAN_WIDTH + 48, ROW_HEIGHT * len(stretches) + 16, description, parts)


class Curve(NamedTuple):
    """Measured points and the straight line through them, y = begin + slope * x."""

    points: Sequence[tuple[float, float]]
    begin: float
    slope: float


def curve(title: str, along: str, unit: str, measured: Curve) -> str:
    """One curve from zero, its points, and its line dashed; `along` names the x axis, `unit` the y axis."""
    xs, ys = zip(*measured.points, strict=True)
    far_x, far_y = _end(max(xs)), _end(max(*ys, measured.begin + measured.slope * max(xs)))

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + x / far_x * (WIDTH - LEFT - RIGHT),
            HEIGHT - BOTTOM - max(0.0, y) / far_y * (HEIGHT - TOP - BOTTOM),
        )

    parts = [_text(12, 20, title, "title"), _text(LEFT - 8, TOP - 6, unit, "faint", "end")]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, along, "faint", "middle"))
    for step in range(TICKS):
        x, y = at(far_x * step / (TICKS - 1), far_y * step / (TICKS - 1))
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 8, y + 4, short(far_y * step / (TICKS - 1)), "faint", "end"))
        parts.append(_text(x, HEIGHT - BOTTOM + 18, short(far_x * step / (TICKS - 1)), "faint", "middle"))
    (x1, y1), (x2, y2) = at(0, measured.begin), at(max(xs), measured.begin + measured.slope * max(xs))
    parts.append(f'<line class="fit" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    placed = [at(x, y) for x, y in measured.points]
    parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)}"/>')
    parts += [f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in placed]
    described = "; ".join(f"{short(x)}: {short(y)}" for x, y in measured.points)
    return _svg(WIDTH, HEIGHT, f"{title}, {unit} by {along}: {described}", parts)


def short(value: float) -> str:
    """A number as short as it is worth: three digits, thousands with commas."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{max(0, digits)}f}".rstrip("0").rstrip(".") if digits > 0 else f"{value:.0f}"


def _end(value: float) -> float:
    """The next round number, for the end of an axis."""
    if value <= 0:
        return 1.0
    scale = 10.0 ** math.floor(math.log10(value))
    return next(scale * step for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if scale * step >= value * 0.999)


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _svg(width: int, height: int, description: str, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">'
    return "\n".join([head, f"<desc>{escape(description)}</desc>", f"<style>{STYLE}</style>", *parts, "</svg>", ""])
