"""Tasks: submit, list, read, wait, cancel, retry, report progress."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta
from msgspec.structs import replace

from agentd.errors import (
    Conflict,
    Draining,
    Forbidden,
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    QueueFull,
    SessionNotFound,
    SessionReadOnly,
    StorageFull,
    TaskNotFound,
    Unavailable,
)
from agentd.http import answers, preconditions
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.shorthands import DockerTask, ShellTask
from agentd.http.tokens import Role
from agentd.model.reports import ProgressReport
from agentd.model.requests import BATCH_MOST, Batch, Created, NewTask, Page, TaskQuery
from agentd.model.task import State, Task, Value

#: How often a long wait looks whether its client is still there.
LOOK_S = 10.0


class Patience(Value, frozen=True, kw_only=True):
    """Parameters of GET /tasks/{task_id}/wait."""

    timeout_s: Annotated[float, Meta(ge=0, le=300)] = 60.0


async def list_tasks(call: Call) -> web.StreamResponse:
    """Answer a page of the tasks of all sessions; a task sees those of its own."""
    return answers.hashed(call, await call.service.list_tasks(call.query, call.own_session))


async def submit(call: Call) -> web.StreamResponse:
    """Take a new task into the session that the body names, or one of its own; or an array of them, all into one."""
    if not isinstance(call.body, list):
        return await _submitted(call, call.body)
    batch = [_confined(call, new, f"[{place}].") for place, new in enumerate(call.body)]
    return await _batch(call, None, batch)


async def submit_shell(call: Call) -> web.StreamResponse:
    """Take a new shell task."""
    body: ShellTask = call.body
    return await _submitted(call, body.task())


async def submit_docker(call: Call) -> web.StreamResponse:
    """Take a new container task."""
    body: DockerTask = call.body
    return await _submitted(call, body.task())


async def submit_to_session(call: Call) -> web.StreamResponse:
    """Take a new task into the session of the path, which must exist."""
    session_id = call.params["session_id"]
    if isinstance(call.body, list):
        return await _batch(call, session_id, call.body)
    made = await call.service.submit(session_id, call.body, preconditions.key(call), *_who(call))
    return _created(call, made)


async def _submitted(call: Call, new: NewTask) -> web.StreamResponse:
    new = _confined(call, new)
    return _created(call, await call.service.submit(None, new, preconditions.key(call), *_who(call)))


def _who(call: Call) -> tuple[str, str | None]:
    return call.caller.name, call.caller.task_id


def _confined(call: Call, new: NewTask, place: str = "") -> NewTask:
    if call.own_session is None:
        return new
    if new.session_id not in (None, call.own_session):
        raise Forbidden(f"a task's own token reaches its session only; leave {place}session_id out")
    return replace(new, session_id=call.own_session)


async def _batch(call: Call, session_id: str | None, batch: list[NewTask]) -> web.StreamResponse:
    made = await call.service.submit_batch(session_id, batch, preconditions.key(call), *_who(call))
    replayed = {"Idempotency_Replayed": "true"} if made.replayed else {}
    location = f"/sessions/{made.value[0].session_id}/tasks"
    return answers.json(call, Batch(data=made.value), 201, Location=location, **replayed)


def _created(call: Call, made: Created[Task]) -> web.StreamResponse:
    task = made.value
    replayed = {"Idempotency_Replayed": "true"} if made.replayed else {}
    location = f"/tasks/{task.task_id}"
    return answers.json(call, task, 201, Location=location, ETag=answers.version_tag(task.seq), **replayed)


async def show(call: Call) -> web.StreamResponse:
    """Answer one task."""
    task = await call.service.task(call.params["task_id"])
    return answers.versioned(call, task, answers.version_tag(task.seq))


async def wait(call: Call) -> web.StreamResponse:
    """Answer one task when it is terminal, or as it is at the timeout."""
    loop = asyncio.get_running_loop()
    end = loop.time() + call.query.timeout_s
    with call.seats:
        while True:
            left = end - loop.time()
            task = await call.service.wait(call.params["task_id"], max(0.0, min(left, LOOK_S)))
            call.check_admitted()
            if task.terminal or left <= LOOK_S or not call.connected:
                break
    return answers.json(call, task, ETag=answers.version_tag(task.seq))


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel a task: 202 while it still runs."""
    task = await call.service.cancel(call.params["task_id"])
    status = 202 if task.state is State.RUNNING else 200
    return answers.json(call, task, status, ETag=answers.version_tag(task.seq))


