"""What running tasks ask of people, and what they are answered."""

from __future__ import annotations

import asyncio

from agentd.errors import Invalid, InvalidTransition
from agentd.model.events import TaskAnswered, TaskAwaiting
from agentd.model.reports import NewAnswer, NewQuestion
from agentd.model.task import Answer, Question, State, Task
from agentd.service.tasks import MAX_WAIT_S, TaskVerbs


class Questions(TaskVerbs):
    """Ask, answer, withdraw."""

    async def ask(self, task_id: str, new: NewQuestion, timeout_s: float) -> Task:
        """Put a running task's question, and wait for the answer: the task with `answered`, or as it is at the timeout.

        One question at a time: another `ask_id` takes the place of the one before. A question that has its answer is
        not put again.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: the task is not running.
        """
        ledger, task = await self.find_running(task_id, "asks")
        if not _is_answered(task, new.ask_id) and not _awaits(task, new.ask_id):
            question = Question(ask_id=new.ask_id, prompt=new.prompt, options=new.options, since=self.now())
            await self.stage(ledger, [TaskAwaiting(at=question.since, task_id=task_id, awaiting=question)])
        else:
            await ledger.settled()
        task = await self.find(task_id)
        if timeout_s <= 0 or task.terminal or not _awaits(task, new.ask_id):
            return task
        settled = self.when(task_id, lambda task: not _awaits(task, new.ask_id))
        try:
            async with asyncio.timeout(min(timeout_s, MAX_WAIT_S)):
                return await settled
        except TimeoutError:
            return await self.find(task_id)
        finally:
            settled.cancel()

    async def answer(self, task_id: str, new: NewAnswer, by: str) -> Task:
        """Answer what a running task asks.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: it asks nothing, or something else by now.
            Invalid: the question has options, and this is none of them.
        """
        ledger, task = await self.find_running(task_id, "is answered")
        question = task.awaiting
        if question is None or new.ask_id not in (None, question.ask_id):
            await ledger.settled()  # what is told is durable, also in a refusal
            what = "nothing" if question is None else "something else"
            raise InvalidTransition(f"task {task_id} asks {what} now; look at it again")
        if question.options and new.answer not in question.options:
            raise Invalid.field("answer", f"must be one of {', '.join(map(repr, question.options))}")
        answered = Answer(ask_id=question.ask_id, answer=new.answer, by=by, at=self.now())
        await self.stage(ledger, [TaskAnswered(at=answered.at, task_id=task_id, answered=answered)])
        return ledger.tasks.get(task_id) or await self.find(task_id)

    async def withdraw(self, task_id: str, ask_id: str | None = None) -> Task:
        """Take a running task's question back, with `ask_id` that one only; without one, no effect.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: the task is not running.
        """
        ledger, task = await self.find_running(task_id, "takes a question back")
        if task.awaiting is not None and ask_id in (None, task.awaiting.ask_id):
            await self.stage(ledger, [TaskAwaiting(at=self.now(), task_id=task_id)])
        return ledger.tasks.get(task_id) or await self.find(task_id)


def _awaits(task: Task, ask_id: str) -> bool:
    return task.state is State.RUNNING and task.awaiting is not None and task.awaiting.ask_id == ask_id


def _is_answered(task: Task, ask_id: str) -> bool:
    return task.answered is not None and task.answered.ask_id == ask_id
