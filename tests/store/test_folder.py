"""One session's directory, on a disk in memory: appending, refusals, resuming, views, reading back."""

from __future__ import annotations

import errno
import json
import zlib
from collections.abc import Callable

import msgspec
import pytest

from agentd.errors import SessionReadOnly, StorageFailed, StorageFull
from agentd.model.events import SessionPruned
from agentd.store import layout, views
from agentd.store.folder import Folder
from agentd.store.journal import sealed, sealed_head
from tests.store.oracle import check_recovery
from tests.store.simdisk import SimDisk
from tests.store.story import (
    AT,
    SEGMENT_BYTES,
    SESSIONS,
    Player,
    finished,
    journal_path,
    progressed,
    session,
    session_created,
    started,
    task_created,
    titled,
)

PATH = f"{SESSIONS}/a"
ENOSPC = OSError(errno.ENOSPC, "No space left on device")
EIO = OSError(errno.EIO, "Input/output error")


@pytest.fixture
def player() -> Player:
    disk = SimDisk()
    disk.mkdir("/top")
    player = Player(disk)
    player.start()
    return player


def failing(nth: int, error: OSError, operation: str = "") -> Callable[[SimDisk, str, str], None]:
    """A hook that fails the nth such operation."""
    left = [nth]

    def hook(disk: SimDisk, name: str, path: str) -> None:
        if operation in ("", name):
            left[0] -= 1
            if left[0] == 0:
                raise error

    return hook


def lines_of(player: Player, after: int = 0, limit: int = 1000) -> list[bytes]:
    return player.folders["a"].read_events(after, limit, len(player.memories["a"].acked))[0]


def test_a_line_is_what_the_documentation_says(player: Player) -> None:
    player.create("a", "t1")
    appended = player.folders["a"].append([titled("line\u2028end\n"), progressed("t1")], 3)
    raw = player.disk.read(journal_path("a")).split(b"\n")
    assert [line + b"\n" for line in raw[3:5]] == appended.lines
    crc = 0
    for number, line in enumerate(raw[1:-1], 1):
        record = json.loads(line)
        body, _, tail = line.rpartition(b',"crc":"')
        crc = zlib.crc32(body, crc)
        assert tail == b'%08x"}' % crc
        assert list(record)[:4] == ["seq", "b", "session_id", "type"]
        assert (record["seq"], record["session_id"]) == (number, "a")
    assert json.loads(raw[3])["b"] == json.loads(raw[4])["b"] == 3
    head = json.loads(raw[0])
    assert head == {
        "format": 1, "session_id": "a", "segment": 1, "first_seq": 1, "prev_crc": "00000000", "crc": head["crc"],
    }  # fmt: skip
    assert appended.position.crc == f"{crc:08x}"


def test_a_name_that_is_taken_is_not_touched(player: Player) -> None:
    player.create("a", "t1")
    before = player.disk.files()
    with pytest.raises(FileExistsError):
        Folder.create(player.disk, SESSIONS, session("a"), [session_created("a")])
    assert player.disk.files() == before


@pytest.mark.parametrize("nth", range(1, 30))
def test_a_creation_that_fails_leaves_nothing(player: Player, nth: int) -> None:
    player.disk.hook = failing(nth, ENOSPC)
    try:
        player.create("a", "t1")
    except StorageFull:
        assert not player.disk.exists(PATH)
        assert player.disk.open_files == 0
        player.disk.hook = None
        player.create("a", "t1")
    player.disk.hook = None
    player.append("a", started("t1"))
    check_recovery(player.disk.fork(), player.memories)


