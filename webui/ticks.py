"""`/live`: tells an open page that something it shows has changed; what, the page asks for itself.

Events are gathered: the first is told at once, more at most every TICK_S, however many there are.
"""

from __future__ import annotations

import asyncio
import time

import msgspec
from aiohttp import web

from agentd.client import UNREADABLE, ServerEvent
from webui.contact import Contact
from webui.feed import Feed
from webui.logs.growth import Growth
from webui.upstream import Agent
from webui.visit import Visit

TICK_S = 0.1
HEARTBEAT_S = 10.0
#: Of the tasks that a tick names; with more it names none, and all may have changed.
MAX_NAMED = 100
#: A browser that takes nothing for so long is cut off; it comes back by itself.
STALLED_S = 10.0

#: Events that change nothing a page shows.
_SILENT = frozenset({"hello", "task.spawned"})


class _Subject(msgspec.Struct, frozen=True):
    session_id: str | None = None
    task_id: str | None = None


class _Tick:
    """What changed since the last tick."""

    def __init__(self) -> None:
        self.agents: set[str] = set()
        self.sessions: set[tuple[str, str]] = set()
        self.tasks: set[tuple[str, str]] = set()
        self.contacts: dict[str, Contact] = {}
        self.all = False

    def __bool__(self) -> bool:
        return bool(self.agents or self.contacts or self.all)

    def changed(self) -> dict[str, object]:
        named = [{"agent": agent, "task_id": task} for agent, task in sorted(self.tasks)]
        return {
            "agents": sorted(self.agents),
            "tasks": named if len(named) <= MAX_NAMED else [],
            "all": self.all or len(named) > MAX_NAMED,
        }


async def live(visit: Visit) -> web.StreamResponse:
    """Stream `hello`, then `changed` and `agent` events.

    `?agent=` (repeatable) and `?session=` narrow what is told. `changed` has `{agents, tasks: [{agent, task_id}],
    all}`; `agent` is an agent's contact, sent on every connect and whenever it is lost or back. With `?log=` come
    `log` events of `{attempt, size, lines, ended}` too (see Growth).
    """
    names = visit.query.getall("agent", [])
    session = visit.query.get("session")
    for name in names:
        visit.agent(name)

    def agents() -> tuple[Agent, ...]:
        return tuple(agent for agent in visit.roster.agents() if not names or agent.name in names)

    async def grew(log: dict[str, object]) -> None:
        await send(response, "log", log)

    growth = Growth(visit, grew)
    response = await begun(visit.request)
    await send(response, "hello", {"agents": [agent.name for agent in agents()]})
    async with growth, Feed(visit.upstream, agents, visit.token_for) as feed:
        while visit.request.transport is not None and not visit.request.transport.is_closing():
            found = await feed.next(HEARTBEAT_S)
            if found is None:
                await send(response, "beat", {})
                continue
            tick = _Tick()
            _gather(tick, found[0], found[1], session)
            end = time.monotonic() + TICK_S
            if tick:  # tell the first at once
                await _tell(response, tick)
                tick = _Tick()
            while (left := end - time.monotonic()) > 0 and (found := await feed.next(left)) is not None:
                _gather(tick, found[0], found[1], session)
            if feed.lost:
                feed.lost, tick.all = False, True
            if tick:
                await _tell(response, tick)
    return response


def _gather(tick: _Tick, agent: str, found: ServerEvent | Contact, session: str | None) -> None:
    if isinstance(found, Contact):
        tick.contacts[agent] = found
        tick.agents.add(agent)
        return
    if found.type in _SILENT:
        return
    try:
        subject = msgspec.json.decode(found.data, type=_Subject)
    except UNREADABLE:
        subject = _Subject()
    if session is not None and subject.session_id not in (None, session):
        return
    tick.agents.add(agent)
    tick.all = tick.all or found.type == "gap"
    if subject.task_id is not None:
        tick.tasks.add((agent, subject.task_id))


async def _tell(response: web.StreamResponse, tick: _Tick) -> None:
    for contact in tick.contacts.values():
        await send(response, "agent", contact)
    await send(response, "changed", tick.changed())


async def begun(request: web.Request) -> web.StreamResponse:
    """An event stream that has begun."""
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    await response.prepare(request)
    await write(response, b"retry: 1000\n\n")
    return response


async def send(response: web.StreamResponse, event: str, value: object, event_id: str | None = None) -> None:
    """Send one event."""
    head = f"id: {event_id}\n" if event_id is not None else ""
    await write(response, f"{head}event: {event}\ndata: ".encode() + msgspec.json.encode(value) + b"\n\n")


async def write(response: web.StreamResponse, block: bytes) -> None:
    """Send bytes to a browser that takes them.

    Raises:
        ConnectionError: it is gone, or takes nothing.
    """
    try:
        async with asyncio.timeout(STALLED_S):
            await response.write(block)
    except TimeoutError:
        raise ConnectionResetError("the browser takes nothing") from None
