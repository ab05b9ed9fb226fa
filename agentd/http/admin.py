"""Care of the daemon: retention now, verifying the store, the emergency reset, the end."""

from __future__ import annotations

from aiohttp import web

from agentd.http import answers
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.task import Value
from agentd.model.upkeep import CheckReport, CleanupReport, ResetReport


class Rehearsal(Value, frozen=True, kw_only=True):
    """Parameters of POST /admin/cleanup."""

    dry_run: bool = False


class Stopping(Value, frozen=True, kw_only=True):
    """What POST /shutdown answers."""

    state: str
    drain_s: float


async def cleanup(call: Call) -> web.StreamResponse:
    """Apply retention now, or say what it would remove."""
    return answers.json(call, await call.service.cleanup(dry_run=call.query.dry_run))


async def check(call: Call) -> web.StreamResponse:
    """Verify the store."""
    return answers.json(call, await call.service.check())


async def reset(call: Call) -> web.StreamResponse:
    """End everything that is live and replace the workers."""
    return answers.json(call, await call.service.reset())


async def shutdown(call: Call) -> web.StreamResponse:
    """Begin to drain."""
    call.service.shutdown()
    return answers.json(call, Stopping(state="draining", drain_s=call.service.settings.drain_s), 202)


ROUTES = (
    Route(
        method="POST",
        path="/admin/cleanup",
        name="cleanup",
        summary="Apply retention now; with dry_run only say what would go",
        handler=cleanup,
        role=Role.ADMIN,
        query=Rehearsal,
        answers={200: CleanupReport},
    ),
    Route(
        method="POST",
        path="/admin/check",
        name="check",
        summary="Verify the whole store",
        handler=check,
        role=Role.ADMIN,
        answers={200: CheckReport},
    ),
    Route(
        method="POST",
        path="/admin/reset",
        name="reset",
        summary="Emergency: end all that is live, replace every worker, say what was done",
        handler=reset,
        role=Role.ADMIN,
        answers={200: ResetReport},
    ),
    Route(
        method="POST",
        path="/shutdown",
        name="shutdown",
        summary="Drain and stop: running tasks get drain_s, queued ones stay queued",
        handler=shutdown,
        role=Role.ADMIN,
        answers={202: Stopping},
    ),
)
