"""Geometry of drawings: from values to places in a box of width and height 1, its origin at the top left.

Pure, and without a size: a drawing that is said in parts of its box is as readable on a phone as on a wall.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Of the width that a column has, what its bar takes.
FILLED = 0.72
#: Durations that people have words for, in seconds: the marks of a logarithmic scale.
DURATION_MARKS = (0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0, 86_400.0, 864_000.0, 8_640_000.0)


class Bar(NamedTuple):
    """One part of a stacked column."""

    column: int
    part: int  #: which of the column's values it is
    x: float
    y: float
    width: float
    height: float


class Span(NamedTuple):
    """From a lower to a higher value in one column; `low` is below `high`, so its number is the larger."""

    column: int
    x: float
    low: float
    high: float


class DurationScale(NamedTuple):
    """Heights of durations, logarithmic between two marks."""

    marks: tuple[float, ...]

    def y(self, seconds: float) -> float:
        """Where a duration stands: 1 at the lowest mark and below, 0 at the highest and above."""
        low, high = math.log(self.marks[0]), math.log(self.marks[-1])
        at = math.log(max(seconds, self.marks[0]))
        return 1 - min(1.0, (at - low) / (high - low))


def marks(most: float, wanted: int = 4) -> list[int]:
    """Round numbers from 0 to the first that is not below `most`, about as many as wanted; for counts."""
    rough = max(1.0, most / wanted)
    power = 10 ** math.floor(math.log10(rough))
    step = next(int(power * nice) for nice in (1, 2, 5, 10) if power * nice >= rough)
    return list(range(0, math.ceil(max(most, 1) / step) * step + 1, step))


def stacked(columns: Sequence[Sequence[float]], top: float) -> list[Bar]:
    """Each column's values one upon the other, the first at the bottom; `top` is the value at the upper edge.

    What is not above 0 has no bar.
    """
    bars = []
    for column, values in enumerate(columns):
        x, width = _place(column, len(columns))
        below = 0.0
        for part, value in enumerate(values):
            if value > 0:
                bars.append(Bar(column, part, x, 1 - (below + value) / top, width, value / top))
                below += value
    return bars


def duration_scale(values: Iterable[float]) -> DurationScale:
    """The scale between the marks that hold all these durations, in seconds; one step at least."""
    found = list(values) or [1.0]
    first = max((at for at, mark in enumerate(DURATION_MARKS) if mark <= min(found)), default=0)
    last = min((at for at, mark in enumerate(DURATION_MARKS) if mark >= max(found)), default=len(DURATION_MARKS) - 1)
    if first == last:
        first, last = (first, last + 1) if last + 1 < len(DURATION_MARKS) else (first - 1, last)
    return DurationScale(DURATION_MARKS[first : last + 1])


def spans(pairs: Sequence[tuple[float, float] | None], scale: DurationScale) -> list[Span]:
    """A line for each column that has a lower and a higher duration, in the middle of it."""
    found = []
    for column, pair in enumerate(pairs):
        if pair is not None:
            x, width = _place(column, len(pairs))
            found.append(Span(column, x + width / 2, scale.y(pair[0]), scale.y(pair[1])))
    return found


def labelled(count: int, most: int = 7) -> range:
    """Which of so many columns have a label, the last among them, so that no two meet."""
    step = max(1, math.ceil(count / most))
    return range((count - 1) % step, count, step)


def middle(column: int, count: int) -> float:
    """Where the middle of a column is."""
    return (column + 0.5) / count


def _place(column: int, count: int) -> tuple[float, float]:
    return (column + (1 - FILLED) / 2) / count, FILLED / count
