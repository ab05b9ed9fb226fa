"""Parsers of what requests bring: headers, paths, queries and bodies."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from agentd.errors import AgentdError
from agentd.http import answers, auth, bodies, events, follow, output, preconditions, queries
from agentd.http.routes import ROUTES
from agentd.http.routing import Call, Table
from agentd.http.tokens import TokenFile
from agentd.kinds import shell
from agentd.log import blot
from agentd.model import ids
from agentd.model.requests import TaskQuery
from agentd.scopes import TaskTokens
from agentd.service import listing
from agentd.store import history, inside
from faultlib.parser_table import StoppedClock, header, parser, place, request
from webui import doorkeeper, identity, settings
from webui.api import events as viewer_events
from webui.refusals import Refusal


def _call(**headers: str) -> Call:
    route = next(route for route in ROUTES if route.name == "get_output")
    return cast(
        Call,
        SimpleNamespace(request=request(**headers), route=route, params={}, raw_body=b"", query=SimpleNamespace()),
    )


@parser("bytes=0-1", "bytes=-5", "bytes=5-", "bytes=0-1,2-3", "bytes=9999999999999999999-", "bytes=" + "9" * 5000 + "-")
def range(text: bytes) -> None:
    """Range."""
    given = header(text)
    if given is not None:
        for size in (0, 1, 100):
            span = output._span(_call(Range=given), size, '"e"')
            assert span is None or 0 <= span[0] <= span[1] <= size


@parser('"12"', "*", 'W/"1"', '"1", "2"', '"' + "9" * 5000 + '"', '"\u0661"')
def if_match(text: bytes) -> None:
    """If-Match and If-None-Match."""
    given = header(text)
    if given is not None:
        with contextlib.suppress(AgentdError):
            preconditions.if_seqs(_call(If_Match=given))
        answers.is_known(_call(If_None_Match=given), '"1"')


@parser("key", "k" * 256, "\x7f")
def idempotency_key(text: bytes) -> None:
    """Idempotency-Key."""
    given = header(text)
    if given is not None:
        with contextlib.suppress(AgentdError):
            preconditions.key(_call(Idempotency_Key=given))


@parser("12", "boot-12", "1:100", "x" * 30, "9" * 40, "\u0661")
def last_event_id(text: bytes) -> None:
    """Last-Event-ID of each stream."""
    given = header(text)
    if given is None:
        return
    with contextlib.suppress(AgentdError):
        assert events._seen(given, 0) >= 0
    with contextlib.suppress(AgentdError):
        assert events._position(given, "boot") >= -1
    with contextlib.suppress(AgentdError):
        call = cast(Any, _call(Last_Event_ID=given))
        call.query = follow.Follow()
        attempt, offset = follow._place(call, cast(Any, SimpleNamespace(attempt=3)))
        assert 1 <= attempt <= 3 and offset >= 0
    with contextlib.suppress(Refusal):
        viewer_events._seen(given)


@parser("localhost", "127.0.0.1:80", "[::1]:80", "[", "[::1", "a:b:c", "evil.example")
def host(text: bytes) -> None:
    """Host, at the daemon and at the viewer."""
    given = header(text)
    if given is None:
        return
    known = {"localhost", "127.0.0.1", "[::1]"}
    keeper = auth.Doorkeeper(
        "t" * 40, TokenFile(place()), task_of=lambda _: None, hosts=(), failures=1, clock=StoppedClock()
    )
    try:
        keeper.check_origin(request(Host=given))
    except AgentdError:
        pass
    else:
        assert auth.host_name(given.lower()) in known
    with contextlib.suppress(Refusal):
        _viewers_door().check_host(request(Host=given))
    with contextlib.suppress(Refusal):
        _viewers_door().check_origin(request(Host="localhost", Origin=given))
    try:
        keeper.check_origin(request(Host="localhost:1", Origin=given))
    except AgentdError:
        pass
    else:
        assert given.lower() in ("http://localhost:1", "https://localhost:1")


@cache
def _viewers_door() -> doorkeeper.Doorkeeper:
    return doorkeeper.Doorkeeper(settings.Settings(secret_file=Path("s")), identity.Seals(b"s" * 32))


@parser(
    "Bearer x",
    "bearer",
    "Basic eA==",
    "Bearer " + "x" * 5000,
    "Bearer task-" + "0" * 14 + "-" + "0" * 64,
    b"Bearer task-00000000000000-\xff",
)
def authorization(text: bytes) -> None:
    """Authorization: nobody is let in by chance."""
    given = header(text)
    if given is None:
        return
    tokens = TaskTokens(b"k" * 32)
    keeper = auth.Doorkeeper(
        "t" * 40, TokenFile(place() / "none"), task_of=tokens.task_id, hosts=(), failures=1 << 30, clock=StoppedClock()
    )
    with contextlib.suppress(AgentdError):
        caller = keeper.caller(request(Authorization=given))
        raise AssertionError(f"{given!r} is {caller}")
    assert tokens.task_id(given) is None
    assert _viewers_door().identity(request(Authorization=given)) is None


@parser("/sessions/s/tasks", "/sessions/%2e%2e/artifacts/..%2f..%2fx", "/tasks/%ff", "//", "/sessions/s/artifacts/a/b")
def path(text: bytes) -> None:
    """The path of a request, and of an artifact: accepted ones are plain, relative and inside."""
    path = text.decode("latin-1")
    with contextlib.suppress(AgentdError):
        match = _table().match(path)
        for name, value in match.params.items():
            assert not (ids.is_session_id(value) and ids.is_task_id(value) and "/" in value)
            if name == "path":
                names = inside.checked(value)
                assert not {"", ".", ".."} & set(names) and not any("/" in name or "\0" in name for name in names)


@cache
def _table() -> Table:
    return Table(ROUTES)


@parser("limit=5&cursor=x", "state=running&state=x", "since=2026-01-01T00:00:00Z", "label=a%3Db", "q=%ff", "limit=1e9")
def query(text: bytes) -> None:
    """The query of any route."""
    given = text.decode("latin-1")
    for shape in {route.query for route in ROUTES}:
        with contextlib.suppress(AgentdError):
            found = queries.decoded(given, shape)
            if isinstance(found, TaskQuery):
                listing.with_times(found)


@parser(listing.cursor_of("tasks", ("a", "b")), listing.cursor_of("workers", 3), "WyJhIiwgMV0", "\xff")
def cursor(text: bytes) -> None:
    """A cursor of each form."""
    given = text.decode("utf-8", "surrogateescape")
    for shape in (str, int, tuple[str, str]):
        with contextlib.suppress(AgentdError):
            listing.key_in(given, "tasks", cast(Any, shape))
    with contextlib.suppress(AgentdError):
        history._cursor(given)


@parser(
    b'{"kind":"shell","spec":{"command":"x","env":{"A":"b"}},"retry":{"max":2,"on":["exit_code"]},"labels":{"a":"b"}}',
    b'{"session_id":"s","title":"t","policy":{"retention":{"tasks":{"max_count":1}}}}',
    b'{"progress":40,"phase":"x"}',
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"spec":{"command":"\xff"}}',
)
def body(text: bytes) -> None:
    """The body of any route: what is taken can be written again."""
    for shape in {route.body for route in ROUTES if route.body is not None}:
        with contextlib.suppress(AgentdError):
            value = bodies.decoded(text, shape)
            msgspec.json.encode(value)
            if hasattr(value, "spec") and hasattr(value, "kind"):
                shell.Shell().check(value.spec)


@parser(
    "2026-01-02T03:04:05Z", "2026-01-02", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "20260102T030405Z"
)
def moment(text: bytes) -> None:
    """A time of the API."""
    given = text.decode("utf-8", "surrogateescape")
    with contextlib.suppress(AgentdError):
        found = listing.moment("since", given)
        assert found is not None and len(found) == 27 and listing.moment("since", found) == found


@parser("token=abc", "Bearer x", "agentd_" + "x" * 40, '{"password": "x"}', "env=1")
def log_line(text: bytes) -> None:
    """What is logged: no token is left in it."""
    said = text.decode("utf-8", "replace")
    token = "agentd_" + "Ab0-_" * 9
    line = blot(None, "info", {"event": said, "detail": f"{said} {token} {said}", "nested": [{"a": [said]}]})
    assert token not in str(line)
