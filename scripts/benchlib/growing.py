"""How a cost grows with work: a curve, the line through it, and whether that is what theory says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from benchlib.drawing import Curve, curve, short
from benchlib.figures import Row, Sheet, median

Points = Sequence[tuple[float, float]]

#: What a flat cost may differ from its beginning to its end, by the line through it.
FLAT = 1.25
#: The greatest exponent of what is linear: measuring adds some, and n log n would still be more.
LINEAR = 1.2


class Theory(NamedTuple):
    """What should be so, and why, in one sentence."""

    flat: bool
    why: str


def line_through(points: Points) -> tuple[float, float]:
    """Begin and slope of the line through points, by medians (Theil and Sen): some may be far off."""
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2) if x1 != x2]
    slope = median(slopes)
    return median([y - slope * x for x, y in points]), slope


def exponent(points: Points) -> float:
    """k of y = begin + c * x^k: the slope, by medians, of what is added to the first point, on logarithmic scales."""
    (_, begin), *rest = sorted(points)
    logs = [(math.log(x), math.log(y - begin)) for x, y in rest if y > begin]
    return line_through(logs)[1] if len(logs) > 1 else 0.0


def grown(name: str, title: str, along: str, unit: str, points: Points, theory: Theory) -> Sheet:
    """The row, the sentence and the picture of one curve; `name` is the picture's."""
    points = sorted(points)
    begin, slope = line_through(points)
    (first, at_first), (last, at_last) = points[0], points[-1]
    span = f"{short(at_first)} → {short(at_last)} {unit} from {short(first)} to {short(last)} {along}"
    if theory.flat:
        # What falls is no worse than flat.
        ratio = (begin + slope * last) / max(begin + slope * first, 1e-12)
        row = Row(title, f"{span}; {ratio:.2f} times by the line", f"flat: ≤ {FLAT} times", ratio <= FLAT)
    else:
        power = exponent(points)
        row = Row(title, f"{span}; exponent {power:.2f}", f"linear: exponent ≤ {LINEAR}", power <= LINEAR)
    picture = f"growth-{name}.svg"
    text = f"![{title}, by {along}](pictures/{picture})\n{theory.why}"
    return Sheet([row], text, {picture: curve(title, along, unit, Curve(points, begin, slope))})
