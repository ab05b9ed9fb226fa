"""Who may come in: the Host, the cookie, and what proves that a form is the viewer's own."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from webui.forms import FORMS, token_in
from webui.identity import Identity, Role, Seals
from webui.refusals import Refusal
from webui.settings import Settings

CSRF_HEADER = "X-CSRF-Token"
READING = ("GET", "HEAD")

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_WILDCARDS = frozenset({"0.0.0.0", "[::]", ""})  # noqa: S104 - nothing is bound here


class Doorkeeper:
    """Checks requests before any page sees them, and gives and takes the cookie."""

    def __init__(self, settings: Settings, seals: Seals, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._seals = seals
        self._now = now
        public = urlsplit(settings.public_url or "")
        named = {settings.host, *settings.allowed_hosts, public.hostname or ""}
        self._hosts = _LOOPBACK | {_bracketed(name).lower() for name in named} - _WILDCARDS
        self._public_origin = f"{public.scheme}://{public.netloc}".lower()
        self._path = settings.prefix or "/"
        # Browsers take a cookie of such a name only over TLS and, with Host, from nobody else in the domain.
        kept = "" if not settings.secure else "__Secure-" if settings.prefix else "__Host-"
        self.cookie = f"{kept}agentd-{seals.tag}"

    def check_host(self, request: web.Request) -> None:
        """Refuse a Host that is not the viewer's: a name that another site made point here (DNS rebinding).

        Raises:
            Refusal: it is none of ours.
        """
        host = request.headers.get("Host", "").lower()
        if _host_name(host) not in self._hosts and not _is_own_address(host, request):
            raise Refusal(
                403,
                "forbidden",
                f"the Host {host[:100]!r} is not this viewer",
                hint="Start agentd-web with --allowed-host NAME, or with --public-url.",
            )

    def check_origin(self, request: web.Request) -> None:
        """Refuse what another site's page sends.

        Raises:
            Refusal: the browser says that it does.
        """
        origin = request.headers.get("Origin")
        host = request.headers.get("Host", "")
        own = {f"http://{host}".lower(), f"https://{host}".lower(), self._public_origin}
        # The page of a link sends no referrer, hence this for an origin; who can send a link needs no other's browser.
        if request.path.startswith("/login/") and origin == "null":
            origin = None
        foreign = origin is not None and origin.lower() not in own
        if foreign or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "forbidden", "requests of other sites are refused")

    def identity(self, request: web.Request) -> Identity | None:
        """Whose sealed token (`Authorization: Bearer`) or cookie the request carries; None without one."""
        sealed = _bearer(request) or request.cookies.get(self.cookie)
        return self._seals.identity(sealed, self._now()) if sealed else None

    async def check_write(self, request: web.Request, identity: Identity) -> None:
        """Refuse a write of who may only look, and one without the identity's CSRF token.

        A sealed token in a header needs none: no other site can make a browser send it.

        Raises:
            Refusal: the login may only look, there is no token, or it is another's.
        """
        if identity.role < Role.OPERATOR:
            raise Refusal(
                403, "forbidden", "this login may look and change nothing", hint="Log in with a token that may do this."
            )
        await self.check_form(request, identity)

    async def check_form(self, request: web.Request, identity: Identity) -> None:
        """Refuse a form that is not of this login.

        Raises:
            Refusal: it carries no CSRF token or another's, is no form, or did not arrive in time.
        """
        if _bearer(request) is not None:
            return
        given = request.headers.get(CSRF_HEADER)
        if given is None and request.content_type in FORMS:
            given = await token_in(request)
        if given is None or not self._seals.is_csrf(identity, given):
            raise Refusal(
                403,
                "csrf",
                "the form is not of this login",
                hint="Go back, load the page again, send it once more.",
            )

    def let_in(self, response: web.Response, identity: Identity) -> None:
        """Give the browser the cookie of an identity.

        Raises:
            ValueError: it has more tokens than a cookie holds.
        """
        sealed = self._seals.seal(identity)
        if self._seals.identity(sealed, 0) is None:
            raise ValueError("a cookie holds no more")
        response.set_cookie(
            self.cookie,
            sealed,
            max_age=max(0, int(identity.expires_at - self._now())),
            path=self._path,
            secure=self._settings.secure,
            httponly=True,
            samesite="Strict",
        )

    def let_out(self, response: web.Response) -> None:
        """Take the cookie back."""
        response.del_cookie(
            self.cookie, path=self._path, secure=self._settings.secure, httponly=True, samesite="Strict"
        )


def _bearer(request: web.Request) -> str | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else None


def _host_name(host: str) -> str:
    return host[: host.find("]") + 1] if host.startswith("[") else host.partition(":")[0]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_own_address(host: str, request: web.Request) -> bool:
    """Whether Host is the very address that the connection came to: a rebound name never is."""
    own = request.transport.get_extra_info("sockname") if request.transport is not None else None
    if not isinstance(own, tuple):
        return False
    try:
        return ipaddress.ip_address(_host_name(host).strip("[]")) == ipaddress.ip_address(str(own[0]))
    except ValueError:
        return False
