"""The whole log of a task."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
