"""What running tasks ask, use and go on with: recorded, answered, summed, and there again after a crash."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentd.errors import Invalid, InvalidTransition
from agentd.model.events import SessionConversation
from agentd.model.launch import EndedBy, Exit
from agentd.model.reports import Conversation, NewAnswer, NewQuestion, ProgressReport, ReportedUsage
from agentd.model.session import SessionUsage
from agentd.model.task import Cause, CauseCode, State, Task
from tests.service.conftest import Build
from tests.service.house import PATIENCE_S, House, until

LATE = "2100-01-01T00:00:00.000000Z"
QUESTION = NewQuestion(ask_id="q1", prompt="Deploy?\nIt is Friday.", options=("yes", "no"))


async def running(house: House, command: str = "sleep 60", **fields: Any) -> Task:
    if "s" not in house.store.entries:
        await house.session(max_parallel=4)
    task = await house.submit(command, **fields)
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].state is State.RUNNING)
    return task


async def test_a_question_waits_until_it_is_answered(house: House) -> None:
    task = await running(house)
    asking = asyncio.create_task(house.service.ask(task.task_id, QUESTION, PATIENCE_S))
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].awaiting)
    answered = await house.service.answer(task.task_id, NewAnswer(answer="yes"), "ada")
    assert answered.awaiting is None
    told = (await asking).answered
    assert told is not None
    assert (told.ask_id, told.answer, told.by) == ("q1", "yes", "ada")
    assert await house.service.ask(task.task_id, QUESTION, PATIENCE_S) == await house.service.task(task.task_id), (
        "asked again, it has its answer"
    )


async def test_a_question_that_nobody_answers_is_still_asked_at_the_timeout(house: House) -> None:
    task = await running(house)
    first = await house.service.ask(task.task_id, QUESTION, 0)
    again = await house.service.ask(task.task_id, QUESTION, 0.01)
    assert again.awaiting == first.awaiting is not None
    assert not house.service._waiters


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (NewAnswer(answer="maybe"), Invalid),
        (NewAnswer(answer="yes", ask_id="another"), InvalidTransition),
    ],
)
async def test_an_answer_that_does_not_fit_changes_nothing(
    house: House, answer: NewAnswer, error: type[Exception]
) -> None:
    task = await running(house)
    asked = await house.service.ask(task.task_id, QUESTION, 0)
    with pytest.raises(error):
        await house.service.answer(task.task_id, answer, "ada")
    assert await house.service.task(task.task_id) == asked


async def test_only_a_running_task_asks_and_is_answered(house: House) -> None:
    await house.session()
    task = await house.ended((await house.submit()).task_id)
    with pytest.raises(InvalidTransition):
        await house.service.ask(task.task_id, QUESTION, 0)
    with pytest.raises(InvalidTransition):
        await house.service.answer(task.task_id, NewAnswer(answer="yes"), "ada")


async def test_a_question_that_is_taken_back_is_told_to_who_waits(house: House) -> None:
    task = await running(house)
    asking = asyncio.create_task(house.service.ask(task.task_id, QUESTION, PATIENCE_S))
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.tasks[task.task_id].awaiting)
    assert (await house.service.withdraw(task.task_id)).awaiting is None
    assert (await asking).answered is None


async def test_of_two_answers_at_once_one_counts_and_the_other_is_refused(house: House) -> None:
    task = await running(house)
    await house.service.ask(task.task_id, QUESTION, 0)
    asking = asyncio.create_task(house.service.ask(task.task_id, QUESTION, PATIENCE_S))
    first, second = await asyncio.gather(
        *(house.service.answer(task.task_id, NewAnswer(answer=each), "ada") for each in ("yes", "no")),
        return_exceptions=True,
    )
    assert isinstance(first, Task) and isinstance(second, InvalidTransition)
    assert (await asking).answered == first.answered is not None
    assert first.answered.answer == "yes"


async def test_an_answer_that_comes_with_the_withdrawal_of_its_question_is_refused(house: House) -> None:
    task = await running(house)
    await house.service.ask(task.task_id, QUESTION, 0)
    withdrawn, answered = await asyncio.gather(
        house.service.withdraw(task.task_id, "q1"),
        house.service.answer(task.task_id, NewAnswer(answer="yes", ask_id="q1"), "ada"),
        return_exceptions=True,
    )
    assert isinstance(withdrawn, Task) and isinstance(answered, InvalidTransition)
    assert (await house.service.task(task.task_id)).answered is None


async def test_an_answer_after_a_cancellation_is_told_while_the_task_still_runs_and_refused_once_it_has_ended(
    house: House,
) -> None:
    task = await running(house, "trap '' TERM; sleep 60")
    await house.service.ask(task.task_id, QUESTION, 0)
    cancelled, answered = await asyncio.gather(
        house.service.cancel(task.task_id), house.service.answer(task.task_id, NewAnswer(answer="yes"), "ada")
    )
    assert cancelled.cancel_requested_at is not None and answered.answered is not None
    over = await house.ended(task.task_id)
    assert over.state is State.CANCELLED and over.cause is not None and "no answer" not in over.cause.message
    with pytest.raises(InvalidTransition):
        await house.service.answer(task.task_id, NewAnswer(answer="yes"), "ada")


async def test_the_end_of_a_task_that_asks_says_so(house: House) -> None:
    task = await running(house)
    await house.service.ask(task.task_id, QUESTION, 0)
    asking = asyncio.create_task(house.service.ask(task.task_id, QUESTION, PATIENCE_S))
    cause = Cause(code=CauseCode.TIMEOUT, message="it took too long")
    await house.service.stop_tasks(await house.store.ledger("s"), {task.task_id: cause})
    asked = await asking
    assert asked.state is State.TIMEOUT
    assert asked.cause is not None
    assert asked.cause.message.endswith(" had no answer: Deploy?")


async def test_a_crash_while_a_task_asks_is_in_its_cause(build: Build) -> None:
    house = build()
    await house.open()
    task = await running(house)
    await house.service.ask(task.task_id, QUESTION, 0)
    events = house.service._recovery(await house.store.ledger("s"))
    assert [event.cause.message.endswith(" had no answer: Deploy?") for event in events] == [True]  # type: ignore[attr-defined]


async def test_what_a_task_used_is_shown_while_it_runs_and_summed_in_its_session(build: Build) -> None:
    house = build()
    await house.open()
    task = await running(house, "sleep 60 & wait")
    report = ProgressReport(
        usage=ReportedUsage(input_tokens=10, output_tokens=5, cost_usd=0.25, turns=1),
        conversation=Conversation(agent="claude", conversation_id="c-1"),
    )
    shown = await house.service.progress(task.task_id, report)
    later = ProgressReport(message="on", usage=ReportedUsage(input_tokens=30, cost_usd=0.5))
    shown = await house.service.progress(task.task_id, later)
    used = shown.attempts[-1].usage
    assert used is not None
    assert (used.input_tokens, used.output_tokens, used.cost_usd, used.turns) == (30, 5, 0.5, 1)
    await house.service.cancel(task.task_id)
    ended = await house.ended(task.task_id)
    last = ended.attempts[-1].usage
    assert last is not None
    assert (last.input_tokens, last.cost_usd) == (30, 0.5)
    assert last.user_s is not None
    session = (await house.store.ledger("s")).session
    assert session.conversations == {"claude": "c-1"}
    total = session.usage
    assert isinstance(total, SessionUsage)
    assert (total.attempts, total.input_tokens, total.output_tokens, total.cost_usd) == (1, 30, 5, 0.5)
    await house.ended((await house.submit()).task_id)
    await house.close()
    again = build()
    await again.open()
    kept = (await again.store.ledger("s")).session
    assert kept.conversations == {"claude": "c-1"}
    assert kept.usage is not None
    assert (kept.usage.attempts, kept.usage.input_tokens, kept.usage.cost_usd) == (2, 30, 0.5)


async def test_a_change_of_the_session_that_is_staged_behind_the_end_of_an_attempt_forgets_no_usage(
    build: Build,
) -> None:
    house = build()
    await house.open(running=False)
    await house.session()
    task = await house.submit()
    ledger = await house.store.ledger("s")
    await house.service.start_attempt(ledger, task, "w1", 0.0)
    house.disk.go.clear()
    exit = Exit(ended_by=EndedBy.EXIT, exit_code=0, duration_s=2.0)
    outcome = house.service.kinds["shell"].outcome(task, exit)
    staged = [
        house.service.end_attempt(ledger, task.task_id, exit, outcome),
        house.service.stage(ledger, [SessionConversation(at=LATE, agent="a", conversation_id="c")]),
    ]
    house.disk.go.set()
    await asyncio.gather(*staged)
    assert ledger.session.usage == SessionUsage(attempts=1, wall_s=2.0)
    assert ledger.session.conversations == {"a": "c"}
