"""Upload, download and delete artifacts."""

from __future__ import annotations

from webui.routes import Route

ROUTES: tuple[Route, ...] = ()
