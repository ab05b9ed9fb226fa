"""Group commit: what is shown is durable, and what failed falls away."""

from __future__ import annotations

import asyncio
import errno
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace

from agentd.errors import InvalidTransition, SessionReadOnly, StorageFailed, StorageFull
from agentd.model.changes import new_task
from agentd.model.events import SessionCreated, SessionUpdated, TaskCreated, TaskFinished, TaskStarted
from agentd.model.session import Policy, Session, SessionChanges
from agentd.model.task import Cause, CauseCode, State, Task
from agentd.store import view_writer
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from agentd.store.hands import Hands
from agentd.store.ledger import Committed, Hooks, Ledger

AT = "2026-01-01T00:00:00.000000Z"
OK = Cause(code=CauseCode.OK, message="exit 0", exit_code=0)


class TroubledDisk(RealDisk):
    """The real disk, until it is told to refuse; counts syncs."""

    def __init__(self) -> None:
        self.refuse_write: int | None = None
        self.refuse_sync: int | None = None
        self.syncs = 0

    def write(self, fd: int, data: bytes) -> None:
        if self.refuse_write is not None:
            super().write(fd, data[: len(data) // 2])
            raise OSError(self.refuse_write, "refused")
        super().write(fd, data)

    def fdatasync(self, fd: int, point: str) -> None:
        self.syncs += 1
        if self.refuse_sync is not None:
            raise OSError(self.refuse_sync, "refused")
        super().fdatasync(fd, point)


class Room:
    """A ledger on a real directory and all it told."""

    def __init__(self, tmp_path: Path, policy: Policy | None = None) -> None:
        self.disk = TroubledDisk()
        self.sessions = tmp_path / "sessions"
        self.sessions.mkdir(mode=0o700, exist_ok=True)
        session = Session(session_id="s", created_at=AT, updated_at=AT, seq=1, policy=policy or Policy())
        folder, _ = Folder.create(self.disk, str(self.sessions), session, [SessionCreated(at=AT, session=session)])
        folder.close()
        self.committed: list[Committed] = []
        self.failed: list[StorageFailed | SessionReadOnly] = []
        self.dropped: list[str] = []
        self.pool = ThreadPoolExecutor(2)
        self.hands = Hands(2, "commit")
        self.path = self.sessions / "s"

    def open(self) -> Ledger:
        hooks = Hooks()
        hooks.on_commit = self._told
        hooks.on_failed = lambda ledger, error: self.failed.append(error)
        hooks.on_commit_latency = lambda seconds: None
        hooks.on_dropped = lambda ledger, tasks: self.dropped.extend(task.task_id for task in tasks)
        folder, loaded = Folder.open(self.disk, str(self.path))
        return Ledger(folder, loaded, hooks=hooks, committers=self.hands, viewers=self.pool)

    def _told(self, ledger: Ledger, committed: Sequence[Committed]) -> None:
        self.committed += committed


def task(task_id: str) -> Task:
    blank = Task(task_id=task_id, session_id="s", kind="shell", spec={}, state=State.QUEUED, created_at="")
    return new_task(blank, at=AT, waiting=False)


def creation(task_id: str) -> TaskCreated:
    return TaskCreated(at=AT, task_id=task_id, task=task(task_id))


def start(task_id: str) -> TaskStarted:
    return TaskStarted(at=AT, task_id=task_id, attempt=1, worker_id="w1", boot_id="b")


def finish(task_id: str) -> TaskFinished:
    return TaskFinished(at=AT, task_id=task_id, state=State.COMPLETED, cause=OK)


async def test_what_is_staged_is_on_the_head_and_shown_only_when_durable(tmp_path: Path) -> None:
    ledger = Room(tmp_path).open()
    durable = ledger.stage([creation("a")])
    head = ledger.head("a")
    assert head is not None
    assert head.state is State.QUEUED
    assert "a" not in ledger.tasks
    await durable
    assert ledger.tasks["a"] == head
    assert ledger.seq == 2
    await ledger.views.flush()


async def test_what_is_staged_in_one_turn_shares_one_sync(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    before = room.disk.syncs
    await asyncio.gather(*(ledger.stage([creation(f"t{n}"), start(f"t{n}")]) for n in range(50)))
    assert room.disk.syncs == before + 1
    assert ledger.counts == {"queued": 0, "running": 50}
    assert [each.seq for each in room.committed] == list(range(2, 102))
    await ledger.views.flush()


def large(task_id: str, batch: int = 1) -> TaskCreated:
    """A creation as large as a request may be."""
    return TaskCreated(
        at=AT, task_id=task_id, task=replace(task(task_id), spec={"command": "x" * (1 << 20)}), batch=batch
    )


async def test_more_than_is_written_at_once_goes_in_parts_that_break_no_request(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    before = room.disk.syncs
    many = [ledger.stage([large(f"t{n}")]) for n in range(20)]
    whole = ledger.stage([large("b0", batch=12), *(large(f"b{n}") for n in range(1, 12))])
    last = ledger.stage([creation("last")])
    await many[7]
    assert not many[8].done()
    assert ledger.tasks.keys() == {f"t{n}" for n in range(8)}
    await ledger.settled()
    assert all(future.done() for future in (*many, whole, last))
    assert room.disk.syncs == before + 4, "eight, eight, four and the twelve that count together, one"
    assert [each.seq for each in room.committed] == list(range(2, 35))
    await ledger.views.flush()
    ledger.folder.close()
    sizes = [path.stat().st_size for path in (room.path / "history").glob("events-*.jsonl")]
    assert max(sizes) < 17 << 20, "the limit of a segment, and of a write or a request"
    assert room.open().tasks.keys() == ledger.tasks.keys()


async def test_of_what_goes_in_parts_those_that_were_written_stay_when_the_disk_refuses(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    many = [ledger.stage([large(f"t{n}")]) for n in range(12)]
    await many[7]
    room.disk.refuse_write = errno.ENOSPC
    for future in many[8:]:
        with pytest.raises(StorageFull):
            await future
    assert (ledger.seq, ledger.head_seq, len(ledger.tasks)) == (9, 9, 8)
    room.disk.refuse_write = None
    await ledger.stage([creation("after")])
    await ledger.views.flush()
    ledger.folder.close()
    assert room.open().tasks.keys() == {*(f"t{n}" for n in range(8)), "after"}


async def test_a_step_that_is_not_legal_stages_nothing(tmp_path: Path) -> None:
    ledger = Room(tmp_path).open()
    await ledger.stage([creation("a")])
    with pytest.raises(InvalidTransition):
        ledger.stage([start("a"), start("a")])
    head = ledger.head("a")
    assert head is not None
    assert head.state is State.QUEUED
    assert ledger.head_seq == 2
    await ledger.views.flush()


async def test_a_full_disk_loses_only_what_was_never_acknowledged_and_heals(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    await ledger.stage([creation("a")])
    room.disk.refuse_write = errno.ENOSPC
    first = ledger.stage([creation("b")])
    second = ledger.stage([start("a")])
    for future in (first, second):
        with pytest.raises(StorageFull):
            await future
    assert (set(ledger.tasks), ledger.seq, ledger.head_seq) == ({"a"}, 2, 2)
    head = ledger.head("a")
    assert head is not None
    assert head.state is State.QUEUED
    assert ledger.head("b") is None
    assert len(room.failed) == 1
    room.disk.refuse_write = None
    await ledger.stage([creation("b")])
    await ledger.views.flush()
    ledger.folder.close()
    assert set(room.open().tasks) == {"a", "b"}


async def test_a_failed_sync_poisons_the_session_until_a_new_segment_takes_over(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    room.disk.refuse_sync = errno.EIO
    with pytest.raises(StorageFailed):
        await ledger.stage([creation("a")])
    assert ledger.folder.poisoned
    with pytest.raises(SessionReadOnly):
        await ledger.stage([creation("a")])
    room.disk.refuse_sync = None
    ledger.folder.resume()
    await ledger.stage([creation("c")])
    await ledger.views.flush()
    ledger.folder.close()
    assert set(room.open().tasks) == {"c"}


async def test_views_follow_the_journal_and_drop_old_finished_tasks(tmp_path: Path) -> None:
    room = Room(tmp_path, Policy(tasks_kept=2))
    ledger = room.open()
    for n in range(5):
        await ledger.stage([creation(f"t{n}"), start(f"t{n}"), finish(f"t{n}")])
    await ledger.views.flush()
    snapshot = json.loads((room.path / "tasks.json").read_text())
    assert snapshot["seq"] == ledger.seq == 16
    assert [each["task_id"] for each in snapshot["tasks"]] == ["t3", "t4"] == list(ledger.tasks)
    assert len(list((room.path / "history").glob("*-completed-*.json"))) == 5


async def test_a_lazy_record_waits_for_company(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    await ledger.stage([creation("a"), start("a")])
    before = room.disk.syncs
    lazy = ledger.stage([SessionUpdated(at=AT, changes=SessionChanges(title="x"))], lazily=True)
    await ledger.stage([finish("a")])
    assert lazy.done()
    assert room.disk.syncs == before + 1
    await ledger.views.flush()


async def test_a_lazy_record_that_nobody_joins_goes_by_itself_and_sooner_when_somebody_waits(tmp_path: Path) -> None:
    ledger = Room(tmp_path).open()
    await ledger.stage([creation("a"), start("a")])
    await ledger.stage([SessionUpdated(at=AT, changes=SessionChanges(title="x"))], lazily=True)
    lazy = ledger.stage([finish("a")], lazily=True)
    ledger.hurry()
    await asyncio.sleep(0)  # the next turn of the loop begins the batch
    assert ledger._commits._batch is not None
    await lazy
    await ledger.views.flush()


async def test_a_lazy_record_staged_while_a_batch_is_written_waits_for_company_too(tmp_path: Path) -> None:
    room = Room(tmp_path)
    ledger = room.open()
    before = room.disk.syncs
    first = ledger.stage([creation("a"), start("a")])
    await asyncio.sleep(0)
    assert ledger._commits._batch is not None
    lazy = ledger.stage([finish("a")], lazily=True)
    await first
    assert not lazy.done()
    await ledger.stage([creation("b")])
    assert lazy.done()
    assert room.disk.syncs == before + 2
    await ledger.views.flush()


async def test_settled_waits_for_everything_staged_so_far(tmp_path: Path) -> None:
    ledger = Room(tmp_path).open()
    futures = [ledger.stage([creation(f"t{n}")]) for n in range(3)]
    await ledger.settled()
    assert all(future.done() for future in futures)
    assert len(ledger.tasks) == 3
    await ledger.views.flush()


async def test_after_a_crash_a_finished_task_stays_in_memory_until_its_record_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view_writer, "LAG_S", 3600.0)
    room = Room(tmp_path, Policy(tasks_kept=1))
    ledger = room.open()
    await ledger.stage([creation("live")])  # so that the session is never at rest, and the views wait
    for n in range(3):
        await ledger.stage([creation(f"t{n}"), start(f"t{n}"), finish(f"t{n}")])
    ledger.abandon()  # as if killed before any view was written
    ledger.folder.close()
    again = room.open()
    assert set(again.tasks) == {"live", "t0", "t1", "t2"}
    await again.views.flush()
    assert set(again.tasks) == {"live", "t2"}
    assert set(room.dropped) == {"t0", "t1"}
    assert len(list((room.path / "history").glob("*-completed-*.json"))) == 3


async def test_a_session_at_rest_does_not_wait_to_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view_writer, "LAG_S", 3600.0)
    room = Room(tmp_path)
    ledger = room.open()
    await ledger.stage([creation("a")])
    await ledger.stage([start("a"), finish("a")])
    async with asyncio.timeout(30):
        while ledger.busy:  # noqa: ASYNC110 - nothing tells when views are written
            await asyncio.sleep(0)
    assert json.loads((room.path / "tasks.json").read_text())["seq"] == ledger.seq
