"""Bytes that are not what was written: told apart from a torn end, reported, and never repaired away."""

from __future__ import annotations

import pytest

from agentd.errors import SessionReadOnly
from agentd.store import layout
from agentd.store.examine import Examined, examined
from agentd.store.folder import Folder
from tests.store.simdisk import SimDisk
from tests.store.story import (
    SESSIONS,
    Player,
    finished,
    journal_path,
    progressed,
    started,
    task_created,
    titled,
)

PATH = f"{SESSIONS}/a"


def a_player() -> Player:
    disk = SimDisk()
    disk.mkdir("/top")
    player = Player(disk)
    player.start()
    return player


def a_journal() -> tuple[Player, int]:
    """Two segments, several batches each; and where the last batch begins."""
    player = a_player()
    player.create("a", "t1")
    while not player.disk.exists(journal_path("a", 2)):
        player.append("a", titled("x" * 1200))
    player.append("a", started("t1"))
    player.append("a", progressed("t1"), progressed("t1"))
    last = player.positions["a"].offset
    player.append("a", progressed("t1"), finished("t1"))
    player.views("a")
    player.close()
    player.disk.settle()
    return player, last


def with_bit_flipped(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << (bit % 8)
    return bytes(flipped)


def looked_at(disk: SimDisk) -> Examined | None:
    """What an opening would find; None if it calls the session damaged."""
    try:
        return examined(disk, PATH)
    except SessionReadOnly:
        return None


@pytest.mark.parametrize("number", [1, 2])
def test_every_flipped_bit_of_a_journal_is_detected(number: int) -> None:
    player, last = a_journal()
    disk, path = player.disk, journal_path("a", number)
    disk.unlink(layout.tasks_path(PATH))  # so that all of it is read
    good = disk.read(path)
    for bit in range(len(good) * 8):
        disk.put(path, with_bit_flipped(good, bit))
        found = looked_at(disk)
        if number == 1 or bit // 8 < last:
            assert found is None, f"bit {bit}: acknowledged bytes are damaged, and it was not said"
        else:
            # The last batch alone cannot be told from a torn one; unless the flip makes its number a later one.
            assert found is None or found.scan.torn, f"bit {bit} was not noticed"
            if found is not None:
                assert found.replay.seq == len(player.memories["a"].acked) - 2 + (found.scan.torn[0].offset > last)


def test_every_flipped_bit_of_a_snapshot_is_detected_and_made_good() -> None:
    player, _ = a_journal()
    disk, path = player.disk, layout.tasks_path(PATH)
    good = disk.read(path)
    for bit in range(0, len(good) * 8, 3):
        disk.put(path, with_bit_flipped(good, bit))
        found = looked_at(disk)
        assert found is not None
        assert found.bad_snapshot is not None, f"bit {bit} was not noticed"
        assert found.replay.seq == len(player.memories["a"].acked)


def test_damage_touches_nothing_and_is_shown_read_only() -> None:
    player, _ = a_journal()
    path = journal_path("a")
    player.disk.put(path, with_bit_flipped(player.disk.read(path), 4000))
    player.disk.unlink(layout.tasks_path(PATH))
    before = player.disk.files()
    with pytest.raises(SessionReadOnly, match=r"first line is damaged|event . at byte"):
        Folder.open(player.disk, PATH)
    assert player.disk.files() == before
    shown = Folder.read_damaged(player.disk, PATH)
    assert shown.session.session_id == "a"
    assert Folder.header(player.disk, PATH) is None


def test_a_damaged_session_shows_its_last_snapshot() -> None:
    player, _ = a_journal()
    player.disk.put(journal_path("a", 2), player.disk.read(journal_path("a", 2))[:-200])
    with pytest.raises(SessionReadOnly, match="shorter than what was acknowledged"):
        Folder.open(player.disk, PATH)
    assert list(Folder.read_damaged(player.disk, PATH).tasks) == ["t1"]


def test_what_is_left_of_nothing_is_still_a_session() -> None:
    player, _ = a_journal()
    for path in player.disk.files(PATH):
        player.disk.put(path, b"\0" * 10)
    assert Folder.read_damaged(player.disk, PATH).session.session_id == "a"


@pytest.mark.parametrize(
    "rest",
    [
        b"garbage",
        b"garbage\nmore garbage\n",
        bytes(4096),
        b"\n",
        b"\n\n\n",
        b'{"seq":',
        b"\xff\xfe\x00\xe2\x80\xa8\n",
        b'{"format":1,"session_id":"a"}\n',
        b'{"seq":4,"b":4,"session_id":"a","type":"task.queued","at":"","crc":"00000000"}\n',
    ],
    ids=repr,
)
@pytest.mark.parametrize("viewed", [True, False], ids=["from the snapshot", "from the start"])
def test_a_foreign_end_is_cut_and_kept(rest: bytes, viewed: bool) -> None:
    player = a_player()
    player.create("a", "t1")
    player.append("a", started("t1"))
    if viewed:
        player.views("a")
    else:
        player.disk.unlink(layout.tasks_path(PATH))
    player.close()
    good = player.disk.read(journal_path("a"))
    player.disk.put(journal_path("a"), good + rest)
    loaded = player.open("a")
    assert player.disk.read(journal_path("a")) == good
    assert loaded.torn == len([line for line in rest.split(b"\n") if line])
    assert rest in player.disk.files("/top/data/quarantine").values()
    player.append("a", finished("t1"))


def test_two_torn_ends_at_one_place_are_both_kept() -> None:
    player = a_player()
    player.create("a")
    for junk in (b"one", b"two", b"one"):
        player.close()
        player.disk.put(journal_path("a"), player.disk.read(journal_path("a")) + junk)
        player.open("a")
    assert sorted(player.disk.files("/top/data/quarantine").values()) == [b"one", b"two"]


def test_a_batch_lost_before_a_later_one_is_damage() -> None:
    player = a_player()
    player.create("a", "t1")
    before = player.disk.read(journal_path("a"))
    player.append("a", started("t1"))
    middle = player.disk.read(journal_path("a"))[len(before) :]
    player.append("a", progressed("t1"))
    player.close()
    player.disk.put(journal_path("a"), player.disk.read(journal_path("a")).replace(middle, b""))
    with pytest.raises(SessionReadOnly, match=r"event 3 at byte .* is damaged, and later ones follow"):
        Folder.open(player.disk, PATH)


def test_a_segment_that_is_gone_is_damage() -> None:
    player, _ = a_journal()
    player.disk.unlink(layout.tasks_path(PATH))
    player.disk.unlink(journal_path("a", 1))
    with pytest.raises(SessionReadOnly, match="removed by retention"):
        Folder.open(player.disk, PATH)


def test_a_copied_session_says_whose_copy_it_is() -> None:
    player, _ = a_journal()
    player.disk.mkdir(f"{SESSIONS}/b")
    player.disk.mkdir(f"{SESSIONS}/b/history")
    for path, data in player.disk.files(PATH).items():
        player.disk.put(path.replace("/sessions/a/", "/sessions/b/"), data)
    with pytest.raises(SessionReadOnly, match="belongs to session a"):
        Folder.open(player.disk, f"{SESSIONS}/b")
    assert Folder.header(player.disk, f"{SESSIONS}/b") is None


def test_an_event_that_breaks_a_rule_is_damage_and_not_a_crash() -> None:
    player = a_player()
    player.create("a", "t1")
    player.folders["a"].append([finished("t1"), finished("t1")], 3)
    player.close()
    with pytest.raises(SessionReadOnly, match=r"event 3 cannot be applied: .*queued"):
        Folder.open(player.disk, PATH)


def test_text_of_a_record_cannot_pass_for_a_later_batch() -> None:
    player = a_player()
    player.create("a", "t1")
    player.close()
    good = player.disk.read(journal_path("a"))
    inner = task_created("a", "t2", command='{"seq":90,"b":90,"session_id":"a"}\n}\n{"seq":91,"b":91,"session_id":"')
    player.open("a")
    player.folders["a"].append([inner], 3)
    player.close()
    written = player.disk.read(journal_path("a"))
    player.disk.put(journal_path("a"), written[:-5])  # torn, not damaged
    assert player.open("a").torn == 1
    assert player.disk.read(journal_path("a")) == good
