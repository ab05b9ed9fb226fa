"""The agents' lists as one."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
