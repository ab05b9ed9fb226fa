"""Deleting a session: nothing is written that goes away at once, and a disk that refuses leaves what was there."""

from __future__ import annotations

import pytest

from agentd.errors import SessionNotFound, SessionReadOnly, StorageFailed
from agentd.model.task import State

from .conftest import Build
from .house import House, TroubledDisk, until


class WatchedDisk(TroubledDisk):
    """It remembers what was given a name, and may refuse to sync the directory of sessions."""

    def __init__(self) -> None:
        super().__init__()
        self.named: list[str] = []
        self.refuse_directory = False

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.named.append(target)

    def fsync_dir(self, path: str, point: str = "") -> None:
        if self.refuse_directory and point == "remove.sessions_dir":
            raise OSError(5, "Input/output error")
        super().fsync_dir(path, point)


@pytest.fixture
async def watched(build: Build) -> House:
    house = build()
    house.disk = house.store._disk = WatchedDisk()
    await house.open(running=False)
    return house


async def test_the_records_of_tasks_that_go_with_their_session_are_not_written_first(watched: House) -> None:
    assert isinstance(watched.disk, WatchedDisk)
    await watched.session()
    for _ in range(300):
        await watched.submit()
    await (await watched.store.ledger("s")).views.flush()
    watched.disk.named.clear()
    await watched.service.delete_session("s", force=True, if_seq=None)
    written = [path for path in watched.disk.named if "/history/" in path]
    assert len(written) < 100, "most records were written only to be removed"
    with pytest.raises(SessionNotFound):
        watched.store.entry("s")


async def test_a_deletion_that_the_disk_refuses_leaves_the_session_as_it_was(watched: House) -> None:
    assert isinstance(watched.disk, WatchedDisk)
    await watched.session()
    task = await watched.submit()
    await watched.service.cancel(task.task_id)
    watched.disk.refuse_directory = True
    with pytest.raises(StorageFailed):
        await watched.service.delete_session("s", force=False, if_seq=None)
    assert (await watched.service.task(task.task_id)).state is State.CANCELLED
    again = await watched.submit()
    assert (await watched.service.cancel(again.task_id)).state is State.CANCELLED
    ledger = await watched.store.ledger("s")
    await ledger.views.flush()
    assert not ledger.busy
    watched.disk.refuse_directory = False
    await watched.service.delete_session("s", force=False, if_seq=None)
    assert not watched.store.path("s").exists()


async def test_a_session_whose_journal_is_in_doubt_is_not_deleted_while_a_task_runs(house: House) -> None:
    await house.session()
    task = await house.submit("sleep 100")
    await until(lambda: (ledger := house.store.in_memory("s")) and ledger.tasks[task.task_id].state is State.RUNNING)
    house.disk.refuse_sync = 5
    with pytest.raises(StorageFailed):
        await house.submit()
    with pytest.raises(SessionReadOnly, match="s is read-only"):
        await house.service.delete_session("s", force=True, if_seq=None)
    assert house.store.path("s").exists()
    assert (await house.service.task(task.task_id)).state is State.RUNNING
    house.disk.refuse_sync = None
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.reason is None)
    await house.service.delete_session("s", force=True, if_seq=None)
    assert not house.store.path("s").exists()


async def test_an_answer_to_what_is_asked_of_a_session_that_goes_is_that_it_is_gone(house: House) -> None:
    await house.session()
    path = house.store.path("s")
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(SessionNotFound, match="lost its directory"):
        await house.service.take_edit_in("s")
