"""Who may come in: the Host, the cookie, and what proves that a form is the viewer's own."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from webui.identity import Identity, Seals
from webui.refusals import Refusal
from webui.settings import Settings

COOKIE = "agentd"
CSRF_FIELD = "csrf"
CSRF_HEADER = "X-CSRF-Token"
#: Failed logins a minute and address before more are refused.
MAX_FAILURES = 10
_WINDOW_S = 60.0
_MAX_ADDRESSES = 1024
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_WILDCARDS = frozenset({"0.0.0.0", "[::]", "::", ""})  # noqa: S104 - nothing is bound here


class Doorkeeper:
    """Checks requests before any page sees them."""

    def __init__(self, settings: Settings, seals: Seals, *, now: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._seals = seals
        self._now = now
        public = urlsplit(settings.public_url).hostname if settings.public_url else None
        named = {settings.host, *settings.allowed_hosts, *([public] if public else [])}
        self._hosts = _LOOPBACK | {_bracketed(name).lower() for name in named} - _WILDCARDS
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

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

    def identity(self, request: web.Request) -> Identity | None:
        """Whose cookie, or sealed token in `Authorization: Bearer`, the request carries; None without one."""
        sealed = request.cookies.get(COOKIE)
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            sealed = given.strip()
        return self._seals.identity(sealed, self._now()) if sealed else None

    def check_origin(self, request: web.Request) -> None:
        """Refuse what another site's page sends.

        Raises:
            Refusal: the browser says that it does.
        """
        origin = request.headers.get("Origin")
        own = {f"{scheme}://{request.headers.get('Host', '')}".lower() for scheme in ("http", "https")}
        if self._settings.public_url:
            parts = urlsplit(self._settings.public_url)
            own.add(f"{parts.scheme}://{parts.netloc}".lower())
        foreign = origin is not None and origin.lower() not in own
        if foreign or request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "forbidden", "requests of other sites are refused")

    async def check_form(self, request: web.Request, identity: Identity) -> None:
        """Refuse a write that does not carry the identity's CSRF token; a sealed token in a header needs none.

        Raises:
            Refusal: there is none, or it is another's.
        """
        if "Authorization" in request.headers:
            return
        given = request.headers.get(CSRF_HEADER)
        if given is None and request.content_type in ("application/x-www-form-urlencoded", "multipart/form-data"):
            field = (await request.post()).get(CSRF_FIELD)
            given = field if isinstance(field, str) else None
        if given is None or not self._seals.is_csrf(identity, given):
            raise Refusal(
                403,
                "csrf",
                "the form is not of this login",
                hint="Go back, load the page again, send it once more.",
            )

    def check_failures(self, request: web.Request) -> None:
        """Refuse a login after too many that failed.

        Raises:
            Refusal: wait a minute.
        """
        since, count = self._failures.get(request.remote or "", (0.0, 0))
        if count >= MAX_FAILURES and self._now() - since < _WINDOW_S:
            raise Refusal(429, "rate_limited", "too many failed logins", hint="Wait a minute and try again.")

    def failed(self, request: web.Request) -> None:
        """Count a login that failed."""
        address = request.remote or ""
        since, count = self._failures.pop(address, (self._now(), 0))
        if self._now() - since >= _WINDOW_S:
            since, count = self._now(), 0
        self._failures[address] = (since, count + 1)
        if len(self._failures) > _MAX_ADDRESSES:
            self._failures.popitem(last=False)


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
