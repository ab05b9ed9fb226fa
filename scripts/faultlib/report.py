"""What a layer of faults gives: how much it tried, and what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Report(NamedTuple):
    """One row: `tried` says with its unit what was tried (`1,032 states after a power cut`), `wrong` what did not hold.

    `skipped` is why nothing could be tried here; then the other two are empty.
    """

    layer: str
    tried: str = ""
    wrong: Sequence[str] = ()
    skipped: str | None = None


def table(reports: Sequence[Report]) -> str:
    """The reports as Markdown."""
    lines = ["| layer | tried | wrong |", "| --- | --- | --- |"]
    for report in reports:
        tried, wrong = (
            (f"not here: {report.skipped}", "?") if report.skipped else (report.tried, f"{len(report.wrong)}")
        )
        lines.append(f"| {report.layer} | {tried} | {wrong} |")
    return "\n".join(lines)
