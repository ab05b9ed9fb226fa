"""The agents' own endpoints, passed through: bytes both ways as they come, and no more headers than needed.

Only configured names reach an agent, and only its own API: what a client writes behind the name becomes a path, never
a host. What comes back is shown to no one as a page of the viewer's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

import aiohttp
from aiohttp import hdrs, web

from webui.contact import Status, Trouble
from webui.doorkeeper import CSRF_HEADER
from webui.passing import INERT_POLICY, passed_on
from webui.refusals import Refusal
from webui.rendering import json_answer
from webui.routes import Route
from webui.upstream import CHUNK_BYTES, segment
from webui.visit import Visit

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
REQUEST_HEADERS = (
    "Accept",
    "Content-Length",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-Modified-Since",
    "If-None-Match",
    "If-Range",
    "If-Unmodified-Since",
    "Last-Event-ID",
    "Prefer",
    "Range",
    "X-Request-Id",
)
RESPONSE_HEADERS = (
    "Accept-Ranges",
    "Agentd-Role",
    "Allow",
    "Cache-Control",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Last-Modified",
    "Retry-After",
    "X-Request-Id",
)
#: What a browser neither runs nor draws as a page; anything else arrives as bytes to be saved.
INERT_TYPES = frozenset(
    {
        "application/json",
        "application/octet-stream",
        "application/openmetrics-text",
        "application/problem+json",
        "text/event-stream",
        "text/plain",
    }
)
#: Silence after which an agent counts as gone; on streams it says something every 10 s.
SILENCE_S = 25.0
#: Of agents' routes that take as long as they need: waits of up to 300 s, writes that end on a disk.
ANSWER_S = 330.0

_VISIBLE = re.compile(r"[!-~]*")
_FIELD = re.compile(r"[\t -~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


async def proxy(visit: Visit) -> web.StreamResponse:
    """`/api/agents/{agent}/{path}` is the agent's own `/{path}`: every method, status, body and stream."""
    request = visit.request
    agent = visit.agent()
    target, path = _target(request)
    reads = request.method in ("GET", "HEAD")
    if not reads and "Authorization" not in request.headers and not request.headers.get(CSRF_HEADER):
        raise Refusal(403, "csrf", f"a write of the API carries the login's CSRF token in {CSRF_HEADER}")
    exchange = visit.upstream.exchange(
        agent,
        request.method,
        target,
        token=visit.token_for(agent, request.method, "/" + path),
        body=request.content.iter_chunked(CHUNK_BYTES) if request.body_exists else None,
        headers=_sent(request),
        read_s=SILENCE_S if reads and not path.endswith("/wait") else ANSWER_S,
    )

    def head(answer: aiohttp.ClientResponse) -> web.StreamResponse:
        _check(answer)
        at = visit.url(f"/api/agents/{segment(agent.name)}")
        return web.StreamResponse(status=answer.status, headers=_given(answer, at))

    try:
        return await passed_on(request, exchange, head)
    except Trouble as trouble:
        return no_answer(agent.name, trouble)


def no_answer(agent: str, trouble: Trouble) -> web.Response:
    """The problem document for an agent that did not answer as it should: 401, 502 or 504."""
    status = 401 if trouble.status is Status.UNAUTHORIZED else 504 if trouble.code == "read_timeout" else 502
    problem = Refusal(status, f"agent_{trouble.status}", f"agent {agent}: {trouble.detail}").problem()
    return json_answer({**problem, "agent": agent, "reason_code": trouble.code}, status, "application/problem+json")


def _target(request: web.Request) -> tuple[str, str]:
    """What to ask an agent for, as it was written, and its path decoded.

    Raises:
        Refusal: read by any server on the way, it could mean a place outside the agent's API.
    """
    raw = request.rel_url.raw_path.split("/", 4)[-1]
    query = request.rel_url.raw_query_string
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError:
        path = ""
    strange = not _VISIBLE.fullmatch(raw + query) or _CONTROL.search(path)
    if strange or any(part in ("", ".", "..") for part in re.split(r"[/\\]", path)):
        raise Refusal(400, "malformed", "path: must be that of a route of agents, without empty or dot segments")
    return f"/{raw}?{query}" if query else f"/{raw}", path


def _sent(request: web.Request) -> dict[str, str]:
    """The headers that go upstream; whose token goes with them, the client does not decide."""
    sent = {"Accept-Encoding": "identity"}
    for name in REQUEST_HEADERS:
        if name in request.headers:
            sent[name] = ", ".join(request.headers.getall(name))
            if not _FIELD.fullmatch(sent[name]):
                raise Refusal(400, "malformed", f"header {name}: must be printable ASCII")
    return sent


def _check(answer: aiohttp.ClientResponse) -> None:
    if answer.status == 401:
        raise Trouble(Status.UNAUTHORIZED, "token_rejected")
    if not 200 <= answer.status < 600:
        raise Trouble(Status.INCOMPATIBLE, "bad_body", f"it answered with a status {answer.status}")


def _given(answer: aiohttp.ClientResponse, at: str) -> Mapping[str, str]:
    """The headers that go back; `at` is where the agent's root is at the viewer."""
    given = {
        name: value for name in RESPONSE_HEADERS if _FIELD.fullmatch(value := answer.headers.get(name, "")) and value
    }
    given["Content-Security-Policy"] = INERT_POLICY
    location = answer.headers.get("Location", "")
    if re.fullmatch(r"/(?!/)[!-~]*", location):
        given["Location"] = at + location
    if hdrs.CONTENT_TYPE in answer.headers:
        inert = answer.content_type in INERT_TYPES and _FIELD.fullmatch(answer.headers[hdrs.CONTENT_TYPE])
        given["Content-Type"] = answer.headers[hdrs.CONTENT_TYPE] if inert else "application/octet-stream"
        if not inert:
            given["Content-Disposition"] = "attachment"
    if answer.content_type == "text/event-stream":
        given["X-Accel-Buffering"] = "no"
    return given


ROUTES: tuple[Route, ...] = tuple((method, "/api/agents/{agent}/{path:[\\s\\S]*}", proxy) for method in METHODS)
