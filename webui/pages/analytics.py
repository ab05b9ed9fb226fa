"""Counts and durations by day, causes, the slowest."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
