"""The viewer as a whole: its routes, and the one way that every request takes.

The Host is checked, the prefix taken off, then the cookie, then for writes the Origin and the CSRF token; only then a
page's code sees the visit. Whatever goes wrong becomes a page or a problem document, once, in one place.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import quote

import structlog
from aiohttp import web

from webui import actions, api, pages
from webui.assets import Assets
from webui.doorkeeper import Doorkeeper
from webui.identity import Role, Seals
from webui.links import Links, make_link
from webui.login import Login
from webui.refusals import Refusal
from webui.rendering import Page, Renderer, wants_json
from webui.roster import Roster
from webui.routes import Handler
from webui.settings import Settings
from webui.ticks import live
from webui.upstream import Upstream
from webui.visit import Visit

#: Of a form; uploads are streams and have their own.
MAX_FORM_BYTES = 2 << 20
#: No inline anything, nothing from elsewhere (CSP level 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
log = structlog.get_logger()


class Viewer:
    """Everything a viewer consists of; `application` is what serves."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], secret: bytes) -> None:
        self.settings = settings
        self.seals = Seals(secret)
        self.roster = Roster(settings, environ)
        self.upstream = Upstream()
        self.doorkeeper = Doorkeeper(settings, self.seals)
        self.assets = Assets(settings.prefix)
        self.renderer = Renderer(self.assets, self.seals)
        links = Links(self.seals, time.time)
        self._login = Login(settings, self.seals, links, self.doorkeeper, self.roster, self.upstream, self.renderer)

    def link(self, role: Role = Role.ADMIN) -> str:
        """A path that logs in once."""
        return f"{self.settings.prefix}/login/{make_link(self.seals, time.time(), role)}"

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._answered], client_max_size=MAX_FORM_BYTES)
        routes = app.router
        at = self.settings.prefix
        routes.add_get(f"{at}/healthz", _healthy)
        routes.add_get(f"{at}/static/{{name:.+}}", self._static)
        routes.add_get(f"{at}/login", self._login.form)
        routes.add_post(f"{at}/login", self._login.take)
        routes.add_get(f"{at}/login/{{link}}", self._login.link)
        routes.add_post(f"{at}/login/{{link}}", self._login.link)
        routes.add_post(f"{at}/logout", self._login.leave)
        routes.add_get(f"{at}/live", self._visited(live))
        for method, path, handler in (*pages.ROUTES, *actions.ROUTES, *api.ROUTES):
            routes.add_route(method, at + path, self._visited(handler))
        if at:
            routes.add_get(at, self._to_root)
        app.cleanup_ctx.append(self._connected)
        return app

    async def _connected(self, app: web.Application) -> AsyncIterator[None]:
        async with self.upstream:
            yield

    @web.middleware
    async def _answered(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """The answer to a request, whatever happens."""
        try:
            self.doorkeeper.check_host(request)
            if request.method not in ("GET", "HEAD"):
                self.doorkeeper.check_origin(request)
            response = await handler(request)
        except Refusal as error:
            response = self._refused(request, error)
        except web.HTTPException as error:
            response = self._refused(request, _refusal_of(request, error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
        except ConnectionError:
            raise
        except Exception:
            request_id = secrets.token_hex(6)
            log.exception("webui.failed", path=request.path, request_id=request_id)
            detail = f"an error of the viewer's own; its log has it under {request_id}"
            response = self._refused(request, Refusal(500, "internal", detail))
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        return self.renderer.refusal(request, refusal, self.settings.prefix)

    def _visited(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A route for people who are logged in."""

        async def answer(request: web.Request) -> web.StreamResponse:
            identity = self.doorkeeper.identity(request)
            if identity is None:
                return self._turned_away(request)
            if request.method not in ("GET", "HEAD"):
                await self.doorkeeper.check_form(request, identity)
            visit = Visit(request, identity, self.roster, self.upstream, self.settings)
            found = await handler(visit)
            return self.renderer.page(visit, found) if isinstance(found, Page) else found

        return answer

    def _turned_away(self, request: web.Request) -> web.StreamResponse:
        path = request.path.removeprefix(self.settings.prefix)
        if wants_json(request) or path.startswith("/api/") or path == "/live" or request.method != "GET":
            raise Refusal(401, "unauthorized", "log in first", hint="Open the login page.")
        then = quote(path + ("?" + request.query_string if request.query_string else ""), safe="")
        return web.Response(status=303, headers={"Location": f"{self.settings.prefix}/login?next={then}"})

    async def _static(self, request: web.Request) -> web.Response:
        return self.assets.answer(request)

    async def _to_root(self, request: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": f"{self.settings.prefix}/"})


async def _healthy(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _refusal_of(request: web.Request, error: web.HTTPException) -> Refusal:
    match error.status:
        case 404:
            return Refusal(404, "route_not_found", f"there is no page {request.path}", hint="All sessions are at /.")
        case 405:
            return Refusal(405, "method_not_allowed", f"{request.method} is not for this page")
        case 413:
            return Refusal(413, "too_large", f"a form may have {MAX_FORM_BYTES >> 20} MiB")
    return Refusal(error.status, "malformed", error.reason)
