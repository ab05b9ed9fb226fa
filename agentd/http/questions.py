"""What running tasks ask of people: put, answered, taken back."""

from __future__ import annotations

import asyncio
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from agentd.errors import Invalid, InvalidTransition, SessionReadOnly, StorageFull, TaskNotFound, Unavailable
from agentd.http import answers
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tasks import LOOK_S
from agentd.http.tokens import Role
from agentd.model.reports import NewAnswer, NewQuestion
from agentd.model.task import Task, Value


class AskPatience(Value, frozen=True, kw_only=True):
    """Parameters of POST /tasks/{task_id}/ask."""

    timeout_s: Annotated[float, Meta(ge=0, le=300)] = 0.0


class Withdrawn(Value, frozen=True, kw_only=True):
    """Parameters of DELETE /tasks/{task_id}/ask."""

    ask_id: Annotated[str, Meta(max_length=100)] | None = None


async def ask(call: Call) -> web.StreamResponse:
    """Put a question: 200 with the answer, 202 while there is none."""
    loop = asyncio.get_running_loop()
    end = loop.time() + call.query.timeout_s
    new: NewQuestion = call.body
    with call.seats:
        while True:
            left = end - loop.time()
            task = await call.service.ask(call.params["task_id"], new, max(0.0, min(left, LOOK_S)))
            call.check_admitted()
            waits = task.awaiting is not None and task.awaiting.ask_id == new.ask_id
            if not waits or left <= LOOK_S or not call.connected:
                break
    return answers.json(call, task, 202 if waits else 200, ETag=answers.version_tag(task.seq))


async def answer(call: Call) -> web.StreamResponse:
    """Answer what a task asks."""
    task = await call.service.answer(call.params["task_id"], call.body, call.caller.name)
    return answers.json(call, task, ETag=answers.version_tag(task.seq))


async def withdraw(call: Call) -> web.StreamResponse:
    """Take a question back."""
    task = await call.service.withdraw(call.params["task_id"], call.query.ask_id)
    return answers.json(call, task, ETag=answers.version_tag(task.seq))


_ERRORS = (Invalid, TaskNotFound, InvalidTransition, SessionReadOnly, StorageFull)

ROUTES = (
    Route(
        method="POST",
        path="/tasks/{task_id}/ask",
        name="ask",
        summary="A running task asks its user something, and waits for the answer",
        description="200 with `answered` once there is an answer, 202 while there is none: ask again, with the same"
        " `ask_id`.",
        handler=ask,
        role=Role.OPERATOR,
        for_tasks=True,
        query=AskPatience,
        body=NewQuestion,
        body_use=BodyUse.JSON,
        answers={200: Task, 202: Task},
        errors=(*_ERRORS, Unavailable),
    ),
    Route(
        method="DELETE",
        path="/tasks/{task_id}/ask",
        name="withdraw_question",
        summary="A running task takes its question back",
        handler=withdraw,
        role=Role.OPERATOR,
        for_tasks=True,
        query=Withdrawn,
        answers={200: Task},
        errors=(TaskNotFound, InvalidTransition, SessionReadOnly, StorageFull),
    ),
    Route(
        method="POST",
        path="/tasks/{task_id}/answer",
        name="answer",
        summary="Answer what a running task asks",
        handler=answer,
        role=Role.OPERATOR,
        body=NewAnswer,
        body_use=BodyUse.JSON,
        answers={200: Task},
        errors=_ERRORS,
    ),
)
