"""Budgets of sessions: what reaches one is ended, and nothing more of its session starts until there is more."""

from __future__ import annotations

import asyncio

from agentd.model.reports import ProgressReport, ReportedUsage
from agentd.model.requests import AskedBudget, PolicyChanges, SessionPatch, Window
from agentd.model.task import State, Task
from tests.service.conftest import Build
from tests.service.house import House, until


async def running(house: House, command: str = "sleep 60") -> Task:
    task = await house.submit(command)
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].state is State.RUNNING)
    return task


def cause_of(task: Task) -> tuple[str, str]:
    assert task.cause is not None
    return task.cause.code.value, task.cause.message


async def reasons(house: House) -> list[str]:
    return [item.reason for item in house.scheduler.queue(Window()).data]


async def test_a_task_that_reaches_the_budget_is_ended_and_holds_the_queue_of_its_session(house: House) -> None:
    await house.session(budget=AskedBudget(max_cost_usd=1))
    await house.session("other")
    first, second = await running(house), await house.submit()
    await house.service.progress(first.task_id, ProgressReport(usage=ReportedUsage(cost_usd=0.5)))
    await house.service.progress(first.task_id, ProgressReport(usage=ReportedUsage(cost_usd=1.25)))
    ended = await house.ended(first.task_id)
    why = "the session has cost 1.25 USD of max_cost_usd 1"
    assert (ended.state, *cause_of(ended)) == (State.FAILED, "budget", why)
    assert await reasons(house) == [why]
    await house.ended((await house.submit(session_id="other")).task_id)
    assert (await house.service.task(second.task_id)).state is State.QUEUED
    more = SessionPatch(policy=PolicyChanges(budget=AskedBudget(max_cost_usd=2)))
    await house.service.edit_session("s", more, None)
    assert (await house.ended(second.task_id)).state is State.COMPLETED


async def test_tokens_of_all_attempts_count_together(house: House) -> None:
    await house.session(budget=AskedBudget(max_tokens=100))
    for n, tokens in enumerate((40, 40), 1):
        task = await running(house, f"until test -e go{n}; do sleep 0.01; done")
        usage = ReportedUsage(input_tokens=tokens - 1, output_tokens=1)
        await house.service.progress(task.task_id, ProgressReport(usage=usage))
        (house.store.path("s") / "workspace" / f"go{n}").touch()
        assert (await house.ended(task.task_id)).state is State.COMPLETED
    task = await running(house)
    await house.service.progress(task.task_id, ProgressReport(usage=ReportedUsage(input_tokens=20)))
    assert cause_of(await house.ended(task.task_id)) == (
        "budget",
        "the session has used 100 tokens of max_tokens 100",
    )


async def test_a_budget_of_time_is_kept_without_a_word_of_the_task(house: House) -> None:
    await house.session(budget=AskedBudget(max_wall_s=0.3), max_parallel=2)
    one, two = await running(house), await running(house)
    ends = await asyncio.gather(*(house.ended(task.task_id) for task in (one, two)))
    assert {cause_of(task)[0] for task in ends} == {"budget"}
    assert "of max_wall_s 0.3" in cause_of(ends[0])[1]


async def test_a_start_holds_what_has_no_budget_left(build: Build) -> None:
    house = build()
    await house.open()
    await house.session(budget=AskedBudget(max_cost_usd=1))
    first, second = await running(house), await house.submit()
    await house.service.progress(first.task_id, ProgressReport(usage=ReportedUsage(cost_usd=1)))
    await house.ended(first.task_id)
    await house.close()
    again = build()
    await again.open()
    assert (await again.service.task(second.task_id)).state is State.QUEUED
    assert await reasons(again) == ["the session has cost 1 USD of max_cost_usd 1"]
    await again.service.edit_session("s", SessionPatch(policy=PolicyChanges(budget=None)), None)
    assert (await again.ended(second.task_id)).state is State.COMPLETED


async def test_a_budget_that_is_set_when_it_is_used_up_ends_what_runs(house: House) -> None:
    await house.session()
    task = await running(house)
    await house.service.progress(task.task_id, ProgressReport(usage=ReportedUsage(cost_usd=3)))
    tight = SessionPatch(policy=PolicyChanges(budget=AskedBudget(max_cost_usd=0)))
    await house.service.edit_session("s", tight, None)
    assert cause_of(await house.ended(task.task_id))[0] == "budget"
