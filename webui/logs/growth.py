"""How the log grows that an open page shows: followed at its agent, told to the page's stream."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Self

import msgspec

from agentd.client import UNREADABLE, AgentdError, parsed
from webui.contact import Status, Trouble
from webui.feed import PAUSES_S
from webui.logs.log import params
from webui.refusals import Refusal
from webui.upstream import CHUNK_BYTES, Agent, segment
from webui.visit import Visit

_LOG = re.compile(r"(?P<agent>[^/]+)/(?P<task>[^/]+)/(?P<attempt>[0-9]{1,9})(?:/(?P<stream>out|err))?")

Tell = Callable[[dict[str, Any]], Awaitable[None]]


class Growth:
    """Tells `{attempt, size, lines, ended}` as a log grows, while the context lasts; nothing without `?log=`.

    `?log=AGENT/TASK/ATTEMPT[/STREAM]`, where attempt 0 is the latest and those after it. An agent that is lost is
    asked again until it is back; that it is lost, the page learns from the stream of its events.

    Raises:
        Refusal: `log` is not of this form, or names an agent that is not there.
    """

    def __init__(self, visit: Visit, tell: Tell) -> None:
        self._visit = visit
        self._tell = tell
        self._following: asyncio.Task[None] | None = None
        given = visit.query.get("log")
        self._log = _LOG.fullmatch(given) if given else None
        if given and self._log is None:
            raise Refusal(
                400, "malformed", f"log: {given[:100]!r} is not AGENT/TASK/ATTEMPT or AGENT/TASK/ATTEMPT/STREAM"
            )
        if self._log is not None:
            visit.agent(self._log["agent"])

    async def __aenter__(self) -> Self:
        if self._log is not None:
            self._following = asyncio.create_task(self._follow(self._log))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self, log: re.Match[str]) -> None:
        tries = 0
        while True:
            try:
                agent = self._visit.agent(log["agent"])  # where it is now
                async with aclosing(self._grown(agent, log)) as grown:
                    async for told in grown:
                        tries = 0
                        await self._tell(told)
                return
            except Refusal:
                return  # it is no agent of the viewer any more
            except (Trouble, AgentdError):
                pass  # the page is told by its feed of events, which has the same agent
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    async def _grown(self, agent: Agent, log: re.Match[str]) -> AsyncGenerator[dict[str, Any], None]:
        async with self._visit.upstream.exchange(
            agent,
            "GET",
            f"/tasks/{segment(log['task'])}/output/growth",
            token=self._visit.token_for(agent),
            params=params(int(log["attempt"]), log["stream"]),
            headers={"Accept": "text/event-stream"},
        ) as answer:
            if 400 <= answer.status < 500:
                return  # there is no such log, or not for this token: the page itself says so
            if answer.status != 200 or answer.content_type != "text/event-stream":
                raise Trouble(Status.ERROR, "http_error", f"it answered {answer.status}")
            async for event in parsed(answer.content.iter_chunked(CHUNK_BYTES)):
                if event.type == "end":
                    return
                if event.type == "growth" and (told := _told(event.data)) is not None:
                    yield told
        raise Trouble(Status.UNREACHABLE, "closed")


def _told(data: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(data)
    except UNREADABLE:
        return None
    if not isinstance(found, dict) or not all(isinstance(found.get(name), int) for name in ("attempt", "size")):
        return None
    lines = found.get("total_lines")
    return {
        "attempt": found["attempt"],
        "size": found["size"],
        "lines": lines if isinstance(lines, int) else 0,
        "ended": found.get("ended") is True,
    }
