"""What running tasks are given to read, and how large their terminals are."""

from __future__ import annotations

from aiohttp import web

from agentd.errors import Conflict, InputFull, Invalid, InvalidTransition, SessionReadOnly, TaskNotFound
from agentd.http import answers
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.reports import InputTaken, NewInput, NewSize
from agentd.model.task import Task


async def give(call: Call) -> web.StreamResponse:
    """Hand a task what it is to read."""
    return answers.json(call, await call.service.input(call.params["task_id"], call.body))


async def resize(call: Call) -> web.StreamResponse:
    """Change the size of a task's terminal."""
    task = await call.service.resize(call.params["task_id"], call.body)
    return answers.json(call, task, ETag=answers.version_tag(task.seq))


_ERRORS = (Invalid, TaskNotFound, InvalidTransition, SessionReadOnly, Conflict)

ROUTES = (
    Route(
        method="POST",
        path="/tasks/{task_id}/input",
        name="give_input",
        summary="Write to the input of a running interactive task",
        description="Answered when it is handed to the task's worker. What was sent is not recorded.",
        handler=give,
        role=Role.OPERATOR,
        body=NewInput,
        body_use=BodyUse.JSON,
        answers={200: InputTaken},
        errors=(*_ERRORS, InputFull),
    ),
    Route(
        method="POST",
        path="/tasks/{task_id}/terminal",
        name="resize_terminal",
        summary="Change the size of a running interactive task's terminal",
        handler=resize,
        role=Role.OPERATOR,
        body=NewSize,
        body_use=BodyUse.JSON,
        answers={200: Task},
        errors=_ERRORS,
    ),
)
