"""One task: attempts, cause, transitions, usage, log."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
