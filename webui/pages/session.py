"""One session: its tasks, timeline, events, artifacts and actions."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
