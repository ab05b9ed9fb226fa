"""Daemons and viewers of the security tests: those of the other rooms."""

from __future__ import annotations

from tests.http.conftest import api, serve
from tests.webui.conftest import make_daemon, make_viewer

__all__ = ["api", "make_daemon", "make_viewer", "serve"]
