"""Cancel in every state, the emergency reset, the drain; also when the disk refuses."""

from __future__ import annotations

import asyncio

import pytest

from agentd.clock import rfc3339
from agentd.errors import InvalidTransition, StorageFailed
from agentd.model.events import decoded
from agentd.model.reports import ProgressReport
from agentd.model.requests import NewTask
from agentd.model.task import CauseCode, Retry, State
from tests.store.story import replayed

from .house import PATIENCE_S, House, until


async def running(house: House, command: str = "sleep 60", session_id: str = "s") -> str:
    task_id = (await house.submit(command, session_id)).task_id
    ledger = await house.store.ledger(session_id)
    await until(lambda: (task := ledger.tasks[task_id]).state is State.RUNNING and task.attempts[-1].pid)
    await until(lambda: not ledger.pending)
    return task_id


async def test_a_task_is_cancelled_in_each_state_it_can_be_in(house: House) -> None:
    await house.session()
    waiting = await house.submit(not_before=rfc3339(house.clock.time() + 60))
    assert (await house.service.cancel(waiting.task_id)).state is State.CANCELLED
    task_id = await running(house)
    queued = await house.submit()
    assert (await house.service.cancel(queued.task_id)).state is State.CANCELLED
    asked = await house.service.cancel(task_id)
    assert asked.cancel_requested_at
    assert (await house.service.cancel(task_id)).cancel_requested_at == asked.cancel_requested_at
    ended = await house.ended(task_id)
    assert (ended.state, ended.cause and ended.cause.code) == (State.CANCELLED, CauseCode.CANCELLED_BY_USER)
    for each in (waiting.task_id, queued.task_id, task_id):
        with pytest.raises(InvalidTransition):
            await house.service.cancel(each)


@pytest.mark.parametrize("tasks_kept", [0, 100])
async def test_a_task_that_has_ended_takes_no_progress_and_says_how_it_ended(house: House, tasks_kept: int) -> None:
    await house.session(tasks_kept=tasks_kept)
    task_id = (await house.submit()).task_id
    await house.ended(task_id)
    ledger = await house.store.ledger("s")
    await ledger.views.flush()
    assert (task_id in ledger.tasks) == (tasks_kept > 0)
    with pytest.raises(InvalidTransition, match="is completed"):
        await house.service.progress(task_id, ProgressReport(progress=1))


@pytest.mark.parametrize("whole_session", [False, True])
async def test_wherever_a_crash_cuts_a_cancellation_nothing_goes_on_below_what_was_cancelled(
    house: House, whole_session: bool
) -> None:
    await house.session()
    ledger = await house.store.ledger("s")
    above = [await running(house)]
    for depth in range(3):
        made = [NewTask(spec={"command": "sleep 60"})] * 2
        tasks = (await house.service.submit_batch("s", made, None, "task", above[-1])).value
        above.append(tasks[0].task_id)
        await until(lambda: ledger.tasks[above[-1]].state is State.RUNNING)
        assert tasks[0].depth == depth + 1
    await (house.service.cancel_session("s") if whole_session else house.service.cancel(above[0]))
    events = [decoded(line) for line in (await house.service.events("s", 0, 1000)).lines]
    for cut in range(1, len(events) + 1):
        left = replayed(events[:cut]).tasks
        ended = {task.task_id for task in left.values() if task.stop_cause is not None or task.state is State.CANCELLED}
        going = [t for t in left.values() if t.parent_id in ended and t.task_id not in ended and not t.terminal]
        assert not going, f"a crash after event {cut} leaves {going}"


async def test_a_task_cancelled_while_its_claim_is_written_is_never_launched(house: House) -> None:
    await house.session()
    house.disk.go.clear()
    submitting = asyncio.create_task(house.submit("touch launched"))
    ledger = await house.store.ledger("s")
    await until(lambda: ledger._head_tasks)
    (task_id,) = ledger._head_tasks
    cancelling = asyncio.create_task(house.service.cancel(task_id))
    await asyncio.sleep(0)
    house.disk.go.set()
    await submitting
    await cancelling
    ended = await house.ended(task_id)
    assert ended.state is State.CANCELLED
    assert not (house.store.path("s") / "workspace" / "launched").exists()
    assert (await house.ended((await house.submit()).task_id)).state is State.COMPLETED


