"""A session is removed whole or stays; what a disk refuses half way shows no ghost."""

from __future__ import annotations

import errno

import pytest

from agentd.errors import StorageFailed
from agentd.store.datadir import remove_session, sweep
from tests.store.simdisk import SimDisk
from tests.store.story import SESSIONS, Player


@pytest.fixture
def player() -> Player:
    disk = SimDisk()
    disk.mkdir("/top")
    player = Player(disk)
    player.start()
    player.create("a", "t1")
    return player


def refuse(disk: SimDisk, operation: str) -> None:
    def hook(disk: SimDisk, name: str, path: str) -> None:
        if name == operation:
            raise OSError(errno.EIO, "Input/output error")

    disk.hook = hook


def test_a_removal_that_could_not_be_made_durable_is_taken_back(player: Player) -> None:
    refuse(player.disk, "fsync_dir")
    with pytest.raises(StorageFailed, match="session a"):
        remove_session(player.disk, SESSIONS, "a")
    player.disk.hook = None
    assert player.disk.listdir(SESSIONS) == ["a"]
    player.close()
    assert sweep(player.disk, SESSIONS) == []
    assert "a" in player.start()


def test_a_session_that_is_gone_for_good_is_removed_also_if_its_files_cannot_be(player: Player) -> None:
    player.close()
    refuse(player.disk, "unlink")
    remove_session(player.disk, SESSIONS, "a")
    player.disk.hook = None
    assert sweep(player.disk, SESSIONS) == [".deleted-a"]
    assert player.disk.listdir(SESSIONS) == []