@pytest.mark.parametrize("error", [ENOSPC, EIO], ids=["full", "broken"])
@pytest.mark.parametrize("short", [None, 1, 300])
@pytest.mark.parametrize("nth", range(1, 26))
def test_any_refused_operation_loses_nothing_and_heals(
    player: Player, nth: int, short: int | None, error: OSError
) -> None:
    player.create("a", "t1", "t2", "t3")
    player.append("a", started("t1"), started("t2"))
    player.disk.short_write = short
    player.disk.hook = failing(nth, error)
    todo: list[Callable[[], None]] = [
        lambda: player.append("a", progressed("t1"), progressed("t2")),
        lambda: player.append("a", finished("t1"), titled("x" * SEGMENT_BYTES)),
        lambda: player.views("a"),
        lambda: player.append("a", progressed("t2"), titled("y" * SEGMENT_BYTES)),  # in a new segment
        lambda: player.append("a", finished("t2")),
        lambda: player.views("a"),
    ]
    folder = player.folders["a"]
    for act in todo:
        try:
            act()
        except StorageFailed as failed:
            assert isinstance(failed, StorageFull) == (error is ENOSPC and not folder.poisoned)
            check_recovery(player.disk.fork(), player.memories, after_recovery=True)
            if folder.poisoned:
                with pytest.raises(SessionReadOnly, match="read-only: a "):
                    player.append("a", progressed("t3"))
                player.memories["a"].maybe.pop()
                folder.resume()
                assert folder.poisoned is None
            act()
    assert len(lines_of(player)) == len(player.memories["a"].acked)
    check_recovery(player.disk.fork(), player.memories)


