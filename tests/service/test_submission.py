"""Submitting: first answers, keys, needs that end meanwhile, times that cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentd.errors import Invalid, StorageFailed, StorageFull
from agentd.model.requests import NewTask
from agentd.model.task import State

from .conftest import Build
from .house import House, key_of, until


async def forgotten(house: House, session_id: str = "s") -> str:
    """A finished task that has left memory: looking at it takes a thread."""
    task_id = (await house.submit(session_id=session_id)).task_id
    await house.ended(task_id)
    ledger = await house.store.ledger(session_id)
    await ledger.views.flush()
    assert task_id not in ledger.tasks
    return task_id


async def test_the_first_answer_and_its_repetition_are_the_same_when_a_worker_is_idle(house: House) -> None:
    await house.session()
    first = await house.submit(key="k")
    assert first.seq == 2
    await house.ended(first.task_id)
    assert await house.submit(key="k") == first


async def test_the_first_answer_to_a_retry_can_be_given_again(house: House) -> None:
    await house.session()
    task_id = (await house.submit("exit 3")).task_id
    await house.ended(task_id)
    first = await house.service.retry(task_id, key_of("again"))
    await house.ended(first.value.task_id)
    second = await house.service.retry(task_id, key_of("again"))
    assert (second.replayed, second.value) == (True, first.value)


async def test_the_first_answer_of_a_task_that_left_memory_can_be_given_again(house: House) -> None:
    await house.session(tasks_kept=0)
    first = await house.submit(key="k")
    await house.ended(first.task_id)
    ledger = await house.store.ledger("s")
    await ledger.views.flush()
    assert not ledger.tasks
    assert await house.submit(key="k") == first


async def test_one_key_makes_one_task_also_when_its_needs_are_looked_up_on_disk(house: House) -> None:
    await house.session(tasks_kept=0)
    old = await forgotten(house)
    first, second = await asyncio.gather(house.submit(key="k", needs=(old,)), house.submit(key="k", needs=(old,)))
    assert first == second
    assert (await house.store.ledger("s")).head_seq < 12


async def test_a_need_that_ends_while_another_is_looked_up_does_not_leave_a_task_waiting(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.session(tasks_kept=0)
    old = await forgotten(house)
    now = (await house.submit("read line < fifo", session_id="s")).task_id
    (house.store.path("s") / "workspace").mkdir(exist_ok=True)
    reached, go = asyncio.Event(), asyncio.Event()
    find = house.service.find

    async def slow(task_id: str):  # type: ignore[no-untyped-def]
        task = await find(task_id)
        if task_id == old:
            reached.set()
            await go.wait()
        return task

    monkeypatch.setattr(house.service, "find", slow)
    submitting = asyncio.create_task(house.submit(needs=(now, old)))
    await reached.wait()
    await until(lambda: not (task := house.store.entry("s").ledger.head(now)) or task.terminal)  # type: ignore[union-attr]
    go.set()
    try:
        task = await submitting
    except Invalid as error:
        assert "could never start" in error.detail
    else:
        assert (await house.ended(task.task_id)).terminal


async def test_a_repetition_while_the_first_is_being_refused_is_refused_too(quiet: House) -> None:
    await quiet.session()
    quiet.disk.go.clear()
    first = asyncio.create_task(quiet.submit(key="k"))
    ledger = quiet.store.entry("s").ledger
    assert ledger is not None
    await until(lambda: ledger._commits._batch is not None)
    second = asyncio.create_task(quiet.submit(key="k"))
    await asyncio.sleep(0)
    quiet.disk.refuse_sync = 28
    quiet.disk.go.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [type(each).__name__ for each in results] == [StorageFull.__name__.replace("Full", "Failed")] * 2


@pytest.mark.parametrize(
    "time", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+14:00", "2030-01-01", "2030-01-01T00:00:00"]
)
async def test_a_start_time_that_cannot_be_is_named(quiet: House, time: str) -> None:
    await quiet.session()
    with pytest.raises(Invalid, match="not_before"):
        await quiet.submit(not_before=time)


async def test_two_clients_who_wait_for_a_creation_that_fails_can_both_go_on(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = build()
    await house.open(running=False)
    house.disk.go.clear()
    sync = house.disk.fdatasync

    def refused_once(fd: int, point: str) -> None:
        try:
            sync(fd, point)
        finally:
            house.disk.refuse_sync = None  # before anybody can hear of it and try again

    monkeypatch.setattr(house.disk, "fdatasync", refused_once)
    new = NewTask(spec={"command": "true"}, session_id="new")
    submits = [asyncio.create_task(house.service.submit(None, new, None, "test")) for _ in range(3)]
    await until(lambda: "new" in house.store._creating)
    await asyncio.sleep(0)
    house.disk.refuse_sync = 5
    house.disk.go.set()
    answers = await asyncio.gather(*submits, return_exceptions=True)
    assert [type(each).__name__ for each in answers] == ["StorageFailed", "Created", "Created"]
    assert house.store.entry("new").counts == {State.QUEUED: 2}


async def test_the_key_of_a_batch_holds_after_a_restart_whatever_became_of_its_tasks(tmp_path: Path) -> None:
    batch = [NewTask(spec={"command": "true"}, name=f"n{number}") for number in range(12)]
    house = House(tmp_path / "data")
    await house.open()
    await house.session(tasks_kept=2)
    first = await house.service.submit_batch("s", batch, key_of("k"), "test")
    alone = await house.service.submit_batch(None, batch[:3], key_of("own"), "test")
    for task in first.value:
        await house.ended(task.task_id)
    await house.close()
    again = House(tmp_path / "data")
    await again.open()
    try:
        for made, session_id, size in ((first, "s", 12), (alone, None, 3)):
            name = "k" if session_id else "own"
            repeated = await again.service.submit_batch(session_id, batch[:size], key_of(name), "test")
            assert repeated.replayed
            assert repeated.value == made.value
    finally:
        await again.close()


async def test_a_batch_is_one_write(quiet: House) -> None:
    await quiet.session()
    ledger = quiet.store.entry("s").ledger
    assert ledger is not None
    written: list[int] = []
    append = ledger.folder.append
    ledger.folder.append = lambda events, *rest: (written.append(len(events)), append(events, *rest))[1]  # type: ignore[method-assign, func-returns-value]
    await quiet.service.submit_batch("s", [NewTask(spec={"command": "true"})] * 30, None, "test")
    assert written == [30]


async def test_a_batch_that_the_disk_refuses_leaves_nothing(quiet: House) -> None:
    await quiet.session()
    quiet.disk.refuse_sync = 28
    with pytest.raises(StorageFailed):
        await quiet.service.submit_batch("s", [NewTask(spec={"command": "true"})] * 30, None, "test")
    ledger = quiet.store.entry("s").ledger
    assert ledger is not None
    assert not ledger.tasks
    quiet.disk.refuse_sync = None
