"""The API's table: every route, noun by noun."""

from __future__ import annotations

from agentd.http import (
    admin,
    artifacts,
    events,
    follow,
    growth,
    inputs,
    meta,
    output,
    questions,
    sessions,
    tasks,
    transfers,
    workers,
    workflows,
)
from agentd.http.routing import Route

ROUTES: tuple[Route, ...] = (
    *meta.ROUTES,
    *sessions.ROUTES,
    *transfers.ROUTES,
    *tasks.ROUTES,
    *questions.ROUTES,
    *inputs.ROUTES,
    *output.ROUTES,
    *follow.ROUTES,
    *growth.ROUTES,
    *artifacts.ROUTES,
    *events.ROUTES,
    *workflows.ROUTES,
    *workers.ROUTES,
    *admin.ROUTES,
)
