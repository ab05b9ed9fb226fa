"""Who is logged in, and for admins how the viewer and its agents are set up."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