def test_what_a_failed_sync_left_behind_is_superseded(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", started("t1"))
    good = player.disk.read(journal_path("a"))
    player.disk.hook = failing(1, EIO, "fdatasync")
    with pytest.raises(StorageFailed, match="Input/output error"):
        player.append("a", progressed("t1"))
    player.disk.hook = None
    folder = player.folders["a"]
    folder.resume()
    folder.resume()  # again is no harm
    player.append("a", progressed("t1"))
    player.append("a", finished("t1"))
    player.disk.put(journal_path("a"), good + b'{"seq":4,"b":4,"session_id":"a"}\n{"seq":900,"b":900,"session_id":"')
    assert len(lines_of(player)) == 5
    player.close()
    assert player.open("a").torn == 0
    check_recovery(player.disk.fork(), player.memories)


def test_a_closed_folder_and_a_wrong_seq_are_refused(player: Player) -> None:
    player.create("a", "t1")
    with pytest.raises(ValueError, match="event 7 cannot follow 2"):
        player.folders["a"].append([started("t1")], 7)
    folder = player.folders["a"]
    folder.close()
    folder.close()
    with pytest.raises(ValueError, match="closed"):
        folder.append([started("t1")], 3)


def test_an_event_that_cannot_be_encoded_leaves_the_folder_usable(player: Player) -> None:
    player.create("a", "t1")
    with pytest.raises(UnicodeEncodeError):
        player.folders["a"].append([titled("\ud800")], 3)
    player.append("a", titled("fine"))
    check_recovery(player.disk.fork(), player.memories)


def test_a_session_whose_tasks_alone_went_on_is_listed_by_its_header(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", msgspec.structs.replace(started("t1"), at="2026-07-03T10:00:09.000000Z"))
    player.views("a")
    header = Folder.header(player.disk, PATH)
    player.close()
    assert header is not None and header.session == player.open("a").session
    player.close()
    assert not player.open("a").stale, "opening it is no reason to write its views again"


def test_a_header_says_what_an_opening_would(player: Player) -> None:
    player.create("a", "t1", "t2")
    player.append("a", started("t1"), titled("x" * 30_000))
    assert Folder.header(player.disk, PATH) is None  # the views are behind
    player.views("a")
    header = Folder.header(player.disk, PATH)
    assert header is not None and header.clean
    player.close()
    loaded = player.open("a")
    assert (header.session, header.seq) == (loaded.session, loaded.seq)
    assert header.counts == {"running": 1, "queued": 1}
    assert not loaded.stale


def test_an_edit_by_hand_is_seen_and_changes_nothing(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", titled("old"))
    player.views("a")
    player.close()
    path = layout.metadata_path(PATH)
    text = player.disk.read(path).replace(b'"old"', b'"new"')
    player.disk.put(path, text)
    assert Folder.header(player.disk, PATH) is None
    loaded = player.open("a")
    assert loaded.edited
    assert loaded.metadata == text
    assert loaded.session.title == "old"


@pytest.mark.parametrize("text", [b"", b"{", b'{"format":2}', b'{"format":1,"session_id":3}'])
def test_a_metadata_file_that_cannot_be_used_is_only_a_view(player: Player, text: bytes) -> None:
    player.create("a", "t1")
    player.close()
    player.disk.put(layout.metadata_path(PATH), text)
    assert Folder.header(player.disk, PATH) is None
    assert player.open("a").edited


def test_old_finished_tasks_leave_the_snapshot_and_keep_their_record(player: Player) -> None:
    player.create("a", "t1", "t2", "t3")
    for task in ("t1", "t2", "t3"):
        player.append("a", started(task), finished(task))
    player.views("a")
    document = json.loads(player.disk.read(layout.tasks_path(PATH)))
    assert [task["task_id"] for task in document["tasks"]] == ["t2", "t3"]
    records = sorted(name for name in player.disk.listdir(f"{PATH}/history") if "completed" in name)
    assert records == ["000006-completed-t1.json", "000008-completed-t2.json", "000010-completed-t3.json"]
    player.close()
    assert player.open("a").finished_order == ["t2", "t3"]


def test_records_that_a_crash_kept_from_being_written_follow_with_the_next_views(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", started("t1"), finished("t1"))
    player.die()
    loaded = player.open("a")
    assert loaded.stale
    player.views("a")
    assert player.disk.exists(f"{PATH}/history/000004-completed-t1.json")


def test_pruned_tasks_are_not_made_again(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", started("t1"), finished("t1"))
    player.append("a", SessionPruned(at=AT, tasks=("t1",)))
    player.disk.unlink(layout.tasks_path(PATH))
    player.die()
    assert player.open("a").tasks == {}
    player.views("a")
    player.unrecorded["a"] = 0
    assert not any("completed" in name for name in player.disk.listdir(f"{PATH}/history"))


def test_events_are_read_by_seq_across_segments(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", started("t1"))
    for size in (10, 3000, 40, 700_000, 5, 100_000, 300_000, 20):
        player.append("a", titled("x" * size), progressed("t1"))
    total = len(player.memories["a"].acked)
    everything = lines_of(player)
    assert [json.loads(line)["seq"] for line in everything] == list(range(1, total + 1))
    for after in range(total + 1):
        assert lines_of(player, after) == everything[after:]
        assert lines_of(player, after, limit=2) == everything[after : after + 2]
    assert player.folders["a"].read_events(3, 100, 5) == (everything[3:5], None)
    assert player.folders["a"].read_events(total, 100, total) == ([], None)


def test_a_place_in_one_long_segment_is_found_by_halving(player: Player) -> None:
    folder, _ = Folder.create(player.disk, SESSIONS, session("a"), [session_created("a"), task_created("a", "t1")])
    seq = 2
    expected = []
    for number in range(120):
        appended = folder.append([titled("x" * (number % 7) * 9_000), titled("y")], seq + 1)
        expected += appended.lines
        seq += 2
    for after in range(2, seq, 11):
        assert folder.read_events(after, 3, seq)[0] == expected[after - 2 : after + 1]


def test_pruned_events_are_a_gap(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", started("t1"))
    for _ in range(6):
        player.append("a", titled("x" * SEGMENT_BYTES))
    folder = player.folders["a"]
    assert folder.prune(5) == 0  # the snapshot still needs them
    player.views("a")
    assert folder.prune(2) > 0
    lines, gap = folder.read_events(0, 100, 9)
    assert gap == 6
    assert json.loads(lines[0])["seq"] == 6
    assert folder.read_events(5, 100, 9) == (lines, None)
    assert folder.prune(1 << 40) > 0
    assert folder.read_events(0, 100, 9)[1] == 9
    player.append("a", finished("t1"))
    check_recovery(player.disk.fork(), player.memories)


def test_a_snapshot_of_a_newer_format_is_left_alone(player: Player) -> None:
    player.create("a", "t1")
    player.close()
    path = layout.tasks_path(PATH)
    body = player.disk.read(path).rpartition(b'"crc"')[0].replace(b'"format":1', b'"format":2')
    player.disk.put(path, body + b'"crc":"%08x"}\n' % zlib.crc32(body))
    with pytest.raises(SessionReadOnly, match="format 2"):
        Folder.open(player.disk, PATH)


def test_unknown_events_are_kept_and_passed_over(player: Player) -> None:
    player.create("a", "t1")
    position = player.positions["a"]
    body = b'{"seq":3,"b":3,"session_id":"a","type":"task.dreamed","at":"x","of":"sheep"'
    line, _ = sealed(body, int(position.crc, 16))
    player.close()
    player.disk.put(journal_path("a"), player.disk.read(journal_path("a")) + line)
    folder, loaded = Folder.open(player.disk, PATH)
    assert (loaded.seq, loaded.torn) == (3, 0)
    assert folder.read_events(2, 10, 3)[0] == [line]


def test_a_session_whose_history_is_a_link_is_refused(player: Player) -> None:
    player.create("a", "t1")
    player.close()
    number = player.disk.nodes[player.disk._find(PATH)].names["history"]
    player.disk.nodes[number].directory = False
    player.disk.nodes[number].link = True
    with pytest.raises(SessionReadOnly, match="history is not a directory"):
        Folder.open(player.disk, PATH)


def test_metadata_reads_back_as_written() -> None:
    before = msgspec.structs.replace(session("a"), usage=None)  # of which the head of tasks.json tells
    assert views.read_metadata(views.metadata_bytes(before)) == before


def test_a_segment_of_a_newer_format_is_left_alone(player: Player) -> None:
    player.create("a", "t1")
    player.close()
    first, rest = player.disk.read(journal_path("a")).split(b"\n", 1)
    body = first.rpartition(b',"crc"')[0].replace(b'"format":1', b'"format":2')
    player.disk.put(journal_path("a"), b'%b,"crc":"%08x"}\n%b' % (body, zlib.crc32(body), rest))
    player.disk.unlink(layout.tasks_path(PATH))
    with pytest.raises(SessionReadOnly, match="format 2; this agentd reads up to 1"):
        Folder.open(player.disk, PATH)


def test_a_segment_out_of_another_chain_is_damage(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", titled("x" * SEGMENT_BYTES))
    player.append("a", titled("y"))
    player.close()
    player.disk.put(journal_path("a", 2), sealed_head("a", 2, 4, 7))
    with pytest.raises(SessionReadOnly, match="continues after event 3, the segment before ends at 3"):
        Folder.open(player.disk, PATH)


def test_a_journal_that_cannot_be_read_is_said(player: Player) -> None:
    player.create("a", "t1")
    player.disk.unlink(journal_path("a"))
    with pytest.raises(StorageFailed, match="cannot be read: No such file"):
        player.folders["a"].read_events(0, 10, 2)


def test_pruning_without_a_snapshot_removes_nothing(player: Player) -> None:
    player.create("a", "t1")
    player.append("a", titled("x" * SEGMENT_BYTES))
    player.append("a", titled("y"))
    player.disk.put(layout.tasks_path(PATH), b"{")
    assert player.folders["a"].prune(9) == 0
    player.views("a")
    player.disk.hook = failing(1, EIO, "unlink")
    with pytest.raises(StorageFailed):
        player.folders["a"].prune(9)
    player.disk.hook = None
    player.close()
    player.open("a")
    assert player.folders["a"].prune(9) > 0


def test_a_creation_whose_last_sync_fails_is_taken_back(player: Player) -> None:
    player.disk.hook = failing(2, EIO, "fsync_dir")
    with pytest.raises(StorageFailed, match="session a was not written"):
        player.create("a", "t1")
    player.disk.hook = None
    assert player.disk.listdir(SESSIONS) == []


def test_tasks_that_end_with_their_creation_have_their_record(player: Player) -> None:
    events = [session_created("a"), task_created("a", "t1"), started("t1"), finished("t1")]
    Folder.create(player.disk, SESSIONS, session("a"), events)
    assert player.disk.exists(f"{PATH}/history/000004-completed-t1.json")
