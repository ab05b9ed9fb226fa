"""What waits at each agent, and why."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
