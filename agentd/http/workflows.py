"""Workflows: validate, run, list, show, cancel, resume."""

from __future__ import annotations

from aiohttp import web

from agentd.errors import (
    Draining,
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    QueueFull,
    RunNotFound,
    SessionNotFound,
    SessionReadOnly,
    StorageFull,
    WorkflowInvalid,
)
from agentd.http import answers, preconditions
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.requests import Page
from agentd.model.run import RunState
from agentd.model.run_views import BODY_BYTES, NewRun, RunQuery, RunView, WorkflowOutline, WorkflowSource


async def validate(call: Call) -> web.StreamResponse:
    """Answer what a file describes."""
    return answers.json(call, await call.service.validate(call.body.source))


async def run(call: Call) -> web.StreamResponse:
    """Take a run."""
    session_id = call.params["session_id"]
    made = await call.service.run_workflow(session_id, call.body, preconditions.key(call), call.caller.name)
    replayed = {"Idempotency_Replayed": "true"} if made.replayed else {}
    location = f"/sessions/{session_id}/workflows/{made.value.run_id}"
    return answers.json(call, made.value, 201, Location=location, **replayed)


async def list_runs(call: Call) -> web.StreamResponse:
    """Answer a page of a session's runs."""
    return answers.hashed(call, await call.service.workflow_runs(call.params["session_id"], call.query))


async def show(call: Call) -> web.StreamResponse:
    """Answer one run."""
    return answers.hashed(call, await call.service.workflow_run(call.params["run_id"], call.params["session_id"]))


async def find(call: Call) -> web.StreamResponse:
    """Answer one run, whatever session it is of."""
    return answers.hashed(call, await call.service.workflow_run(call.params["run_id"]))


async def cancel(call: Call) -> web.StreamResponse:
    """Cancel a run: 202 while something of it still runs."""
    view = await call.service.cancel_run(call.params["session_id"], call.params["run_id"])
    return answers.json(call, view, 202 if view.state is RunState.RUNNING else 200)


async def resume(call: Call) -> web.StreamResponse:
    """Go on with a run that has ended."""
    return answers.json(call, await call.service.resume_run(call.params["session_id"], call.params["run_id"]))


_RUNS = "/sessions/{session_id}/workflows"
_RUN = _RUNS + "/{run_id}"
_CHANGES = (SessionNotFound, RunNotFound, InvalidTransition, SessionReadOnly, StorageFull)

ROUTES = (
    Route(
        method="POST",
        path="/workflows/validate",
        name="validate_workflow",
        summary="What a workflow file describes; nothing starts",
        handler=validate,
        role=Role.OPERATOR,
        body=WorkflowSource,
        body_use=BodyUse.JSON,
        body_bytes=BODY_BYTES,
        answers={200: WorkflowOutline},
        errors=(WorkflowInvalid,),
    ),
    Route(
        method="GET",
        path="/workflows/{run_id}",
        name="find_workflow_run",
        summary="One run with its steps, whatever session it is of",
        handler=find,
        role=Role.VIEWER,
        answers={200: RunView},
        errors=(RunNotFound,),
    ),
    Route(
        method="POST",
        path="/sessions/{session_id}/workflow",
        name="run_workflow",
        summary="Run a workflow in a session that exists",
        handler=run,
        role=Role.OPERATOR,
        body=NewRun,
        body_use=BodyUse.JSON,
        body_bytes=BODY_BYTES,
        key=True,
        answers={201: RunView},
        errors=(
            WorkflowInvalid,
            Invalid,
            SessionNotFound,
            SessionReadOnly,
            IdempotencyConflict,
            RunNotFound,
            QueueFull,
            Draining,
            StorageFull,
        ),
    ),
    Route(
        method="GET",
        path=_RUNS,
        name="list_workflow_runs",
        summary="The session's runs, without their steps, the newest first",
        handler=list_runs,
        role=Role.VIEWER,
        for_tasks=True,
        query=RunQuery,
        answers={200: Page[RunView]},
        errors=(SessionNotFound,),
    ),
    Route(
        method="GET",
        path=_RUN,
        name="get_workflow_run",
        summary="One run with its steps: what each needs, where it is, its task, what it handed on",
        handler=show,
        role=Role.VIEWER,
        for_tasks=True,
        answers={200: RunView},
        errors=(SessionNotFound, RunNotFound),
    ),
    Route(
        method="POST",
        path=_RUN + "/cancel",
        name="cancel_workflow_run",
        summary="Cancel a run whole, its tasks too",
        description="202 while something of it has not ended, else 200. Steps with always() or cancelled() still run.",
        handler=cancel,
        role=Role.OPERATOR,
        answers={200: RunView, 202: RunView},
        errors=_CHANGES,
    ),
    Route(
        method="POST",
        path=_RUN + "/resume",
        name="resume_workflow_run",
        summary="Go on with a run that has ended: what failed, was interrupted or cancelled runs again",
        handler=resume,
        role=Role.OPERATOR,
        answers={200: RunView},
        errors=(*_CHANGES, WorkflowInvalid, QueueFull, Draining),
    ),
)
