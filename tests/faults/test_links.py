"""The short form of the layer `links`."""

from __future__ import annotations

from pathlib import Path

import pytest

from faultlib import links


def test_over_bad_lines_pages_say_what_is_so_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    report = links.run(tmp_path, quick=True)
    if report.skipped:
        pytest.skip(report.skipped)
    assert not report.wrong
