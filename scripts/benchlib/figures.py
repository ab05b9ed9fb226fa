"""What a measurement gives: a row of the table, and the arithmetic on samples."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
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


def written(page: Path, part: str, text: str) -> None:
    """Put text where the page has its place for that part."""
    begin, end = f"<!-- {part}: begin -->", f"<!-- {part}: end -->"
    before, _, rest = page.read_text().partition(begin)
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")


def circumstances(directory: Path) -> str:
    """What the figures were measured on."""
    at = os.path.realpath(directory)
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    _, filesystem = max((m for m in mounts if os.path.commonpath([at, m[0]]) == m[0]), key=lambda m: len(m[0]))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, "
        f"Linux {platform.release()}, {filesystem}, Python {platform.python_version()}."
    )
