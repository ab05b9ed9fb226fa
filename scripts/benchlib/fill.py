"""Data directories of any size, written by the store's own code, only without waiting for the disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec.structs import replace

from agentd.clock import rfc3339
from agentd.model.changes import new_task
from agentd.model.events import AttemptEnd, Event, SessionCreated, TaskCreated, TaskFinished, TaskStarted
from agentd.model.ids import new_task_id
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode, State, Task
from agentd.store.datadir import prepare
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from agentd.store.layout import sessions_dir
from agentd.store.replay import Finished, Replay
from agentd.store.views import view_of

BEGAN = 1_700_000_000.0
BATCH = 1000
OK = Cause(code=CauseCode.OK, message="exited with 0", exit_code=0)


class Unsynced(RealDisk):
    """Waits for nothing: what is written here is read back in the same minute."""

    def fsync(self, fd: int, point: str) -> None:
        pass

    def fdatasync(self, fd: int, point: str) -> None:
        pass

    def fsync_dir(self, path: str, point: str = "") -> None:
        pass


def fill(data_dir: Path, sessions: int, tasks_each: int, first: int = 0) -> None:
    """Sessions in which every task has completed, numbered from `first`; each begins when the one before has ended."""
    disk = Unsynced()
    prepare(disk, str(data_dir))
    for number in range(first, first + sessions):
        _session(disk, str(data_dir), f"bench-{number:05}", tasks_each, BEGAN + number * tasks_each)


def _session(disk: Unsynced, data_dir: str, session_id: str, tasks: int, began: float) -> None:
    at = rfc3339(began)
    first = SessionCreated(at=at, session=Session(session_id=session_id, created_at=at, updated_at=at))
    folder, appended = Folder.create(disk, sessions_dir(data_dir), first.session, [first])
    replay = Replay()
    replay.apply(first, 1)
    for begin in range(0, tasks, BATCH):
        batch = [event for n in range(begin, min(tasks, begin + BATCH)) for event in life(session_id, n, began)]
        appended = folder.append(batch, replay.seq + 1)
        for event in batch:
            replay.apply(event, replay.seq + 1)
        ended = [
            Finished(seq, task.state, task_id, msgspec.json.encode(task))
            for task_id, (seq, task) in replay.ended.items()
        ]
        folder.write_views(replace(view_of(replay, appended.position), finished=ended))
        replay.ended.clear()
    folder.close()


def life(session_id: str, number: int, began: float = BEGAN) -> Iterator[Event]:
    """A new task: created, started, completed."""
    at = rfc3339(began + number)
    task_id = new_task_id(session_id)
    task = Task(
        task_id=task_id, session_id=session_id, kind="shell", spec={"argv": ["make", f"target-{number}"]},
        state=State.QUEUED, created_at=at, name=f"build {number}",
    )  # fmt: skip
    end = AttemptEnd(cause=OK, duration_s=1.25, output_bytes=4096)
    yield TaskCreated(at=at, task_id=task_id, task=new_task(task, at=at, waiting=False))
    yield TaskStarted(at=at, task_id=task_id, attempt=1, worker_id="w1", boot_id="bench", wait_s=0.001)
    yield TaskFinished(at=at, task_id=task_id, state=State.COMPLETED, cause=OK, end=end)
