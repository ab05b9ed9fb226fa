"""The API as a whole: the table of routes, and the one way that every request takes through it.

A request is identified, its Host and Origin are checked, then its token, its role, its query and its body; only then
the route's handler sees it. Whatever goes wrong becomes a problem document, once, in one place.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from itertools import count

import structlog
from aiohttp import hdrs, web

from agentd.errors import (
    AgentdError,
    Forbidden,
    HeadersTooLarge,
    Invalid,
    Malformed,
    MethodNotAllowed,
    RequestTimeout,
    RouteNotFound,
    TooLarge,
    Unauthorized,
)
from agentd.http import answers, bodies, problems, queries
from agentd.http.auth import NOBODY, Doorkeeper
from agentd.http.metrics import Metrics
from agentd.http.routes import ROUTES
from agentd.http.routing import BodyUse, Call, Route, Seats, Table
from agentd.http.server import Runner, connections_for
from agentd.http.tokens import Role, TokenFile, first_token
from agentd.service import Service
from hosting.connections import OTHER_VERSION, Unreadable

log = structlog.get_logger()

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")

_NO_PATH = "the API has no such path; GET /openapi.json describes all there are"


async def _nowhere(call: Call) -> web.StreamResponse:
    raise RouteNotFound(_NO_PATH)


#: What a request has until its route is known.
_UNROUTED = Route(method="", path="", name="", summary="", handler=_nowhere, role=Role.VIEWER)


def make_runner(service: Service) -> Runner:
    """The server of a daemon's API, ready for `setup` and for sites; makes the first token if there is none.

    Raises:
        StorageFailed: the token file cannot be made, or others may read it.
    """
    settings = service.settings
    doorkeeper = Doorkeeper(
        first_token(service.store.data_dir),
        TokenFile(service.store.data_dir),
        task_of=service.task_tokens.task_id,
        hosts=(settings.http.host, *settings.http.allowed_hosts),
        failures=settings.limits.auth_failures,
        clock=service.clock,
    )
    api = Api(service, doorkeeper)
    most = connections_for(settings.limits, settings.workers.max)
    return Runner(api.answer, api.refuse, header_bytes=settings.limits.header_bytes, connections=most)


class Api:
    """Answers requests."""

    def __init__(self, service: Service, doorkeeper: Doorkeeper) -> None:
        self._metrics = Metrics(service)
        self._table = Table(ROUTES)
        self._service = service
        self._doorkeeper = doorkeeper
        self._seats = Seats(service.settings.limits.sse_clients)
        self._body_bytes = service.settings.limits.body_bytes
        self._header_bytes = service.settings.limits.header_bytes
        self._boot = secrets.token_hex(4)
        self._numbers = count(1)

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to a request, whatever happens."""
        began = time.perf_counter()
        call = Call(
            request=request,
            request_id=self._request_id(request),
            service=self._service,
            doorkeeper=self._doorkeeper,
            seats=self._seats,
            metrics=self._metrics,
            table=self._table,
            route=_UNROUTED,
            caller=NOBODY,
            params={},
        )
        try:
            response = await self._handled(call)
        except Exception as error:
            response = _cut_off(call, error) or _excused(call, error)
        if not response.prepared:
            answers.show_role(call, response.headers)
        took_s = time.perf_counter() - began
        self._metrics.answered(call.route.name, response.status, took_s)
        log.debug("http.request", route=call.route.name, status=response.status, request_id=call.request_id)
        return response

    def refuse(self, request: web.BaseRequest, why: Unreadable) -> web.StreamResponse:
        """The answer to what is not HTTP, or too large to be read as such."""
        self._metrics.answered("", why.status, 0.0)
        return problems.answer(why.code, why.detail, self._request_id(request))

    async def _handled(self, call: Call) -> web.StreamResponse:
        request = call.request
        if OTHER_VERSION in request:
            raise Malformed(f"{request[OTHER_VERSION]} is not spoken here; agentd speaks HTTP/1.1")
        path, _, query = request.raw_path.partition("?")
        match = self._table.match(path if path.startswith("/") else _path_of(request))
        call.route = match.routes.get(request.method, _UNROUTED)
        call.params = match.params
        self._check_headers(request)
        self._doorkeeper.check_origin(request)
        if call.route is _UNROUTED and match.routes and all(route.role is None for route in match.routes.values()):
            raise NotThisMethod(match.routes)  # a path that is open to all
        if call.route.role is not None:
            call.caller = self._doorkeeper.caller(request)
            if call.caller.task_id is not None:
                _own_session(call, call.caller.task_id)
            if call.route is _UNROUTED:
                raise NotThisMethod(match.routes) if match.routes else RouteNotFound(_NO_PATH)
            if call.caller.role < call.route.role:
                raise Forbidden(
                    f"the token {call.caller.name!r} is {_a(call.caller.role)}; this takes {_a(call.route.role)}"
                )
            if call.own_session is not None:
                await _confine(call, call.own_session)
        call.query = queries.decoded(query, call.route.query)
        await self._take_body(call)
        return await call.route.handler(call)

    async def _take_body(self, call: Call) -> None:
        route, request = call.route, call.request
        if route.body_use is BodyUse.JSON:
            assert route.body is not None
            bodies.check_type(request)
            call.raw_body = await bodies.read(request, max(self._body_bytes, route.body_bytes))
            if route.batch and call.raw_body.lstrip()[:1] == b"[":
                call.body = bodies.decoded_batch(call.raw_body, route.body, route.batch)
            else:
                call.body = bodies.decoded(call.raw_body, route.body)
        elif route.body_use is BodyUse.NONE and request.body_exists:
            text = await bodies.read(request, self._body_bytes)
            if text.strip() not in (b"", b"{}"):
                raise Invalid(f"{route.method} {route.path} takes no body")

    def _check_headers(self, request: web.BaseRequest) -> None:
        size = sum(len(name) + len(value) for name, value in request.raw_headers)
        if size > self._header_bytes:
            raise HeadersTooLarge(f"the headers are larger than {self._header_bytes} bytes (limits.header_bytes)")

    def _request_id(self, request: web.BaseRequest) -> str:
        given = request.headers.get("X-Request-Id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return f"{self._boot}-{next(self._numbers)}"


class NotThisMethod(Exception):
    """The path is there, and takes other methods."""

    def __init__(self, routes: Iterable[str]) -> None:
        self.allowed = ", ".join(sorted(routes))
        super().__init__(self.allowed)


def _own_session(call: Call, task_id: str) -> None:
    """Find the session that a task which calls may reach.

    Raises:
        Unauthorized: it runs no more, and its token is none.
    """
    call.own_session = call.service.session_of_running(task_id)
    if call.own_session is None:
        call.caller = NOBODY
        raise Unauthorized("this token is of a task that runs no more")


async def _confine(call: Call, own: str) -> None:
    """Keep a task that calls to its own session.

    Raises:
        Forbidden: this is not for tasks, or is of another session.
    """
    if not call.route.for_tasks:
        raise Forbidden("a task's own token is not for this; use one of an operator or admin")
    asked = call.params.get("session_id", own)
    if "task_id" in call.params:
        asked = (await call.service.task(call.params["task_id"])).session_id
    if asked != own:
        raise Forbidden(f"a task's own token reaches its session only, {own}")


def _path_of(request: web.BaseRequest) -> str:
    """The path of an address in full (RFC 9112 §3.2.2).

    Raises:
        Malformed: it is of another host than the Host header names.
    """
    _, slashes, rest = request.raw_path.partition("://")
    host = rest.partition("/")[0]
    if slashes and host.lower() != request.headers.get(hdrs.HOST, "").lower():
        raise Malformed(f"the address is of {host[:100]!r}, and the Host header names another")
    return request.rel_url.raw_path


def _cut_off(call: Call, error: Exception) -> web.StreamResponse | None:
    """An answer that has begun cannot become another: the connection is cut, so that it is not taken for whole."""
    begun = call.streaming
    if begun is None or not begun.prepared:
        return None
    if not isinstance(error, ConnectionError | TimeoutError | Unauthorized):
        _log_failure(call, error)
    begun.force_close()
    if call.request.transport is not None:
        call.request.transport.abort()
    return begun


def _excused(call: Call, error: Exception) -> web.StreamResponse:
    """The problem document for whatever was raised."""
    if isinstance(error, AgentdError):
        response = problems.answer_to(error, call.request_id)
        if isinstance(error, TooLarge | RequestTimeout):
            response.force_close()  # what is left of the body is not worth reading
        return response
    if isinstance(error, NotThisMethod):
        refusal = MethodNotAllowed(f"{call.request.method} is not for this path; it takes {error.allowed}")
        response = problems.answer_to(refusal, call.request_id)
        response.headers[hdrs.ALLOW] = error.allowed
        return response
    if isinstance(error, web.HTTPException):
        return problems.answer_to_library(error, call.request_id)
    if isinstance(error, ConnectionError):
        raise error  # there is nobody to answer
    _log_failure(call, error)
    detail = f"an error of agentd's own; its log has it under request {call.request_id}"
    return problems.answer("internal", detail, call.request_id)


def _log_failure(call: Call, error: Exception) -> None:
    log.error("http.failed", route=call.route.name, request_id=call.request_id, exc_info=error)


def _a(role: Role) -> str:
    return f"{'a' if role is Role.VIEWER else 'an'} {role.name.lower()}"
