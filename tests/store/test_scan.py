"""A start reads the heads of all sessions: one after the other while the disk answers at once, else by all readers."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from agentd.config import Limits
from agentd.store import store
from agentd.store.disk import Entry, RealDisk
from agentd.store.residency import READERS
from agentd.store.store import Store
from benchlib.fill import fill
from benchlib.processes import PATIENCE_S


class ColdDisk(RealDisk):
    """Looking at the first session takes a while; those after it only as many at once as there are readers."""

    def __init__(self) -> None:
        self.looks = 0
        self.all_readers = threading.Barrier(READERS, timeout=PATIENCE_S)

    def entry(self, path: str) -> Entry:
        self.looks += 1
        if self.looks == 1:
            threading.Event().wait(0.1)
        else:
            self.all_readers.wait()
        return super().entry(path)


async def test_a_disk_that_has_to_be_waited_for_is_read_by_all_readers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SCAN_STEP", 1)
    fill(tmp_path, 1 + READERS, 1)
    opened = Store(tmp_path, disk=ColdDisk(), limits=Limits())
    try:
        assert (await opened.open()).sessions == 1 + READERS
    finally:
        await opened.close()
