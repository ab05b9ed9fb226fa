"""What a step hands on is on the disk before its end is, or a run would go on with nothing in its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from agentd.store.handed import sync_handed
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
