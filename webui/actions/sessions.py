"""New session, edit, cancel, delete."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
