"""What `check` finds, and what it mends."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

from agentd.errors import FormatTooNew, StorageFailed
from agentd.model.upkeep import CheckReport
from agentd.store import layout, quarantine
from agentd.store.check import check
from agentd.store.datadir import prepare, read_format, sweep
from tests.store.simdisk import DirOp, SimDisk
from tests.store.story import DATA, SESSIONS, Player, finished, journal_path, started, titled

PATH = f"{SESSIONS}/a"
RECORD = f"{PATH}/history/000004-completed-t1.json"


@pytest.fixture
def disk() -> SimDisk:
    """One session with a finished task and a queued one, its views written."""
    disk = SimDisk()
    disk.mkdir("/top")
    player = Player(disk)
    player.start()
    player.create("a", "t1")
    player.append("a", started("t1"), finished("t1"))
    player.append("a", titled("x" * 3000))
    player.append("a", titled("y"))
    player.views("a")
    player.close()
    disk.settle()
    return disk


def problems(report: CheckReport) -> list[tuple[str, str]]:
    return [(finding.file, finding.problem) for finding in report.findings]


def test_a_sound_store_has_no_findings(disk: SimDisk) -> None:
    before = disk.files()
    report = check(disk, DATA, repair=True)
    assert report.findings == ()
    assert (report.sessions, report.events) == (1, 6)
    assert disk.files() == before


def spoil_torn(disk: SimDisk) -> None:
    disk.put(journal_path("a", 2), disk.read(journal_path("a", 2)) + b"torn")


def spoil_snapshot(disk: SimDisk) -> None:
    disk.put(layout.tasks_path(PATH), b"{}")


def lose_snapshot(disk: SimDisk) -> None:
    disk.unlink(layout.tasks_path(PATH))


def forge_snapshot(disk: SimDisk) -> None:
    data = disk.read(layout.tasks_path(PATH)).replace(b'"shell"', b'"shall"')
    body = data.rpartition(b'"crc"')[0]
    disk.put(layout.tasks_path(PATH), body + b'"crc":"%08x"}\n' % zlib.crc32(body))


def spoil_metadata(disk: SimDisk) -> None:
    disk.put(layout.metadata_path(PATH), b'{"format": 1')


def lose_metadata(disk: SimDisk) -> None:
    disk.unlink(layout.metadata_path(PATH))


def spoil_record(disk: SimDisk) -> None:
    disk.put(RECORD, disk.read(RECORD).replace(b"shell", b"shall"))


def lose_record(disk: SimDisk) -> None:
    disk.unlink(RECORD)


def leave_half_a_file(disk: SimDisk) -> None:
    disk.put(f"{PATH}/history/.000004-completed-t1.json.tmp", b"{")


def open_up_a_file(disk: SimDisk) -> None:
    disk.chmod(journal_path("a"), 0o644)


def open_up_a_directory(disk: SimDisk) -> None:
    disk.chmod(SESSIONS, 0o755)


@pytest.mark.parametrize(
    ("spoil", "file", "problem"),
    [
        (spoil_torn, "history/events-000002.jsonl", "4 bytes from byte"),
        (spoil_snapshot, "tasks.json", "is not as it was written"),
        (lose_snapshot, "tasks.json", "is missing"),
        (forge_snapshot, "tasks.json", "differs from the journal up to event 6"),
        (spoil_metadata, "metadata.json", "cannot be used"),
        (lose_metadata, "metadata.json", "is missing"),
        (spoil_record, "history/000004-completed-t1.json", "differs from the journal"),
        (lose_record, "history/000004-completed-t1.json", "is missing"),
        (leave_half_a_file, "history/.000004-completed-t1.json.tmp", "is half of a file"),
        (open_up_a_file, "history/events-000001.jsonl", "has mode 0644, not 0600"),
        (open_up_a_directory, "sessions", "has mode 0755, not 0700"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_found_is_mended_as_it_was(
    disk: SimDisk, spoil: Callable[[SimDisk], None], file: str, problem: str
) -> None:
    sound = disk.files(SESSIONS)
    spoil(disk)
    spoilt = disk.files(SESSIONS)
    found = check(disk, DATA, repair=False)
    assert [(name, text.startswith(problem)) for name, text in problems(found)] == [(file, True)]
    assert all(finding.repaired is None for finding in found.findings)
    assert disk.files(SESSIONS) == spoilt  # it only looked
    mended = check(disk, DATA, repair=True)
    assert [name for name, _ in problems(mended)] == [file]
    assert all(finding.repaired for finding in mended.findings)
    assert disk.files(SESSIONS) == sound
    assert check(disk, DATA, repair=True).findings == ()


def test_mending_keeps_what_it_replaces(disk: SimDisk) -> None:
    for spoil in (spoil_torn, spoil_snapshot, spoil_metadata, spoil_record):
        spoil(disk)
    wrong = disk.read(RECORD)
    check(disk, DATA, repair=True)
    kept = set(disk.files(layout.quarantine_dir(DATA)).values())
    assert kept == {b"torn", b"{}", b'{"format": 1', wrong}


def test_damage_is_reported_and_left_as_it_is(disk: SimDisk) -> None:
    disk.put(journal_path("a"), disk.read(journal_path("a")).replace(b'"t1"', b'"t2"', 1))
    before = disk.files()
    report = check(disk, DATA, repair=True)
    assert len(report.findings) == 1
    assert report.findings[0].problem.startswith("damaged: events-000001.jsonl: event 2 at byte")
    assert report.findings[0].repaired is None
    assert disk.files() == before


def test_damage_that_the_snapshot_hides_is_found_too(disk: SimDisk) -> None:
    path = journal_path("a")
    disk.put(path, disk.read(path).replace(b'"completed"', b'"cancelled"'))
    assert problems(check(disk, DATA, repair=False))[0][1].startswith("damaged")


def test_strangers_and_links_are_named_and_left(disk: SimDisk) -> None:
    disk.put(f"{SESSIONS}/notes.txt", b"")
    disk.put(f"{PATH}/history/x", b"")
    disk.put(f"{PATH}/core", b"")
    number = disk._new(False)
    disk.nodes[number].link = True
    SimDisk._change_names(disk.nodes[disk._find(PATH)], DirOp("remove", "output"))
    SimDisk._change_names(disk.nodes[disk._find(PATH)], DirOp("add", "output", number))
    assert problems(check(disk, DATA, repair=True)) == [
        ("core", "is not a file of agentd"),
        ("output", "is a link, not a directory"),
        ("history/x", "is not a file of agentd"),
        ("sessions/notes.txt", "is not a session"),
    ]


def test_an_edit_by_hand_is_reported_and_left_to_the_daemon(disk: SimDisk) -> None:
    path = layout.metadata_path(PATH)
    text = disk.read(path).replace(b'"y"', b'"z"')
    disk.put(path, text)
    assert problems(check(disk, DATA, repair=True))[0][1].startswith("was edited by hand")
    assert disk.read(path) == text


def test_a_newer_data_directory_is_refused(disk: SimDisk) -> None:
    disk.put(layout.format_path(DATA), b'{"format": 2}')
    for act in (lambda: check(disk, DATA, repair=False), lambda: prepare(disk, DATA)):
        with pytest.raises(FormatTooNew, match="has format 2, this agentd reads up to 1"):
            act()


def test_a_format_file_that_cannot_be_read_is_an_error_and_no_format_is_none(disk: SimDisk) -> None:
    disk.put(layout.format_path(DATA), b"")
    with pytest.raises(StorageFailed, match="Put it back"):
        read_format(disk, DATA)
    disk.unlink(layout.format_path(DATA))
    assert read_format(disk, DATA) is None


def test_what_was_never_whole_is_swept(disk: SimDisk) -> None:
    for name in (".new-x", ".deleted-y"):
        disk.mkdir(f"{SESSIONS}/{name}")
        disk.put(f"{SESSIONS}/{name}/f", b"x")
    assert sorted(sweep(disk, SESSIONS)) == [".deleted-y", ".new-x"]
    assert disk.listdir(SESSIONS) == ["a"]


def test_quarantine_names_are_a_file_its_offset_and_its_content(disk: SimDisk) -> None:
    assert quarantine.keep(disk, PATH, "tasks.json", 7, b"x") == "a.tasks.json.7.2d711642b726"
