"""The agents' events as one stream."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
