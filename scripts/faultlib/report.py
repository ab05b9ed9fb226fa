"""What a layer of faults gives: how much it tried, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Report(NamedTuple):
    """One row: `tried` says with its unit what was tried (`1,032 states after a power cut`), `wrong` what did not hold.

    `skipped` is why nothing could be tried here; then the other two are empty.
    """

    layer: str
    tried: str = ""
    wrong: Sequence[str] = ()
    skipped: str | None = None


def row(report: Report, when: str) -> str:
    """The report as a line of `table`."""
    tried, wrong = (f"not here: {report.skipped}", "?") if report.skipped else (report.tried, f"{len(report.wrong)}")
    return f"| {report.layer} | {tried} | {wrong} | {when} |"


def table(rows: Iterable[str]) -> str:
    """The rows as Markdown."""
    return "\n".join(["| layer | tried | wrong | when, how long |", "| --- | --- | --- | --- |", *rows])


def rows_in(text: str) -> dict[str, str]:
    """The rows of a table, by the layer."""
    return {found[1]: found[0] for found in re.finditer(r"^\| (?!layer )(\w+) \|.*$", text, re.MULTILINE)}