async def test_a_task_cancelled_in_the_pause_before_its_retry_shows_no_next_attempt(house: House) -> None:
    await house.session()
    task_id = (await house.submit("exit 1", retry=Retry(max=1, backoff_s=60))).task_id
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task_id].next_attempt_at)
    cancelled = await house.service.cancel(task_id)
    assert (cancelled.state, cancelled.next_attempt_at) == (State.CANCELLED, None)
    assert (await house.ended((await house.submit()).task_id)).state is State.COMPLETED


async def test_a_reset_ends_the_rest_when_one_session_cannot_be_written(house: House) -> None:
    for name in ("sick", "well"):
        await house.session(name)
    well = await running(house, session_id="well")
    sick = await running(house, session_id="sick")
    ledger = await house.store.ledger("sick")
    ledger.reason = "its disk failed"
    report = await house.service.reset()
    assert report.cancelled == (well,)
    assert report.workers_replaced >= 1
    assert (await house.service.task(well)).state is State.CANCELLED
    ledger.reason = None
    assert (await house.ended(sick)).terminal
    assert not house.service._waiters


async def test_a_drain_on_a_full_disk_ends_what_runs_and_comes_to_an_end(house: House) -> None:
    await house.session()
    await running(house)
    house.disk.refuse_write = 28
    async with asyncio.timeout(30):
        await house.scheduler.drain(0, 1.0, asyncio.Event())
    assert house.engine.capacity().busy == 0
    assert not house.scheduler._work


async def test_a_drain_ends_with_cause_shutdown_what_runs_in_every_session(house: House) -> None:
    ids = []
    for n in range(3):
        await house.session(f"s{n}")
        ids.append(await running(house, session_id=f"s{n}"))
        queued = await house.submit(session_id=f"s{n}")
        assert queued.state is State.QUEUED
    await house.scheduler.drain(0, PATIENCE_S, asyncio.Event())
    for n, task_id in enumerate(ids):
        task = house.store.entry(f"s{n}").ledger.tasks[task_id]  # type: ignore[union-attr]
        assert (task.state, task.cause and task.cause.code) == (State.FAILED, CauseCode.SHUTDOWN)
        assert house.store.entry(f"s{n}").counts[State.QUEUED] == 1


async def test_a_running_task_keeps_its_place_when_the_disk_refuses(house: House) -> None:
    """One at a time, also while the end of the first cannot be written."""
    await house.session()
    first = await running(house, "while ! test -e go; do sleep 0.01; done")
    second = (await house.submit()).task_id
    ledger = await house.store.ledger("s")
    house.disk.refuse_write = 28
    (house.store.path("s") / "workspace" / "go").touch()
    await until(lambda: house.store.room.full)
    with pytest.raises(StorageFailed):
        await house.submit()
    lane = house.scheduler._lanes.of(ledger.tasks[first])
    assert lane is not None
    assert set(lane.running) == {first}
    house.disk.refuse_write = None
    assert (await house.ended(second)).state is State.COMPLETED
    one, two = ledger.tasks[first], ledger.tasks[second]
    assert one.ended_at is not None
    assert two.started_at is not None
    assert one.ended_at <= two.started_at
    assert not house.scheduler._attempts


async def test_the_status_counts_the_queue(house: House) -> None:
    await house.session()
    await running(house)
    await house.submit()
    await house.submit(not_before=rfc3339(house.clock.time() + 60))
    status = house.service.status()
    assert (status.queue.depth, status.queue.waiting, len(status.current)) == (1, 1, 1)
    assert status.queue.oldest_age_s is not None


async def test_a_second_cancellation_is_not_answered_before_the_first_is_durable(house: House) -> None:
    await house.session()
    task_id = await running(house)
    house.disk.go.clear()
    both = [asyncio.create_task(house.service.cancel(task_id)) for _ in range(2)]
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.pending)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not any(each.done() for each in both)
    house.disk.go.set()
    for task in await asyncio.gather(*both):
        assert task.stop_cause is not None


async def test_what_an_end_sets_free_starts_by_priority(quiet: House) -> None:
    await quiet.session()
    first = await quiet.submit()
    low = await quiet.submit()
    high = await quiet.submit(needs=(first.task_id,), priority=5)
    await quiet.run()
    for task in (first, low, high):
        await quiet.ended(task.task_id)
    ended = {task_id: (await quiet.service.task(task_id)).started_at for task_id in (low.task_id, high.task_id)}
    assert (ended[high.task_id] or "") < (ended[low.task_id] or "")
