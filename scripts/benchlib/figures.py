"""What a measurement gives: a row of the table, and the arithmetic on samples."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table; `met` is None where nothing could be measured, and `figure` says why."""

    what: str
    figure: str
    bar: str
    met: bool | None


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median(samples: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(samples)


def ms(seconds: float) -> str:
    """Milliseconds, as precise as they are worth."""
    value = seconds * 1000
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    word = {True: "yes", False: "**no**", None: "?"}
    lines = [f"| {row.what} | {row.figure} | {row.bar} | {word[row.met]} |" for row in rows]
    return "\n".join(["| what | measured | bar | met |", "| --- | --- | --- | --- |", *lines])
