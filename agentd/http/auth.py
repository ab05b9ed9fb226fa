"""Who asks, and whether they may: tokens, roles, and the checks that keep web pages out.

Local web pages and other users of the machine are attackers: every route but /healthz needs a token, on loopback
and on the unix socket too, and no answer carries a CORS header.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog
from aiohttp import hdrs, web

from agentd.clock import Clock
from agentd.errors import AgentdError, Forbidden, RateLimited, Unauthorized
from agentd.http.tokens import Role, TokenFile, hashed

#: Addresses whose failures are remembered; the oldest is forgotten first.
MAX_ADDRESSES = 1024
#: Seconds over which failures are counted.
FAILURE_WINDOW_S = 60.0
#: How often a change of the token file is looked for; a revoked token works no longer than this.
RELOAD_S = 1.0

_BEARER = "Bearer "
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
#: Where to listen, not whom to ask: browsers let pages reach 0.0.0.0.
_WILDCARDS = frozenset({"0.0.0.0", "[::]", ""})  # noqa: S104 - nothing is bound here

#: The task whose own token it is, if it is one.
TaskOf = Callable[[str], str | None]


class Caller(NamedTuple):
    """Who a token stands for; with `task_id` it is that task itself, which reaches its own session only."""

    name: str
    role: Role
    task_id: str | None = None
    digest: bytes = b""  #: of the token: one that is revoked and another of the same name are not the same

    @property
    def shown_role(self) -> str:
        """The role as `Agentd-Role` names it: `task` for a task's own token."""
        return "task" if self.task_id is not None else self.role.name.lower()


#: Who calls as long as no token has told.
NOBODY = Caller("", Role.VIEWER)


class Doorkeeper:
    """Admits requests.

    Args:
        token: the first token, an admin's.
        more: the file with the hashes of others.
        task_of: whose a task's own token is.
        hosts: values of Host that are accepted beside loopback and the address the connection came to.
        failures: refused attempts per minute and address before answers become 429.
        clock: for that minute, and for looking at the file.
    """

    def __init__(
        self, token: str, more: TokenFile, *, task_of: TaskOf, hosts: Iterable[str], failures: int, clock: Clock
    ) -> None:
        self._first = Caller("token", Role.ADMIN, digest=bytes.fromhex(hashed(token)))
        self._more = more
        self._task_of = task_of
        self._hosts = _LOOPBACK | {bracketed(host).lower() for host in hosts} - _WILDCARDS
        self._failures = Failures(failures, clock)
        self._clock = clock
        self._known: tuple[Caller, ...] = (self._first,)
        self._version: tuple[int, int, int] | None = None
        self._looked_at = float("-inf")

    def check_origin(self, request: web.BaseRequest) -> None:
        """Refuse what a web page of another site may have caused.

        Raises:
            Forbidden: a Host, Origin or Sec-Fetch-Site that no client of ours sends.
        """
        headers = request.headers
        host = headers.get(hdrs.HOST, "").lower()
        if host_name(host) not in self._hosts and not _is_own_address(host, request):
            raise Forbidden(f"the Host {host[:100]!r} is not this daemon; name it in http.allowed_hosts")
        origin = headers.get(hdrs.ORIGIN)
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise Forbidden("requests of other origins are refused; ask through agentd-web")
        # Another port of localhost is another origin of the same site.
        if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Forbidden("requests of other sites are refused; ask through agentd-web")
        user = _peer(request)
        if user is not None and user not in (os.geteuid(), 0):
            raise Forbidden(f"user {user} may not use this socket; it is for its owner")

    def caller(self, request: web.BaseRequest) -> Caller:
        """Whose token the request carries.

        Raises:
            Unauthorized: none, or one that is not known.
            RateLimited: so again, too often. A known token always passes, so nobody can lock its owner out.
        """
        given = request.headers.getall(hdrs.AUTHORIZATION, ())
        if len(given) == 1 and given[0][:7].lower() == "bearer ":
            text = given[0][len(_BEARER) :].strip()
            found = self._look_up(text)
            if found is not None:
                return found
            reason = "the token is not known; it may have been revoked or be another daemon's"
        else:
            reason = "send the header `Authorization: Bearer TOKEN`; the first token is in the file `token`"
        if self._failures.count(address_of(request)):
            raise RateLimited("too many attempts without a known token; wait a minute")
        raise Unauthorized(reason)

    def check_again(self, caller: Caller) -> None:
        """Refuse who was admitted by a token that is known no more: one answer may go on for days.

        Raises:
            Unauthorized: it was revoked, or has another role now.
        """
        if caller.task_id is not None or caller is NOBODY:
            return  # of whether a task runs the service knows
        self._refresh()
        if caller not in self._known:
            raise Unauthorized("the token was revoked")

    def _look_up(self, text: str) -> Caller | None:
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
        self._refresh()
        found = self._known_by(digest)
        if found is None and (task_id := self._task_of(text)) is not None:
            return Caller(f"task {task_id}", Role.OPERATOR, task_id)
        if found is None and self._refresh(within_s=0):  # it may be younger than the last look
            found = self._known_by(digest)
        return found

    def _known_by(self, digest: bytes) -> Caller | None:
        found = None
        for known in self._known:  # all of them, so that the time does not tell which one it was
            if hmac.compare_digest(known.digest, digest):
                found = known
        return found

    def _refresh(self, within_s: float = RELOAD_S) -> bool:
        """Whether the file was read again: it has changed, and the last look was not within so many seconds."""
        now = self._clock.monotonic()
        if now - self._looked_at < within_s:
            return False
        self._looked_at = now
        more: tuple[Caller, ...] = ()
        try:
            version = self._more.version()
            if version == self._version:
                return False
            self._version = version
            more = tuple(
                Caller(each.name, Role.named(each.role), digest=bytes.fromhex(each.sha256)) for each in self._more.all()
            )
        except (AgentdError, ValueError, OSError) as error:
            structlog.get_logger().error("tokens.unreadable", reason=str(error))
        self._known = (self._first, *more)
        return True


class Failures:
    """Refused attempts by address, in windows of a minute; bounded in number."""

    def __init__(self, allowed: int, clock: Clock) -> None:
        self._allowed = allowed
        self._clock = clock
        self._by_address: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, address: str) -> bool:
        """Count one more; whether that is more than allowed."""
        now = self._clock.monotonic()
        since, count = self._by_address.pop(address, (now, 0))
        if now - since >= FAILURE_WINDOW_S:
            since, count = now, 0
        self._by_address[address] = (since, count + 1)
        if len(self._by_address) > MAX_ADDRESSES:
            self._by_address.popitem(last=False)
        return count + 1 > self._allowed


def address_of(request: web.BaseRequest) -> str:
    """Who asks: an address, the /64 of one in IPv6, which is what one customer has, or the user of a unix socket."""
    found = request.remote
    if not found:
        return f"user {_peer(request)}"
    if ":" not in found:
        return found
    try:
        address = ipaddress.IPv6Address(found)
    except ValueError:
        return found
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def _peer(request: web.BaseRequest) -> int | None:
    """The user at the other end of a unix socket, as the kernel says (SO_PEERCRED, unix(7)); None for other sockets."""
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(user)


def host_name(host: str) -> str:
    """The Host header without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


def bracketed(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _is_own_address(host: str, request: web.BaseRequest) -> bool:
    """Whether Host is the very address that the connection came to: a rebound name never is."""
    transport = request.transport
    own = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(own, tuple):
        return False
    try:
        asked = ipaddress.ip_address(host_name(host).strip("[]"))
        return asked == ipaddress.ip_address(str(own[0]))
    except ValueError:
        return False
