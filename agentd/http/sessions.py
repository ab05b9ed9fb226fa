"""Sessions: list, create, read, edit, delete, cancel; their tasks and history."""

from __future__ import annotations

from aiohttp import web

from agentd.errors import (
    IdempotencyConflict,
    Invalid,
    PreconditionFailed,
    QueueFull,
    SessionActive,
    SessionExists,
    SessionNotFound,
    SessionReadOnly,
    StorageFull,
)
from agentd.http import answers, preconditions
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.ids import TASK_ID_LENGTH
from agentd.model.requests import NewSession, Page, SessionPatch, SessionQuery, SessionView, TaskQuery
from agentd.model.task import Task, Value


class Deletion(Value, frozen=True, kw_only=True):
    """Parameters of DELETE /sessions/{session_id}."""

    force: bool = False  #: cancel what is live first


async def list_sessions(call: Call) -> web.StreamResponse:
    """Answer a page of sessions."""
    return answers.hashed(call, await call.service.list_sessions(call.query))


async def create(call: Call) -> web.StreamResponse:
    """Make a session."""
    made = await call.service.create_session(call.body, preconditions.key(call))
    replayed = {"Idempotency_Replayed": "true"} if made.replayed else {}
    view = made.value
    return answers.json(
        call,
        view,
        201,
        Location=f"/sessions/{view.session_id}",
        ETag=answers.version_tag(view.seq),
        **replayed,
    )


async def show(call: Call) -> web.StreamResponse:
    """Answer one session with its tasks."""
    view = await call.service.session(call.params["session_id"])
    return answers.versioned(call, view, answers.version_tag(view.seq))


async def edit(call: Call) -> web.StreamResponse:
    """Change a session."""
    session_id = call.params["session_id"]
    view = await call.service.edit_session(session_id, call.body, preconditions.if_seqs(call))
    return answers.json(call, view, ETag=answers.version_tag(view.seq))


async def delete(call: Call) -> web.StreamResponse:
    """Delete a session."""
    session_id = call.params["session_id"]
    await call.service.delete_session(session_id, force=call.query.force, if_seq=preconditions.if_seqs(call))
    return answers.empty(call)


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel what is not terminal in a session."""
    tasks = await call.service.cancel_session(call.params["session_id"])
    return answers.json(call, Page(data=tasks), 202 if any(not task.terminal for task in tasks) else 200)


async def tasks(call: Call) -> web.StreamResponse:
    """Answer a page of a session's tasks."""
    return answers.hashed(call, await call.service.list_tasks(call.query, call.params["session_id"]))


async def history(call: Call) -> web.StreamResponse:
    """Answer a page of a session's finished tasks, as their records are on disk."""
    records, following = await call.service.history(call.params["session_id"], call.query)
    # A record never changes, and begins with its task's id: those name the page, a thousandth of its bytes.
    ids = b"".join([record[:_ID_BYTES] for record in records])
    return answers.hashed_text(call, answers.joined(records, next=following), of=ids)


_SESSION = "/sessions/{session_id}"
#: `{"task_id":"` and the id.
_ID_BYTES = 12 + TASK_ID_LENGTH

ROUTES = (
    Route(
        method="GET",
        path="/sessions",
        name="list_sessions",
        summary="List sessions",
        handler=list_sessions,
        role=Role.VIEWER,
        query=SessionQuery,
        answers={200: Page[SessionView]},
    ),
    Route(
        method="POST",
        path="/sessions",
        name="create_session",
        summary="Create a session",
        handler=create,
        role=Role.OPERATOR,
        body=NewSession,
        body_use=BodyUse.JSON,
        key=True,
        answers={201: SessionView},
        errors=(Invalid, SessionExists, IdempotencyConflict, QueueFull, StorageFull),
    ),
    Route(
        method="GET",
        path=_SESSION,
        name="get_session",
        summary="One session with its tasks",
        handler=show,
        role=Role.VIEWER,
        for_tasks=True,
        answers={200: SessionView},
        errors=(SessionNotFound,),
    ),
    Route(
        method="PATCH",
        path=_SESSION,
        name="edit_session",
        summary="Set title, labels, policy or archived; what is absent stays",
        handler=edit,
        role=Role.OPERATOR,
        body=SessionPatch,
        body_use=BodyUse.JSON,
        versioned=True,
        answers={200: SessionView},
        errors=(Invalid, SessionNotFound, SessionReadOnly, PreconditionFailed, StorageFull),
    ),
    Route(
        method="DELETE",
        path=_SESSION,
        name="delete_session",
        summary="Delete a session with all its files",
        handler=delete,
        role=Role.OPERATOR,
        query=Deletion,
        versioned=True,
        answers={204: None},
        errors=(SessionNotFound, SessionActive, SessionReadOnly, PreconditionFailed),
    ),
    Route(
        method="POST",
        path=_SESSION + "/cancel",
        name="cancel_session",
        summary="Cancel all its tasks that are not terminal",
        description="202 while some of them still run and were asked to stop, else 200.",
        handler=cancel,
        role=Role.OPERATOR,
        answers={200: Page[Task], 202: Page[Task]},
        errors=(SessionNotFound, SessionReadOnly, StorageFull),
    ),
    Route(
        method="GET",
        path=_SESSION + "/tasks",
        name="list_session_tasks",
        summary="Its tasks: the live ones and the latest finished ones",
        handler=tasks,
        role=Role.VIEWER,
        for_tasks=True,
        query=TaskQuery,
        answers={200: Page[Task]},
        errors=(SessionNotFound,),
    ),
    Route(
        method="GET",
        path=_SESSION + "/history",
        name="list_history",
        summary="Its finished tasks, all that are kept",
        handler=history,
        role=Role.VIEWER,
        for_tasks=True,
        query=TaskQuery,
        answers={200: Page[Task]},
        errors=(SessionNotFound,),
    ),
)
