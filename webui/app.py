"""The viewer as a whole: its routes, and the one way that every request takes.

The prefix is taken off, the Host is checked, then the cookie, then for writes the Origin, the role and the CSRF token;
only then a page's code sees the visit. Whatever goes wrong becomes a page or a problem document, once, in one place.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from urllib.parse import quote

import structlog
from aiohttp import web
from yarl import URL

from hosting.connections import OTHER_VERSION
from webui import actions, api, pages
from webui.assets import Assets
from webui.doorkeeper import READING, Doorkeeper
from webui.identity import Role, Seals
from webui.links import Links
from webui.login import Login
from webui.packing import packed
from webui.refusals import Refusal
from webui.rendering import Page, Renderer, wants_json
from webui.roster import Roster
from webui.routes import Handler
from webui.settings import Settings
from webui.ticks import live
from webui.upstream import Upstream
from webui.visit import Visit

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]

#: Of a form; uploads are streams and have their own.
MAX_FORM_BYTES = 2 << 20
#: No inline anything, nothing from elsewhere (CSP level 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
#: Of every answer that has none of its own.
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "agentd-web",
}
log = structlog.get_logger()


class Viewer:
    """Everything a viewer consists of; `application` is what serves."""

    def __init__(self, settings: Settings, environ: Mapping[str, str], secret: bytes) -> None:
        self.settings = settings
        self.roster = Roster(settings, environ)
        self.upstream = Upstream()
        self._links = Links(secret, time.time)
        seals = Seals(secret)
        self._doorkeeper = Doorkeeper(settings, seals)
        self._assets = Assets(settings.prefix)
        self._renderer = Renderer(self._assets, seals)
        self._login = Login(settings, self._links, self._doorkeeper, self.roster, self.upstream, self._renderer)
        self._streams: set[asyncio.Task[object]] = set()  # requests whose answer ends only when somebody leaves

    def link(self, role: Role = Role.ADMIN) -> str:
        """A path, without the prefix, that logs in once."""
        return f"/login/{self._links.make(role)}"

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(middlewares=[self._answered], client_max_size=MAX_FORM_BYTES)
        for method, path, answer in (
            ("GET", "/healthz", _healthy),
            ("GET", "/static/{name:.+}", self._static),
            ("GET", "/login", self._login.form),
            ("POST", "/login", self._login.take),
            ("GET", "/login/{link}", self._login.link),
            ("POST", "/login/{link}", self._login.take_link),
            ("POST", "/logout", self._login.leave),
        ):
            self._add(app, method, path, answer, head=True)
        for method, path, handler in pages.ROUTES:
            self._add(app, method, path, self._visited(handler), head=True)
        for method, path, handler in (("GET", "/live", live), *actions.ROUTES, *api.ROUTES):
            self._add(app, method, path, self._visited(handler))
        if self.settings.prefix:
            app.router.add_get(self.settings.prefix, self._to_root)
        app.cleanup_ctx.append(self._connected)
        app.on_response_prepare.append(self._prepared)
        app.on_shutdown.append(self._end_streams)
        return app

    def refused(self, request: web.Request, refusal: Refusal) -> web.Response:
        """The answer to a request that is refused, whoever refuses it."""
        response = self._renderer.refusal(request, refusal, self.settings.prefix)
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def _add(self, app: web.Application, method: str, path: str, answer: Answer, *, head: bool = False) -> None:
        """A route, with the prefix and without: a proxy may keep it or take it off."""
        for at in {self.settings.prefix, ""}:
            if method == "GET" and head:
                app.router.add_get(at + path, answer)
            else:
                app.router.add_route(method, at + path, answer)

    def _inside(self, request: web.Request) -> web.Request:
        """The request as it is without the prefix: what comes behind the door knows of none."""
        prefix = self.settings.prefix
        if not prefix or not request.path.startswith(prefix + "/"):
            return request
        return request.clone(rel_url=URL(str(request.rel_url)[len(prefix) :], encoded=True))

    @web.middleware
    async def _answered(self, request: web.Request, handler: Answer) -> web.StreamResponse:
        """The answer to a request, whatever happens."""
        request = self._inside(request)
        try:
            if OTHER_VERSION in request:
                raise Refusal(400, "malformed", f"{request[OTHER_VERSION]} is not spoken here")
            self._doorkeeper.check_host(request)
            if request.method not in READING:
                self._doorkeeper.check_origin(request)
            return await packed(request, await handler(request))
        except Refusal as error:
            return self.refused(request, error)
        except web.HTTPException as error:
            response = self.refused(request, _refusal_of(request, error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except ConnectionError:
            raise
        except Exception:
            request_id = secrets.token_hex(6)
            route = request.match_info.route.resource
            log.exception("request.failed", route=route and route.canonical, request_id=request_id)
            detail = f"an error of the viewer's own; its log has it under {request_id}"
            return self.refused(request, Refusal(500, "internal", detail))
        finally:
            self._streams.discard(_this_task())

    async def _prepared(self, request: web.Request, response: web.StreamResponse) -> None:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if response.content_type == "text/event-stream":
            self._streams.add(_this_task())

    async def _end_streams(self, app: web.Application) -> None:
        """Browsers come back by themselves; the viewer that stops does not wait for them to leave."""
        for task in self._streams:
            task.cancel()

    async def _connected(self, app: web.Application) -> AsyncIterator[None]:
        async with self.upstream:
            yield

    def _visited(self, handler: Handler) -> Answer:
        """A route for people who are logged in."""

        async def answer(request: web.Request) -> web.StreamResponse:
            identity = self._doorkeeper.identity(request)
            if identity is None:
                return self._turned_away(request)
            if request.method not in READING:
                await self._doorkeeper.check_write(request, identity)
            visit = Visit(request, identity, self.roster, self.upstream, self.settings)
            found = await handler(visit)
            return self._renderer.page(visit, found) if isinstance(found, Page) else found

        return answer

    def _turned_away(self, request: web.Request) -> web.StreamResponse:
        for_program = wants_json(request) or request.path.startswith("/api/") or request.path == "/live"
        if for_program or request.method not in READING:
            hint = "Open the login page; programs send a token of `agentd-web token`."
            raise Refusal(401, "unauthorized", "log in first", hint=hint)
        then = f"?next={quote(request.path_qs, safe='')}" if request.path_qs != "/" else ""
        return web.Response(status=303, headers={"Location": f"{self.settings.prefix}/login{then}"})

    async def _static(self, request: web.Request) -> web.Response:
        return self._assets.answer(request)

    async def _to_root(self, request: web.Request) -> web.Response:
        return web.Response(status=303, headers={"Location": f"{self.settings.prefix}/"})


async def _healthy(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _this_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _refusal_of(request: web.Request, error: web.HTTPException) -> Refusal:
    match error.status:
        case 404:
            return Refusal(404, "route_not_found", f"there is no page {request.path}", hint="Look at its spelling.")
        case 405:
            return Refusal(405, "method_not_allowed", f"{request.method} is not for this page")
        case 413:
            return Refusal(413, "too_large", f"a form may have {MAX_FORM_BYTES >> 20} MiB")
    return Refusal(error.status, "malformed", error.reason)