async def retry(call: Call) -> web.StreamResponse:
    """Submit an ended task again."""
    key, parent_id = preconditions.key(call), call.caller.task_id
    return _created(call, await call.service.retry(call.params["task_id"], key, parent_id))


async def progress(call: Call) -> web.StreamResponse:
    """Record how far a task is."""
    task = await call.service.progress(call.params["task_id"], call.body)
    return answers.json(call, task, ETag=answers.version_tag(task.seq))


_TASK = "/tasks/{task_id}"
_SUBMIT_ERRORS = (
    Invalid,
    SessionNotFound,
    SessionReadOnly,
    IdempotencyConflict,
    QueueFull,
    Draining,
    StorageFull,
)


_BATCH: dict[str, Any] = {
    "batch": BATCH_MOST,
    "answers": {201: (Task, Batch)},
    "description": "An array submits its tasks to one session: all of them, or none when one is refused.",
}


def _submit_route(path: str, name: str, summary: str, **more: Any) -> Route:
    shape = {"handler": submit_to_session, "body": NewTask, "answers": {201: Task}, **more}
    return Route(
        method="POST",
        path=path,
        name=name,
        summary=summary,
        role=Role.OPERATOR,
        for_tasks=True,
        body_use=BodyUse.JSON,
        key=True,
        errors=_SUBMIT_ERRORS,
        **shape,
    )


def _cancel_route(method: str, path: str, name: str) -> Route:
    return Route(
        method=method,
        path=path,
        name=name,
        summary="Cancel a task",
        description="202 while it runs and was asked to stop, 200 when it had not started.",
        handler=cancel,
        role=Role.OPERATOR,
        for_tasks=True,
        answers={200: Task, 202: Task},
        errors=(TaskNotFound, InvalidTransition, SessionReadOnly, StorageFull),
    )


ROUTES = (
    _submit_route("/sessions/{session_id}/task", "submit_to_session", "Submit a task to a session that exists"),
    _submit_route(
        "/sessions/{session_id}/tasks",
        "submit_to_session_too",
        "The same as /sessions/{session_id}/task, or a batch",
        **_BATCH,
    ),
    _submit_route(
        "/tasks",
        "submit",
        "Submit a task; the session that `session_id` names is made if absent, and one of its own without it",
        handler=submit,
        **_BATCH,
    ),
    _submit_route(
        "/tasks/shell",
        "submit_shell",
        "Submit a shell task; its spec may be given flat",
        handler=submit_shell,
        body=ShellTask,
    ),
    _submit_route(
        "/tasks/docker",
        "submit_docker",
        "Submit a container task; its spec may be given flat",
        handler=submit_docker,
        body=DockerTask,
    ),
    Route(
        method="GET",
        path="/tasks",
        name="list_tasks",
        summary="Tasks of all sessions",
        handler=list_tasks,
        role=Role.VIEWER,
        for_tasks=True,
        query=TaskQuery,
        answers={200: Page[Task]},
    ),
    Route(
        method="GET",
        path=_TASK,
        name="get_task",
        summary="One task",
        handler=show,
        role=Role.VIEWER,
        for_tasks=True,
        answers={200: Task},
        errors=(TaskNotFound,),
    ),
    Route(
        method="GET",
        path=_TASK + "/wait",
        name="wait_for_task",
        summary="The task when it is terminal, or as it is at the timeout",
        handler=wait,
        role=Role.VIEWER,
        for_tasks=True,
        query=Patience,
        answers={200: Task},
        errors=(TaskNotFound, Unavailable),
    ),
    _cancel_route("DELETE", _TASK, "delete_task"),
    _cancel_route("POST", _TASK + "/cancel", "cancel_task"),
    Route(
        method="POST",
        path=_TASK + "/retry",
        name="retry_task",
        summary="A new task from one that has ended",
        handler=retry,
        role=Role.OPERATOR,
        for_tasks=True,
        key=True,
        answers={201: Task},
        errors=(TaskNotFound, InvalidTransition, *_SUBMIT_ERRORS),
    ),
    Route(
        method="POST",
        path=_TASK + "/progress",
        name="report_progress",
        summary="Say how far a running task is",
        handler=progress,
        role=Role.OPERATOR,
        for_tasks=True,
        body=ProgressReport,
        body_use=BodyUse.JSON,
        answers={200: Task},
        errors=(Invalid, TaskNotFound, InvalidTransition, Conflict, SessionReadOnly, StorageFull),
    ),
)
