"""`/api/events`: the events of all agents as one stream, each with its `agent`, resumed at every agent at once."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import quote, unquote

from aiohttp import web

from agentd.client import ServerEvent
from webui.contact import Contact
from webui.feed import Feed
from webui.refusals import Refusal
from webui.routes import Route
from webui.settings import NAME
from webui.ticks import HEARTBEAT_S, begun, send, write
from webui.upstream import Agent
from webui.visit import Visit

#: An id must fit into the header Last-Event-ID; of more agents than that has room for, events carry none.
MAX_ID = 6000

_BREAKS = re.compile(rb"[\r\n]+")
_EVENT_ID = re.compile(r"[!-~]{1,200}")


async def events(visit: Visit) -> web.StreamResponse:
    """Stream a `hello`, then what happens, and `agent` whenever an agent is reached or lost; `?agent=` narrows.

    An id is the last that each agent gave, `NAME:ID,NAME:ID`: `Last-Event-ID`, or `?after=`, goes on from there at
    each agent that it names, and from now at others. A reader that falls behind holds the agents back until they cut
    it off; nothing is skipped unless a `gap` says so.
    """
    names = {agent.name for agent in visit.asked_agents()} if visit.query.getall("agent", []) else None

    def agents() -> tuple[Agent, ...]:
        return tuple(agent for agent in visit.roster.agents() if names is None or agent.name in names)

    after = visit.request.headers.get("Last-Event-ID") or visit.query.get("after", "")
    seen = _seen(after)
    response = await begun(visit.request)
    await send(response, "hello", {"agents": [agent.name for agent in agents()]}, _id(seen))
    async with Feed(visit.upstream, agents, visit.token_for, last_ids=seen, lossless=True) as feed:
        while visit.request.transport is not None and not visit.request.transport.is_closing():
            found = await feed.next(HEARTBEAT_S)
            if found is None:
                await write(response, b":\n\n")
                continue
            agent, what = found
            if isinstance(what, Contact):
                await send(response, "agent", what, _id(seen))
                continue
            if what.id is not None and _EVENT_ID.fullmatch(what.id):
                seen[agent] = what.id
            await write(response, _frame(agent, what, _id(seen)))
            await asyncio.sleep(0)  # a long replay must not keep others waiting
    return response


def _frame(agent: str, event: ServerEvent, event_id: str | None) -> bytes:
    """An event as it came, with `agent` as its last field, which stands over one of the agent's own.

    Line breaks can only be between the tokens of JSON; a lone CR would end a field here (WHATWG HTML §9.2.6).
    """
    data = _BREAKS.sub(b" ", event.data).strip()
    if data.startswith(b"{") and data.endswith(b"}"):
        comma = b"" if not data[1:-1].strip() else b","
        data = data[:-1] + comma + b'"agent":"%s"}' % agent.encode()
    kind = _BREAKS.sub(b" ", event.type.encode())
    head = f"id: {event_id}\n".encode() if event_id is not None else b""
    return head + b"event: " + kind + b"\ndata: " + data + b"\n\n"


def _id(seen: dict[str, str]) -> str | None:
    found = ",".join(f"{agent}:{quote(last, safe='-')}" for agent, last in seen.items())
    return found if 0 < len(found) <= MAX_ID else None


def _seen(after: str) -> dict[str, str]:
    """The last event of each agent that an id names.

    Raises:
        Refusal: it is no id of this stream.
    """
    seen = {}
    for part in after.split(",") if after else ():
        name, _, last = part.partition(":")
        last = unquote(last)
        if not NAME.fullmatch(name) or not _EVENT_ID.fullmatch(last):
            raise Refusal(400, "malformed", "after: must be the id of an event of this stream, as Last-Event-ID is")
        seen[name] = last
    return seen


ROUTES: tuple[Route, ...] = (("GET", "/api/events", events),)
