"""The power of real file systems cut, their blocks reordered and torn: the short form of both layers."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from faultlib import blocks, power
from tests.daemon.harness import until


def devices() -> list[str]:
    """The files behind the loop devices."""
    found = []
    for each in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # another test has just let it go
            found.append(each.read_text())
    return found


def test_what_was_acknowledged_survives_a_real_power_cut_at_any_operation(tmp_path: Path) -> None:
    report = power.run(tmp_path, quick=True)
    if report.skipped:
        pytest.skip(report.skipped)
    assert not report.wrong, report
    until(lambda: not [each for each in devices() if str(tmp_path) in each])


def test_what_was_acknowledged_survives_reordered_and_torn_blocks(tmp_path: Path) -> None:
    report = blocks.run(tmp_path, quick=True)
    if report.skipped:
        pytest.skip(report.skipped)
    assert not report.wrong, report
