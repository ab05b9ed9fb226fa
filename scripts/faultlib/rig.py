"""A real daemon for a life: small segments, and system calls that somebody judges."""

from __future__ import annotations

import json
from typing import Any

from faultlib.injection import Judge, Watched
from tests.daemon.harness import RealDaemon, until

#: Segments and what is kept are small, so that a short life meets rotation and retention.
SETTINGS: dict[str, Any] = {
    "drain_s": 0.05,
    "limits": {"journal_bytes": 6000},
    "workers": {"min": 1, "max": 3, "grace_s": 0.3},
    "log": {"format": "json"},
}
PATIENCE_S = 60.0


class Rig(RealDaemon):
    """A real daemon whose system calls are judged, when asked to."""

    watched: Watched | None = None

    def start_judged(self, judge: Judge) -> bool:
        """Start it; False when it ended before it answered."""
        before = self.agent_text()
        self.watched = Watched(self.command(), self.data_dir, judge, self.log_path)
        self.process = self.watched.process
        until(lambda: self.ended() or self.agent_text() != before, PATIENCE_S)
        if self.agent_text() == before:
            return False
        self.agent = json.loads(self.agent_text())
        self.token = (self.data_dir / "token").read_text().strip()
        self.connect()
        return True

    def left_alone(self) -> None:
        """Wait until nothing that was started under judgement runs any more."""
        if self.watched is not None:
            self.watched.join()
            self.watched = None
