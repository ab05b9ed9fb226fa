"""Nothing waits for ever: start times that come while nobody looks, needs that end at the wrong moment, waiters."""

from __future__ import annotations

import asyncio

import pytest

from agentd.clock import rfc3339
from agentd.errors import StorageFailed
from agentd.kinds.registry import Kinds
from agentd.model.requests import PolicyChanges, SessionPatch
from agentd.model.task import State
from agentd.store import commits

from .conftest import Build
from .house import House, until


async def test_a_start_time_that_came_while_no_daemon_ran_is_not_missed(build: Build) -> None:
    house = build()
    await house.open(running=False)
    await house.session()
    task = await house.submit(not_before=rfc3339(house.clock.time() + 3600))
    assert task.state is State.WAITING
    await house.close()
    again = build()
    again.clock.ahead = 3600
    await again.open()
    assert (await again.ended(task.task_id)).state is State.COMPLETED


async def test_a_start_time_that_came_while_the_disk_was_full_is_not_missed(house: House) -> None:
    await house.session()
    house.disk.refuse_write, house.disk.spared = 28, (b"task.created",)
    task = await house.submit(not_before=rfc3339(house.clock.time() + 0.05))
    await until(lambda: house.store.room.full)
    house.disk.refuse_write = None
    assert (await house.ended(task.task_id)).state is State.COMPLETED


async def test_a_queued_task_runs_after_its_session_was_poisoned_and_healed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd.store.healing.RESUME_S", 0.7)
    await house.session()
    blocker = await house.submit("while ! test -e go; do sleep 0.01; done")
    queued = await house.submit()
    delayed = await house.submit(not_before=rfc3339(house.clock.time() + 0.3))
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[blocker.task_id].state is State.RUNNING)
    house.disk.refuse_sync = 5
    with pytest.raises(StorageFailed):
        await house.submit()
    assert ledger.reason
    (house.store.path("s") / "workspace" / "go").touch()
    await asyncio.sleep(0.6)  # what tries to start in this time is refused
    house.disk.refuse_sync = None
    for task_id in (blocker.task_id, queued.task_id, delayed.task_id):
        assert (await house.ended(task_id)).state is State.COMPLETED


async def test_a_session_is_cancelled_with_what_was_just_submitted_to_wait_in_it(quiet: House) -> None:
    await quiet.session()
    needed = await quiet.submit()
    quiet.disk.go.clear()
    submitting = asyncio.create_task(quiet.submit(needs=(needed.task_id,)))
    await asyncio.sleep(0.01)
    cancelling = asyncio.create_task(quiet.service.cancel_session("s"))
    await asyncio.sleep(0.01)
    quiet.disk.go.set()
    dependent = await submitting
    await cancelling
    assert (await quiet.ended(dependent.task_id)).state in (State.CANCELLED, State.FAILED)


async def test_a_task_of_a_kind_that_is_gone_ends_and_says_so(build: Build) -> None:
    house = build()
    await house.open(running=False)
    await house.session()
    task = await house.submit()
    await house.close()
    again = build()
    again.service.kinds = Kinds()
    await again.open()
    ended = await again.ended(task.task_id)
    assert (ended.state, ended.cause and ended.cause.code) == (State.FAILED, "invalid_spec")


async def test_a_waiter_that_gives_up_leaves_nothing_behind(quiet: House) -> None:
    await quiet.session()
    task = await quiet.submit()
    waiting = asyncio.create_task(quiet.service.wait(task.task_id, 60))
    await until(lambda: quiet.service._waiters)
    waiting.cancel()
    await asyncio.wait([waiting])
    await asyncio.sleep(0)
    assert not quiet.service._waiters


async def test_what_is_needed_is_forgotten_with_its_end(house: House) -> None:
    await house.session()
    needed = await house.submit("sleep 0.05")
    later = rfc3339(house.clock.time() + 60)
    delayed = await house.submit(needs=(needed.task_id,), not_before=later)
    await house.ended((await house.submit(needs=(needed.task_id,))).task_id)
    assert house.store.entry("s").ledger.tasks[delayed.task_id].state is State.WAITING  # type: ignore[union-attr]
    assert not house.service._dependents


async def test_a_full_disk_does_not_grow_the_list_of_start_times(house: House) -> None:
    await house.session()
    await house.submit(not_before=rfc3339(house.clock.time() + 60))
    ledger = await house.store.ledger("s")
    for _ in range(5):
        house.scheduler.rolled_back(ledger)
    assert len(house.scheduler._start_times) == 1


async def test_a_session_timeout_outlives_a_full_disk(house: House) -> None:
    await house.session()
    task = await house.submit("sleep 60")
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].state is State.RUNNING)
    house.disk.refuse_write, house.disk.spared = 28, (b"session.updated",)
    await house.service.edit_session("s", SessionPatch(policy=PolicyChanges(timeout_s=0.1)), None)
    await until(lambda: house.store.room.full)
    house.disk.refuse_write = None
    ended = await house.ended(task.task_id)
    assert (ended.state, ended.cause and ended.cause.code) == (State.TIMEOUT, "session_timeout")


async def test_a_kind_that_fails_by_a_fault_of_its_own_ends_the_task(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.session()

    def fault(*args: object) -> None:
        raise KeyError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr(type(house.service.kinds["shell"]), "launch", fault)
        ended = await house.ended((await house.submit()).task_id)
    assert (ended.state, ended.cause and ended.cause.code) == (State.FAILED, "spawn_failed")
    assert (await house.ended((await house.submit()).task_id)).state is State.COMPLETED


async def test_the_end_of_a_lone_task_is_recorded_at_once_though_nobody_waits(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.session()
    monkeypatch.setattr(commits, "LAZY_S", 1000.0)
    task = await house.submit()
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].terminal)
