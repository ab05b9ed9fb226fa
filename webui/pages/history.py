"""Finished tasks of all agents."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
