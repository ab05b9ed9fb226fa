"""What a measurement gives: rows of a table, pictures, and the arithmetic on samples."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple


class Row(NamedTuple):
    """One line of the table; `met` is None where it cannot be told, and `figure` says why."""

    what: str
    figure: str
    bar: str
    met: bool | None
    failed: bool = False  #: agentd itself could not be measured; that a yardstick is not here is no failure


@dataclass(frozen=True)
class Sheet:
    """Rows, and what does not fit into them: Markdown below the table, and pictures by the name of their file."""

    rows: Sequence[Row] = ()
    text: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Sheet) -> Sheet:
        text = "\n\n".join(filter(None, (self.text, other.text)))
        return Sheet([*self.rows, *other.rows], text, {**self.pictures, **other.pictures})

    def report(self, circumstances: str) -> str:
        """As Markdown, under a line that says what it was measured on."""
        return "\n\n".join(filter(None, (circumstances, table(self.rows) if self.rows else "", self.text)))


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
    before, _, after = _split(page, part)
    page.write_text(f"{before}<!-- {part}: begin -->\n{text}\n<!-- {part}: end -->{after}")


def standing(page: Path, part: str) -> str:
    """The text that is there."""
    return _split(page, part)[1].strip()


def _split(page: Path, part: str) -> tuple[str, str, str]:
    before, _, rest = page.read_text().partition(f"<!-- {part}: begin -->")
    text, _, after = rest.partition(f"<!-- {part}: end -->")
    return before, text, after


def circumstances(directory: Path) -> str:
    """What the figures were measured on."""
    at = os.path.realpath(directory)
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    _, filesystem = max((m for m in mounts if os.path.commonpath([at, m[0]]) == m[0]), key=lambda m: len(m[0]))
    return (
        f"{datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, "
        f"Linux {platform.release()}, {filesystem}, Python {platform.python_version()}."
    )
