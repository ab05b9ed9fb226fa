"""The short form of `scripts/scale`."""

from __future__ import annotations

from pathlib import Path

from benchlib import scaled


def test_one_viewer_knows_every_agent_but_those_that_are_dead_or_lie(tmp_path: Path) -> None:
    found = scaled.measured(tmp_path, 20, 1, good=False)
    assert found.known == 18
    assert found.files > 18
    assert scaled.table([found]).count("\n") == 2
