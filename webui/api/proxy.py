"""The agents' own endpoints, passed through."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
