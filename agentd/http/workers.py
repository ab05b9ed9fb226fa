"""The pool of workers, and the queue before it."""

from __future__ import annotations

from aiohttp import web

from agentd.errors import Invalid, WorkerNotFound
from agentd.http import answers
from agentd.http.routing import BodyUse, Call, Route
from agentd.http.tokens import Role
from agentd.model.launch import Capacity
from agentd.model.requests import Page, QueueView, Scale, Window, WorkerView
from agentd.service.listing import cursor_of, key_in


async def list_all(call: Call) -> web.StreamResponse:
    """Every worker, a page of them."""
    workers = call.service.workers()
    start = max(0, key_in(call.query.cursor, "workers", int)) if call.query.cursor else 0
    end = start + call.query.limit
    following = cursor_of("workers", end) if end < len(workers) else None
    return answers.hashed(call, Page(data=workers[start:end], next=following))


async def restart(call: Call) -> web.StreamResponse:
    """Replace a worker."""
    return answers.json(call, await call.service.restart_worker(call.params["worker_id"]))


async def scale(call: Call) -> web.StreamResponse:
    """Change the bounds of the pool."""
    body: Scale = call.body
    if body.min is None and body.max is None:
        raise Invalid("say min, max or both")
    return answers.json(call, call.service.scale(body))


async def queue(call: Call) -> web.StreamResponse:
    """What is queued or waiting, and why."""
    return answers.hashed(call, call.service.queue(call.query))


ROUTES = (
    Route(
        method="GET",
        path="/workers",
        name="list_workers",
        summary="Every worker of the pool",
        handler=list_all,
        role=Role.VIEWER,
        query=Window,
        answers={200: Page[WorkerView]},
    ),
    Route(
        method="POST",
        path="/workers/{worker_id}/restart",
        name="restart_worker",
        summary="Replace a worker; what it runs ends as worker_lost",
        handler=restart,
        role=Role.ADMIN,
        answers={200: WorkerView},
        errors=(WorkerNotFound,),
    ),
    Route(
        method="POST",
        path="/workers/scale",
        name="scale_workers",
        summary="Change the bounds of the pool, until the next start",
        handler=scale,
        role=Role.ADMIN,
        body=Scale,
        body_use=BodyUse.JSON,
        answers={200: Capacity},
        errors=(Invalid,),
    ),
    Route(
        method="GET",
        path="/queue",
        name="get_queue",
        summary="What is queued or waiting, in the order in which it runs, and why each waits",
        handler=queue,
        role=Role.VIEWER,
        query=Window,
        answers={200: QueueView},
    ),
)
