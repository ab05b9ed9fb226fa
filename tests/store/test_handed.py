"""What a step hands on is on the disk before its end is, or a run would go on with nothing in its place."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from agentd.store.disk import RealDisk
from agentd.store.handed import read_handed, sync_handed
from tests.store.simdisk import SimDisk


def after_a_power_cut(skip: frozenset[str] = frozenset()) -> set[bytes | None]:
    """All that the file may be when the power goes after the sync."""
    disk = SimDisk(skip=skip)
    for directory in ("/s", "/s/output"):
        disk.mkdir(directory)
    disk.settle()
    fd = disk.open("/s/output/t.1.handed", append=True)
    disk.write(fd, b"said=hello\n")
    disk.close(fd)
    sync_handed(disk, Path("/s"), "t", 1)
    return {each.files().get("/s/output/t.1.handed") for each in disk.after_power_cut(1000, random.Random(1))}


def test_what_a_step_hands_on_survives_a_power_cut() -> None:
    assert after_a_power_cut() == {b"said=hello\n"}


@pytest.mark.parametrize("point", ["handed.file", "handed.dir"])
def test_without_any_one_of_its_syncs_it_may_be_lost(point: str) -> None:
    assert len(after_a_power_cut(frozenset({point}))) > 1


def test_a_step_that_hands_nothing_on_costs_no_sync() -> None:
    disk = SimDisk()
    disk.mkdir("/s")
    sync_handed(disk, Path("/s"), "t", 1)
    assert not disk.points


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_a_task_puts_in_its_place_neither_leads_out_nor_holds_anybody_up(tmp_path: Path, put: Any) -> None:
    (tmp_path / "output").mkdir()
    put(tmp_path / "output" / "t.1.handed")
    with pytest.raises(OSError, match=r"Invalid argument|Is a directory|Too many levels"):
        sync_handed(RealDisk(), tmp_path, "t", 1)
    assert read_handed(tmp_path, "t", 1, 100) == b""
