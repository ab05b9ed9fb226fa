"""What a route is, and how a path finds its own: a table of data and a walk through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import unquote

import msgspec
from aiohttp import web

from agentd.errors import AgentdError, Malformed, Unauthorized, Unavailable
from agentd.http.auth import Caller, Doorkeeper
from agentd.http.metrics import Metrics
from agentd.http.queries import NoQuery
from agentd.http.tokens import Role
from agentd.service import Service


class Seats:
    """How many requests may stay open at once (streams and waits), and how many do."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0

    def __enter__(self) -> None:
        if self.taken >= self._limit:
            raise Unavailable(f"{self._limit} streams and waits are open, the limit (limits.sse_clients)")
        self.taken += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.taken -= 1


class BodyUse(Enum):
    """What a route does with the request's body."""

    NONE = "none"  #: takes none; an empty object is accepted
    JSON = "json"  #: a JSON object of the route's shape
    BYTES = "bytes"  #: the handler reads it as it comes


@dataclass(slots=True, kw_only=True)
class Call:
    """One request on its way: what was asked, by whom, and what it brought."""

    request: web.BaseRequest
    request_id: str
    service: Service
    doorkeeper: Doorkeeper
    seats: Seats
    metrics: Metrics
    table: Table
    route: Route
    caller: Caller
    params: dict[str, str]
    query: Any = None
    body: Any = None
    raw_body: bytes = b""
    own_session: str | None = None  #: set when a task calls: the only session it reaches
    streaming: web.StreamResponse | None = None  #: an answer that is sent in parts, once it may have begun

    @property
    def connected(self) -> bool:
        """Whether the client is still there, as far as is known."""
        transport = self.request.transport
        return transport is not None and not transport.is_closing()

    def check_admitted(self) -> None:
        """Whatever takes long asks this again before it tells or changes anything.

        Raises:
            Unauthorized: the token was revoked since the request came, or is of a task that runs no more.
        """
        self.doorkeeper.check_again(self.caller)
        task_id = self.caller.task_id
        if task_id is not None and self.service.session_of_running(task_id) is None:
            raise Unauthorized("this token is of a task that runs no more")


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One operation of the API, with all that the OpenAPI document says of it.

    Args:
        method: GET also answers HEAD.
        path: with `{name}` for one segment and `{name*}` for all the rest.
        name: operationId; also the name in metrics and logs.
        summary: one line.
        handler: makes the answer.
        role: the least that may call it; None is open to all.
        for_tasks: a task's own token may call it, within its session.
        query: the struct of its parameters.
        body: the struct of its JSON body.
        body_use: what becomes of the body.
        body_bytes: how large that may be, where `limits.body_bytes` may be less.
        batch: so many bodies may come at once, as an array; 0: one only.
        key: it takes an Idempotency-Key.
        versioned: it takes If-Match.
        answers: what each status carries: a struct, a media type, or None.
        errors: what it may answer beyond what every route may.
        description: more than the summary, if need be.
    """

    method: str
    path: str
    name: str
    summary: str
    handler: Handler
    role: Role | None
    for_tasks: bool = False
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    body_use: BodyUse = BodyUse.NONE
    body_bytes: int = 0
    batch: int = 0
    key: bool = False
    versioned: bool = False
    answers: Mapping[int, Any] = field(default_factory=dict)
    errors: tuple[type[AgentdError], ...] = ()
    description: str = ""


class Match(NamedTuple):
    """The routes of a path by method, and what its braces stand for; no routes: the API has no such path."""

    routes: Mapping[str, Route]
    params: dict[str, str]


class _Node:
    __slots__ = ("literal", "name", "param", "rest", "routes")

    def __init__(self) -> None:
        self.literal: dict[str, _Node] = {}
        self.param: _Node | None = None
        self.rest: _Node | None = None
        self.name = ""
        self.routes: dict[str, Route] = {}


class Table:
    """All routes, to be found by path in one walk over its segments."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/")[1:]:
            if not segment.startswith("{"):
                node = node.literal.setdefault(segment, _Node())
                continue
            name = segment.strip("{}")
            if name.endswith("*"):
                node.rest = node.rest or _Node()
                node = node.rest
            else:
                node.param = node.param or _Node()
                node = node.param
            node.name = name.rstrip("*")
        if route.method in node.routes:
            raise ValueError(f"{route.method} {route.path} is there twice")
        node.routes[route.method] = route
        if route.method == "GET":
            node.routes["HEAD"] = route

    def match(self, path: str) -> Match:
        """The routes of a path as it stands in the request line, percent-encoded.

        Raises:
            Malformed: a segment is not UTF-8.
        """
        node = self._root
        params: dict[str, str] = {}
        segments = path.split("/")
        for position in range(1, len(segments)):
            segment = segments[position]
            if (literal := node.literal.get(segment)) is not None:
                node = literal
            elif node.param is not None and segment:
                node = node.param
                params[node.name] = _decoded(segment)
            elif node.rest is not None:
                node = node.rest
                params[node.name] = "/".join(_decoded(each) for each in segments[position:])
                break
            else:
                return Match({}, {})
        return Match(node.routes, params)


def _decoded(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise Malformed("the path is not UTF-8") from None
