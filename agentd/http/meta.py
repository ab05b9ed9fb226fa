"""What the daemon says of itself: health, readiness, status, metrics, and the description of this API."""

from __future__ import annotations

from typing import Literal

from aiohttp import web
from msgspec.structs import replace

from agentd import __version__
from agentd.errors import Draining, StorageFailed, StorageFull, Unavailable
from agentd.http import answers
from agentd.http.metrics import CONTENT_TYPE
from agentd.http.openapi import document
from agentd.http.routing import Call, Handler, Route
from agentd.http.tokens import Role
from agentd.model.task import Value
from agentd.service import Status


class Health(Value, frozen=True, kw_only=True):
    """What GET /healthz and GET /readyz answer."""

    status: Literal["ok"] = "ok"
    version: str = __version__


async def health(call: Call) -> web.StreamResponse:
    """The daemon answers."""
    return answers.json(call, Health())


async def ready(call: Call) -> web.StreamResponse:
    """The daemon takes work."""
    service = call.service
    if service.runner.draining:
        raise Draining("the daemon is stopping and takes no new work")
    disk = service.disk()
    if disk.full:
        raise StorageFull("the disk is full; writing resumes when there is room")
    if disk.refusal:
        raise StorageFailed(disk.refusal)
    if service.runner.capacity().degraded:
        raise Unavailable("workers are lost faster than workers.max_restarts a minute; see the daemon's log")
    return answers.json(call, Health())


async def status(call: Call) -> web.StreamResponse:
    """What the daemon is and does now; a task sees no tasks but those of its session."""
    found = call.service.status()
    if call.own_session is not None:
        own = tuple(task for task in found.current if task.session_id == call.own_session)
        found = replace(found, current=own)
    return answers.json(call, found)


async def expose(call: Call) -> web.StreamResponse:
    """Every metric."""
    return web.Response(body=call.metrics.exposition(), headers=answers.headers(call, CONTENT_TYPE))


async def describe(call: Call) -> web.StreamResponse:
    """What this API is."""
    return answers.hashed_text(call, document(call.table, tuple(call.service.kinds.values())))


def _get(
    path: str,
    name: str,
    summary: str,
    handler: Handler,
    role: Role | None,
    answer: object,
    errors: tuple[type[Unavailable] | type[StorageFailed], ...] = (),
    *,
    for_tasks: bool = False,
) -> Route:
    return Route(
        method="GET",
        path=path,
        name=name,
        summary=summary,
        handler=handler,
        role=role,
        for_tasks=for_tasks,
        answers={200: answer},
        errors=errors,
    )


_NOT_READY = (Draining, StorageFailed, StorageFull, Unavailable)

ROUTES = (
    _get("/healthz", "health", "Whether the daemon answers; needs no token", health, None, Health),
    _get("/readyz", "ready", "Whether it takes work", ready, Role.VIEWER, Health, _NOT_READY),
    _get("/status", "status", "What the daemon is and does now", status, Role.VIEWER, Status, for_tasks=True),
    _get("/metrics", "metrics", "Prometheus metrics", expose, Role.VIEWER, "text/plain"),
    _get("/openapi.json", "openapi", "This API as an OpenAPI 3.1 document", describe, Role.VIEWER, dict),
)
