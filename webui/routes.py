"""What a route of the viewer is: a method, a path as aiohttp writes it, and what answers a visit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from webui.rendering import Page
from webui.visit import Visit

Handler = Callable[[Visit], Awaitable[Page | web.StreamResponse]]
Route = tuple[str, str, Handler]
