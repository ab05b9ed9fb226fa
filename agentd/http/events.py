"""Events: pages of a session's journal, and streams that replay and then go on live, without a hole or a double."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec import Meta

from agentd.bus import Bus, BusClosed, Subscription
from agentd.errors import Malformed, SessionNotFound, SessionReadOnly, Unavailable
from agentd.http import answers, sse
from agentd.http.routing import Call, Route
from agentd.http.tokens import Role
from agentd.model.task import Value

#: Events read from a journal at once during a replay.
REPLAY = 500


class After(Value, frozen=True, kw_only=True):
    """Parameters of GET /sessions/{session_id}/events."""

    after: Annotated[int, Meta(ge=0)] = 0
    limit: int = 100


class AfterAny(Value, frozen=True, kw_only=True):
    """Parameters of GET /events: the id of an event; without it the stream begins now."""

    after: str | None = None


class EventsPage(Value, frozen=True, kw_only=True):
    """A page of events as the journal has them; ask for what follows with `after=next`."""

    data: tuple[dict[str, Any], ...]
    next: int | None
    gap: int | None  #: the first seq still kept, when some that were asked for are pruned
    seq: int  #: the session's latest


async def session_events(call: Call) -> web.StreamResponse:
    """A page, or a stream when the client accepts one."""
    if sse.wanted(call):
        return await _session_stream(call)
    session_id = call.params["session_id"]
    page = await call.service.events(session_id, call.query.after, call.query.limit)
    lines = (line.rstrip(b"\n") for line in page.lines)
    return answers.hashed_text(call, answers.joined(lines, next=page.next, gap=page.gap, seq=page.seq))


async def _session_stream(call: Call) -> web.StreamResponse:
    session_id = call.params["session_id"]
    seen = _seen(sse.last_event_id(call), call.query.after)
    page = await call.service.events(session_id, seen, 1)  # an error here is still a plain answer
    with call.seats:
        async with sse.EventStream(call, call.service.settings.http.heartbeat_s) as stream:
            await stream.hello(str(seen), session_id=session_id, seq=page.seq, boot_id=call.service.boot_id)
            if seen > page.seq:
                await _gap(stream, str(0), reason="foreign", after=str(seen), first=1)
                seen = 0
            seen = await _replayed(call, stream, session_id, seen)
            async with call.service.bus.subscribe(session_id, call.service.settings.limits.sse_buffer) as live:
                seen = await _replayed(call, stream, session_id, seen)  # what came before the subscription stood
                while (row := await _next(stream, live)) is not None:
                    position, line = row
                    if position > seen:
                        seen = position
                        await stream.send_line(line, str(position))
                    elif position == 0:  # of the daemon, about this session; the journal does not number it
                        await stream.send_line(line, None)
                        if sse.type_in(line) == "session.deleted":
                            break
        return stream.response


async def _replayed(call: Call, stream: sse.EventStream, session_id: str, seen: int) -> int:
    """Send what the journal has behind `seen`; the last seq sent."""
    while True:
        page = await call.service.events(session_id, seen, REPLAY)
        if page.gap is not None and page.gap > seen + 1:
            await _gap(stream, str(page.gap - 1), reason="pruned", after=str(seen), first=page.gap)
            seen = page.gap - 1
        for line in page.lines:
            seen = sse.seq_in(line)
            await stream.send_line(line, str(seen))
        if page.next is None:
            return seen


async def all_events(call: Call) -> web.StreamResponse:
    """A stream over all sessions and the daemon itself."""
    bus, boot_id = call.service.bus, call.service.boot_id
    asked = sse.last_event_id(call) or call.query.after
    position = None if asked is None else _position(asked, boot_id)
    with call.seats:
        async with (
            bus.subscribe(None, call.service.settings.limits.sse_buffer) as live,
            sse.EventStream(call, call.service.settings.http.heartbeat_s) as stream,
        ):
            now = bus.position
            start, rows, reason = _missed(bus, position)  # nothing is awaited since `now`: `live` has what follows it
            await stream.hello(_id(boot_id, start), seq=now, boot_id=boot_id)
            if reason is not None:
                await _gap(stream, _id(boot_id, start), reason=reason, after=asked, first=start + 1)
            for seq, line in rows:
                await stream.send_line(line, _id(boot_id, seq))
            while (row := await _next(stream, live)) is not None:
                if row[0] > now:
                    await stream.send_line(row[1], _id(boot_id, row[0]))
        return stream.response


def _position(asked: str, boot_id: str) -> int:
    """The position that an event's id names in this boot; -1 when it is of another boot."""
    boot, _, number = asked.rpartition("-")
    if not number.isascii() or not number.isdigit() or len(number) > 18:
        raise Malformed.field("after", "must be the id of an event")
    return int(number) if boot in ("", boot_id) else -1


def _missed(bus: Bus, position: int | None) -> tuple[int, list[tuple[int, bytes]], str | None]:
    """Where the reader stands, what it has missed since, and why that may not be all."""
    if position is None:
        return bus.position, [], None
    foreign = position < 0 or position > bus.position
    start = 0 if foreign else position
    reason = "restarted" if foreign else None
    rows = bus.replay(start)
    if rows is None:
        return bus.position, [], reason or "pruned"
    return start, rows, reason


async def _next(stream: sse.EventStream, live: Subscription) -> tuple[int, bytes] | None:
    """The next event, with heartbeats until it comes; None when the daemon stops."""
    while True:
        try:
            async with asyncio.timeout(stream.quiet_s):
                return await live.get()
        except TimeoutError:
            await stream.beat()
        except BusClosed:
            return None


async def _gap(stream: sse.EventStream, position: str, **facts: Any) -> None:
    """Say that events are missing: the reader must read again what it shows. `first` is the next one it gets."""
    await stream.send("gap", msgspec.json.encode(facts), position)


def _id(boot_id: str, position: int) -> str:
    return f"{boot_id}-{position}"


def _seen(last_id: str | None, after: int) -> int:
    if last_id is None:
        return after
    if not last_id.isascii() or not last_id.isdigit() or len(last_id) > 18:
        raise Malformed.field("Last-Event-ID", "must be the seq of an event of this session")
    return int(last_id)


ROUTES = (
    Route(
        method="GET",
        path="/sessions/{session_id}/events",
        name="session_events",
        summary="The session's events: a page, or with Accept: text/event-stream a replay that goes on live",
        handler=session_events,
        role=Role.VIEWER,
        for_tasks=True,
        query=After,
        answers={200: (EventsPage, sse.MEDIA_TYPE)},
        errors=(SessionNotFound, SessionReadOnly, Unavailable),
    ),
    Route(
        method="GET",
        path="/events",
        name="all_events",
        summary="Events of all sessions and of the daemon, live",
        handler=all_events,
        role=Role.VIEWER,
        query=AfterAny,
        answers={200: sse.MEDIA_TYPE},
        errors=(Unavailable,),
    ),
)
