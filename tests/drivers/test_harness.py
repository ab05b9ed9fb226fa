"""What the tests of drivers promise each other: none of them leaves a process, however it ends."""

from __future__ import annotations

from pathlib import Path

from benchlib.processes import alive, until
from tests.drivers.harness import Driven, end_all_of


def test_drivers_and_what_they_started_elsewhere_are_ended(tmp_path: Path) -> None:
    driven = Driven(tmp_path / "one")
    driven.program("claude", "setsid sh -c 'echo $$ > away; exec sleep 1000' &\necho $$ > cli; exec sleep 1000")
    process = driven.start("claude")
    written = [driven.workspace / name for name in ("away", "cli")]
    until(lambda: all(path.exists() and path.read_text().endswith("\n") for path in written))
    pids = [process.pid, *(int(path.read_text()) for path in written)]
    assert all(map(alive, pids))
    end_all_of(tmp_path)
    process.communicate()
    assert not any(map(alive, pids))
