"""One bit of one file of a data directory flipped, and what must hold then."""

from __future__ import annotations

import msgspec

from agentd.errors import AgentdError, FormatTooNew, Invalid, SessionReadOnly, StorageFailed
from agentd.store import layout
from agentd.store.check import check
from agentd.store.datadir import prepare, sweep
from agentd.store.edits import edited
from agentd.store.folder import Folder, Loaded
from tests.store.simdisk import SimDisk
from tests.store.story import (
    DATA,
    SEGMENT_BYTES,
    SESSIONS,
    Player,
    finished,
    journal_path,
    progressed,
    records_of,
    started,
    titled,
)

PATH = f"{SESSIONS}/a"

#: What may become of a flip in each kind of file; see Flips.
MAY_BECOME = {
    "format.json": {"told"},
    "journal": {"told"},
    "journal, its end": {"told", "kept"},
    "tasks.json": {"kept"},
    "metadata.json": {"an edit", "harmless"},
    "record": {"found"},
}


def with_bit_flipped(data: bytes, bit: int) -> bytes:
    """The bytes with this one of their bits the other way round."""
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << (bit % 8)
    return bytes(flipped)


class Flips:
    """A small data directory: session `a` with two segments and records, session `b` beside it.

    `flip` flips a bit of a file, acts as a start, a reader and a check do, and gives what became of it:

    told        whoever opens or reads the session, or starts, is told so
    kept        the bytes are in quarantine and the file is made again
    an edit     it cannot be told from an edit by hand, and is taken or refused as one
    found       nothing that is served comes from it; the check finds it
    harmless    nothing says otherwise than before
    """

    def __init__(self) -> None:
        disk = SimDisk()
        disk.mkdir("/top")
        self.player = player = Player(disk)
        player.start()
        player.create("b", "u1")
        player.create("a", "t1", "t2", "t3")
        player.append("a", *(started(task) for task in ("t1", "t2", "t3")))
        player.append("a", finished("t1"), finished("t2"))
        while not disk.exists(journal_path("a", 2)):
            player.append("a", titled("x" * 400))
        player.append("a", progressed("t3"))
        player.views("a")
        player.views("b")
        player.append("a", finished("t3"))  # after the snapshot: what a crash leaves
        player.close()
        disk.settle()
        self.disk = disk
        self.acked = player.memories["a"].acked
        self.record = next(r for r in records_of(self.acked) if r.task_id == "t1")
        first, whole = self._opened(disk.fork())
        self.state, self.lines = first, whole
        self.other = dict(disk.files(f"{SESSIONS}/b"))

    def files(self) -> dict[str, str]:
        """One file of each kind."""
        return {
            "format.json": layout.format_path(DATA),
            "journal": journal_path("a", 1),
            "journal, its end": journal_path("a", 2),
            "tasks.json": layout.tasks_path(PATH),
            "metadata.json": layout.metadata_path(PATH),
            "record": layout.record_path(PATH, self.record.seq, self.record.state, self.record.task_id),
        }

    @staticmethod
    def _opened(disk: SimDisk) -> tuple[Loaded, list[bytes]]:
        prepare(disk, DATA)
        sweep(disk, SESSIONS)
        folder, loaded = Folder.open(disk, PATH, segment_bytes=SEGMENT_BYTES)
        try:
            lines: list[bytes] = []
            while len(lines) < loaded.seq:
                lines += folder.read_events(len(lines), 5, loaded.seq)[0]
        finally:
            folder.close()
        return loaded, lines

    def bits(self, path: str) -> int:
        """How many bits the file has."""
        return len(self.disk.read(path)) * 8

    def flip(self, path: str, bit: int) -> str:
        """What becomes of it. AssertionError: what may not."""
        disk = self.disk.fork()
        disk.settle()
        before = disk.read(path)
        disk.put(path, with_bit_flipped(before, bit))
        rotten = disk.read(path)
        try:
            became = self._became(disk, path, rotten)
        except (SessionReadOnly, StorageFailed, FormatTooNew) as error:
            assert len(error.detail) > 10, "it is not said what is wrong"
            became = "told"
            if isinstance(error, SessionReadOnly):
                assert disk.read(path) == rotten, "damage was touched"
                assert Folder.read_damaged(disk, PATH).session.session_id == "a"
        now = dict(disk.files(f"{SESSIONS}/b"))
        assert now == self.other, "another session was touched"
        return became

    def _became(self, disk: SimDisk, path: str, rotten: bytes) -> str:
        loaded, lines = self._opened(disk)
        kept = rotten in disk.files(f"{DATA}/quarantine").values()
        if loaded.torn:
            assert lines == self.lines[: len(lines)], "what is left is not what was written"
            assert len(self.lines) - len(lines) <= 1, "more than the last batch was given up"
            cut = rotten[len(disk.read(path)) :]
            assert cut in disk.files(f"{DATA}/quarantine").values(), "bytes were cut and not kept"
            return "kept"
        same = msgspec.structs.replace(loaded, edited=False, metadata=None, stale=False)
        assert same == msgspec.structs.replace(self.state, metadata=None, stale=False), "it is not what was shown"
        assert lines == self.lines, "it does not read as what was written"
        if loaded.edited:
            return self._as_an_edit(loaded)
        if kept:
            return "kept"
        findings = check(disk, DATA, repair=False).findings
        if findings:
            assert any(path.endswith(each.file) for each in findings), findings
            check(disk, DATA, repair=True)
            left = check(disk, DATA, repair=False).findings
            assert not left or path == journal_path("a", 1), left
            return "found"
        return "harmless"

    @staticmethod
    def _as_an_edit(loaded: Loaded) -> str:
        try:
            changes = edited(loaded.session, loaded.metadata or b"")
        except (Invalid, AgentdError):
            return "an edit"
        return "an edit" if changes is not None else "harmless"
