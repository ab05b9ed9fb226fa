"""Cleanup and the emergency reset."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
