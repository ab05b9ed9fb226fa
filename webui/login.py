"""Coming in and going out: by a one-time link, or by a token that an agent knows."""

from __future__ import annotations

import time
from urllib.parse import quote

import structlog
from aiohttp import web

from webui.contact import Status
from webui.doorkeeper import Doorkeeper
from webui.failures import Failures
from webui.forms import fields_of
from webui.identity import Identity, Role, new_sid
from webui.links import Links
from webui.refusals import Refusal, unknown_agent
from webui.rendering import Renderer
from webui.roster import Roster
from webui.settings import Settings
from webui.upstream import Upstream

#: How long an agent may take to say whether it knows a token.
ASK_S = 5.0
#: Of the token itself; the longest that an agent makes has 160.
_MAX_TOKEN = 1000
log = structlog.get_logger()


class Login:
    """The routes that need no login."""

    def __init__(
        self,
        settings: Settings,
        links: Links,
        doorkeeper: Doorkeeper,
        roster: Roster,
        upstream: Upstream,
        renderer: Renderer,
    ) -> None:
        self._settings = settings
        self._links = links
        self._doorkeeper = doorkeeper
        self._failures = Failures(settings.trust_forwarded)
        self._roster = roster
        self._upstream = upstream
        self._renderer = renderer

    async def form(self, request: web.Request) -> web.Response:
        """The page that asks for a token; `?agent=` is chosen already, `?next=` is where it goes on to."""
        return self._form(request.query.get("agent", ""), request.query.get("next", ""))

    async def link(self, request: web.Request) -> web.Response:
        """The page of a one-time link. Its script sends the form: what only fetches links must not use them up."""
        response = self._renderer.bare("link.html", prefix=self._settings.prefix, link=request.match_info["link"])
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    async def take_link(self, request: web.Request) -> web.Response:
        """Log in by a one-time link."""
        role = self._links.take(request.match_info["link"])
        if role is None:  # a good one always passes: nobody can lock its owner out
            self._failures.check(request)
            self._failed(request, "link")
            raise Refusal(
                403,
                "link_used",
                "this link has been used or has expired",
                hint="Make a new one with `agentd-web link`, or log in with a token.",
            )
        identity = Identity(sid=new_sid(), role=role, configured=role, expires_at=self._expires_at())
        return self._enter(request, identity)

    async def take(self, request: web.Request) -> web.Response:
        """Log in by a token of one agent; another login keeps the tokens of the others."""
        self._failures.check(request)
        form = await fields_of(request)
        name, then = str(form.get("agent", "")), str(form.get("next", ""))
        token = str(form.get("token", "")).strip()
        agent = self._roster.named(name)
        if agent is None:
            raise unknown_agent(name)
        if not (0 < len(token) <= _MAX_TOKEN and token.isascii() and token.isprintable()):
            return self._form(name, then, "Paste a token: one line, as the file `token` has it.", 422)
        with self._failures.trying(request):
            answer = await self._upstream.ask(agent, "GET", "/status", token=token, within_s=ASK_S)
        if answer.contact.status is Status.UNAUTHORIZED:
            self._failed(request, name)
            return self._form(name, then, f"{name} does not know this token.", 403)
        if not answer.ok:
            reason = answer.contact.reason or "it refused the question"
            return self._form(name, then, f"{name} cannot say whether it knows the token: {reason}.", 503)
        told = answer.contact.role
        role = Role.ADMIN if told is None else Role.named(told) or Role.VIEWER
        before = self._doorkeeper.identity(request)
        identity = Identity(
            sid=new_sid(),
            role=max(role, before.role) if before is not None else role,
            configured=before.configured if before is not None else 0,
            tokens={**(before.tokens if before is not None else {}), name: token},
            expires_at=self._expires_at(),
        )
        return self._enter(request, identity, then)

    async def leave(self, request: web.Request) -> web.Response:
        """Log out."""
        identity = self._doorkeeper.identity(request)
        if identity is not None:
            await self._doorkeeper.check_form(request, identity)
        response = _to(f"{self._settings.prefix}/login")
        self._doorkeeper.let_out(response)
        return response

    def _form(self, chosen: str, then: str, message: str | None = None, status: int = 200) -> web.Response:
        return self._renderer.bare(
            "login.html",
            status,
            prefix=self._settings.prefix,
            agents=self._roster.agents(),
            chosen=chosen,
            message=message,
            next=then,
        )

    def _enter(self, request: web.Request, identity: Identity, then: str = "") -> web.Response:
        response = _to(self._settings.prefix + _local(then))
        try:
            self._doorkeeper.let_in(response, identity)
        except ValueError:
            raise Refusal(
                413, "too_large", "a cookie holds no more tokens", hint="Log out, and log in to fewer agents."
            ) from None
        log.info("login.done", address=self._failures.address(request), role=Role(identity.role).name.lower())
        return response

    def _failed(self, request: web.Request, by: str) -> None:
        self._failures.count(request)
        log.warning("login.failed", address=self._failures.address(request), by=by)

    def _expires_at(self) -> float:
        return time.time() + self._settings.login_hours * 3600


def _local(path: str) -> str:
    """A path of the viewer's own to go on to; `/` for whatever could lead elsewhere."""
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return quote(path, safe="/?&=%:@!$'()*+,;~#") if safe else "/"


def _to(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location})
