"""Coming in and going out: by a one-time link, or by a token that an agent knows."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from aiohttp import web

from webui.contact import Status
from webui.doorkeeper import COOKIE, Doorkeeper
from webui.identity import MAX_SEALED, Identity, Role, Seals, new_sid
from webui.links import Links
from webui.refusals import Refusal, unknown_agent
from webui.rendering import Renderer
from webui.roster import Roster
from webui.settings import Settings
from webui.upstream import Upstream

#: How long an agent may take to say whether it knows a token.
ASK_S = 5.0


class Login:
    """The routes that need no login."""

    def __init__(
        self,
        settings: Settings,
        seals: Seals,
        links: Links,
        doorkeeper: Doorkeeper,
        roster: Roster,
        upstream: Upstream,
        renderer: Renderer,
    ) -> None:
        self._settings = settings
        self._seals = seals
        self._links = links
        self._doorkeeper = doorkeeper
        self._roster = roster
        self._upstream = upstream
        self._renderer = renderer

    async def form(self, request: web.Request) -> web.Response:
        """The page that asks for a token."""
        return self._form(request)

    async def link(self, request: web.Request) -> web.Response:
        """Log in by a one-time link. A GET shows a button: what fetches links ahead must not use them up."""
        sealed = request.match_info["link"]
        if request.method != "POST":
            return self._renderer.bare("link.html", prefix=self._settings.prefix, sealed=sealed)
        self._doorkeeper.check_failures(request)
        role = self._links.take(sealed)
        if role is None:
            self._doorkeeper.failed(request)
            raise Refusal(
                403,
                "link_used",
                "this link has been used or has expired",
                hint="Make a new one with `agentd-web link`, or log in with a token.",
            )
        identity = Identity(sid=new_sid(), role=role, configured=True, expires_at=self._expires_at())
        return self._enter(request, identity)

    async def take(self, request: web.Request) -> web.Response:
        """Log in by a token of one agent; another login keeps the tokens of the others."""
        self._doorkeeper.check_failures(request)
        form = await request.post()
        name, token = str(form.get("agent", "")), str(form.get("token", "")).strip()
        agent = self._roster.named(name)
        if agent is None:
            raise unknown_agent(name)
        if not token or not token.isascii() or not token.isprintable():
            return self._form(request, "Paste a token: one line, as the file `token` has it.", 422)
        answer = await self._upstream.ask(agent, "GET", "/status", token=token, within_s=ASK_S)
        if answer.contact.status is Status.UNAUTHORIZED:
            self._doorkeeper.failed(request)
            return self._form(request, f"{name} does not know this token.", 403)
        if not answer.ok:
            return self._form(request, f"{name} cannot say whether it knows it: {answer.contact.reason}.", 503)
        before = self._doorkeeper.identity(request)
        tokens = {**(before.tokens if before is not None else {}), name: token}
        identity = Identity(
            sid=new_sid(),
            role=max(before.role if before is not None else 0, Role.named(answer.contact.role) or Role.ADMIN),
            configured=before.configured if before is not None else False,
            tokens=tokens,
            expires_at=self._expires_at(),
        )
        return self._enter(request, identity, str(form.get("next", "")))

    async def leave(self, request: web.Request) -> web.Response:
        """Log out."""
        response = _to(f"{self._settings.prefix}/login")
        response.del_cookie(COOKIE, path=self._settings.prefix or "/")
        return response

    def _form(self, request: web.Request, message: str | None = None, status: int = 200) -> web.Response:
        return self._renderer.bare(
            "login.html",
            status,
            prefix=self._settings.prefix,
            agents=self._roster.agents(),
            message=message,
            next=request.query.get("next", ""),
        )

    def _enter(self, request: web.Request, identity: Identity, then: str = "") -> web.Response:
        sealed = self._seals.seal(identity)
        if len(sealed) > MAX_SEALED:
            raise Refusal(
                413, "too_large", "a cookie holds no more tokens", hint="Log out, and log in to fewer agents."
            )
        response = _to(self._settings.prefix + _local(then))
        response.set_cookie(
            COOKIE,
            sealed,
            max_age=int(identity.expires_at - time.time()),
            path=self._settings.prefix or "/",
            secure=self._settings.secure,
            httponly=True,
            samesite="Strict",
        )
        return response

    def _expires_at(self) -> float:
        return time.time() + self._settings.login_hours * 3600


def _local(path: str) -> str:
    """A path of the viewer's own to go on to; `/` for whatever could lead elsewhere."""
    parts = urlsplit(path)
    safe = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.netloc and path.isprintable()
    return path if safe else "/"


def _to(location: str) -> web.Response:
    return web.Response(status=303, headers={"Location": location})
