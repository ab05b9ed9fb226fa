"""Tasks that a task submits with its own token: named, run beside it, bounded, and cancelled with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentd.config import Limits, Workers
from agentd.errors import InvalidTransition, QueueFull
from agentd.model.requests import NewTask
from agentd.model.task import State, Task
from tests.service.conftest import Build
from tests.service.house import House, until


async def child(house: House, parent: Task, command: str = "sleep 60") -> Task:
    new = NewTask(spec={"command": command})
    return (await house.service.submit("s", new, None, "task", parent.task_id)).value


async def running(house: House, task: Task) -> Task:
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].state is State.RUNNING)
    return task


async def test_a_sub_task_runs_while_the_one_that_submitted_it_waits_for_it(house: House) -> None:
    await house.session(max_parallel=1)
    parent = await running(house, await house.submit("sleep 60"))
    behind = await house.submit()
    first = await house.ended((await child(house, parent, "true")).task_id)
    assert (first.state, first.parent_id, first.depth) == (State.COMPLETED, parent.task_id, 1)
    assert (await house.service.task(behind.task_id)).state is State.QUEUED


async def test_tasks_that_wait_for_their_sub_tasks_never_use_up_the_workers(build: Build) -> None:
    house = build(workers=Workers(min=1, max=1, grace_s=0.2))
    await house.open()
    await house.session()
    top = await running(house, await house.submit("sleep 60"))
    middle = await running(house, await child(house, top))
    assert (await house.ended((await child(house, middle, "true")).task_id)).state is State.COMPLETED
    behind = await house.submit(session_id="s")
    await house.service.cancel(top.task_id)
    assert (await house.ended(behind.task_id)).state is State.COMPLETED
    await until(lambda: len(house.engine.workers()) == 1)


async def test_a_task_is_cancelled_with_all_that_it_submitted(house: House) -> None:
    await house.session(max_parallel=1)
    top = await running(house, await house.submit("sleep 60"))
    middle = await running(house, await child(house, top))
    bottom = await running(house, await child(house, middle))
    queued = await child(house, top)
    bystander = await house.submit()
    await house.service.cancel(middle.task_id)
    ended = await house.ended(bottom.task_id)
    assert ended.cause is not None
    assert ended.cause.message == f"task {middle.task_id}, which submitted it, was cancelled by a client"
    await running(house, queued)
    await house.service.cancel(top.task_id)
    for task in (top, queued):
        assert (await house.ended(task.task_id)).state is State.CANCELLED
    assert (await house.ended(bystander.task_id)).state is State.COMPLETED


async def test_what_was_asked_to_stop_submits_nothing_more(build: Build, tmp_path: Path) -> None:
    house = build(workers=Workers(min=1, max=4, grace_s=60))
    await house.open()
    await house.session()
    parent = await running(house, await house.submit(f"trap '' TERM; until [ -e {tmp_path}/go ]; do sleep 0.01; done"))
    await house.service.cancel(parent.task_id)
    with pytest.raises(InvalidTransition, match="asked to stop"):
        await child(house, parent)
    (tmp_path / "go").touch()
    await house.ended(parent.task_id)


async def test_sub_tasks_are_bounded_in_depth_and_in_number(build: Build) -> None:
    house = build(limits=Limits(live_subtasks=2, subtask_depth=2))
    await house.open()
    await house.session(max_parallel=1)
    top = await running(house, await house.submit("sleep 60"))
    middle = await running(house, await child(house, top))
    bottom = await running(house, await child(house, middle))
    with pytest.raises(QueueFull, match="subtask_depth"):
        await child(house, bottom)
    await child(house, top)
    with pytest.raises(QueueFull, match="live_subtasks"):
        await child(house, top)


async def test_what_a_task_submits_again_is_its_sub_task_too_and_runs_while_it_waits_for_it(house: House) -> None:
    await house.session(max_parallel=1)
    parent = await running(house, await house.submit("sleep 60"))
    first = await house.ended((await child(house, parent, "false")).task_id)
    again = (await house.service.retry(first.task_id, None, parent.task_id)).value
    assert (again.parent_id, again.depth, again.retry_of) == (parent.task_id, 1, first.task_id)
    assert (await house.ended(again.task_id)).state is State.FAILED
