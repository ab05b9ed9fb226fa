"""Power cuts between any two operations, of the store and of its recovery; and the proof that each sync is needed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agentd.store import disk as disk_module
from agentd.store.disk import Disk
from tests.store.simdisk import SimDisk
from tests.store.stories import STORIES, Effort, Story, loss_without, points, states_of

CORE = ("appender", "check", "datadir", "examine", "folder", "importing", "journal", "quarantine", "reader", "views")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_whatever_a_power_cut_leaves_is_recovered(story: Story) -> None:
    assert states_of(story, Effort()) > 5


@pytest.mark.parametrize("point", points())
def test_without_any_one_sync_something_is_lost(point: str) -> None:
    assert loss_without(point), "it can be left out and no test minds: remove it, or find the crash that needs it"


def test_every_sync_in_the_code_is_one_that_the_stories_reach() -> None:
    calls = r'(?:fsync|fdatasync|fsync_dir|replace_file|write_beside)\((?:[^()]|\([^()]*\))*"([a-z]+\.[a-z_]+)"\)'
    code = "".join((Path(disk_module.__file__).parent / f"{name}.py").read_text() for name in CORE)
    assert set(re.findall(calls, code)) == set(points())


def test_the_simulated_disk_is_a_disk() -> None:
    disk: Disk = SimDisk()
    assert disk.listdir("/") == []
