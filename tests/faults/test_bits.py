"""Real daemons on files in which a bit flipped while they were stopped."""

from __future__ import annotations

import random
from pathlib import Path

from faultlib.bits import UnderDaemon


def test_a_daemon_starts_on_rotten_files_and_serves_or_says_why_not(tmp_path: Path) -> None:
    under = UnderDaemon(tmp_path, random.Random(1))
    assert under.sessions(6) == []
    assert under.own_files(1) == []
    assert under.tried == 10
