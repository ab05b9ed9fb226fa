"""The event streams of several agents as one: each is kept open, and it is said when one falls silent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Self, TypeGuard

from aiohttp import ClientResponse

from agentd.client import AgentdError, ServerEvent, parsed
from webui.contact import Contact, Status, Trouble
from webui.upstream import Agent, Params, Upstream, contact_of, rfc3339

#: Between tries to reach an agent again, in seconds: a page heals within 5 s of a restart.
PAUSES_S = (0.1, 0.3, 0.5, 1.0)
#: A reader that is so many events behind is told to read anew, once.
QUEUE_EVENTS = 1000
#: A stream that stood for so long was one: the first try to reach its agent again comes at once.
STOOD_S = 5.0
#: How long an agent may take to begin a stream.
HELLO_S = 5.0
#: When nothing came for so long, the agent is asked whether it is there, and has so long to answer: an open page says
#: within 6 s that an agent fell silent, however seldom that one's own heartbeat comes.
SILENCE_S = 4.0
PROBE_S = 2.0
#: Of an event's id that is sent back.
MAX_ID = 200
#: The roster is compared with what is open after so long.
ROSTER_S = 1.0

Found = tuple[str, ServerEvent | Contact]
Agents = Callable[[], tuple[Agent, ...]]
TokenFor = Callable[[Agent], str | None]


class Feed:
    """What happens at several agents, for one reader. Use it as `async with Feed(...) as feed: async for ... in feed`.

    Gives `(agent, event)`, and `(agent, contact)` whenever the agent is reached, lost or refuses, the first time
    included. After `lost` was set the reader missed events and must read the truth anew.

    Args:
        agents: asked every ROSTER_S, so that agents may come and go.
        token_for: the token for an agent.
        path: the stream, the same at each.
        last_ids: by agent, where to go on from.
        lossless: nothing is ever dropped; agents wait for a slow reader, and cut it off, and are resumed.
    """

    def __init__(
        self,
        upstream: Upstream,
        agents: Agents,
        token_for: TokenFor,
        path: str = "/events",
        params: Params = (),
        last_ids: dict[str, str] | None = None,
        lossless: bool = False,
    ) -> None:
        self._upstream = upstream
        self._agents = agents
        self._token_for = token_for
        self._path = path
        self._params = params
        self._queue: asyncio.Queue[Found] = asyncio.Queue(QUEUE_EVENTS)
        self._tasks: dict[Agent, asyncio.Task[None]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._lossless = lossless
        self.last_ids = dict(last_ids or {})
        self.lost = False

    async def __aenter__(self) -> Self:
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = [task for task in (self._keeper, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def next(self, within_s: float | None = None) -> Found | None:
        """The next that happens; None when nothing does within the time."""
        try:
            async with asyncio.timeout(within_s):
                return await self._queue.get()
        except TimeoutError:
            return None

    async def _keep(self) -> None:
        while True:
            wanted = set(self._agents())
            for agent in [agent for agent in self._tasks if agent not in wanted]:
                task = self._tasks.pop(agent)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                if all(agent.name != each.name for each in wanted):
                    await self._put(agent.name, contact_of(agent, Trouble(Status.UNREACHABLE, "removed")))
            for agent in wanted - self._tasks.keys():
                self._tasks[agent] = asyncio.create_task(self._follow(agent))
            await asyncio.sleep(ROSTER_S)

    async def _follow(self, agent: Agent) -> None:
        loop = asyncio.get_running_loop()
        tries = 0
        silent: Contact | None = None
        while True:
            began = loop.time()
            try:
                async with aclosing(self._events(agent)) as events:
                    async for event in events:
                        if event.type == "hello":
                            silent = None
                            await self._put(agent.name, _reached(agent))
                        if _can_be_sent_back(event.id):
                            self.last_ids[agent.name] = event.id
                        await self._put(agent.name, event)
                trouble = Trouble(Status.UNREACHABLE, "closed")
            except Trouble as error:
                trouble = error
            except TimeoutError:
                trouble = Trouble(Status.UNREACHABLE, "read_timeout")
            except AgentdError as error:
                trouble = Trouble(Status.INCOMPATIBLE, "bad_body", error.detail)
            if silent is None or silent.reason_code != trouble.code:
                silent = contact_of(agent, trouble, silent.tried_at if silent is not None else None)  # since it began
                await self._put(agent.name, silent)
            if loop.time() - began > STOOD_S:
                tries = 0
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    async def _events(self, agent: Agent) -> AsyncGenerator[ServerEvent, None]:
        headers = {"Accept": "text/event-stream"}
        if agent.name in self.last_ids:
            headers["Last-Event-ID"] = self.last_ids[agent.name]
        async with (
            asyncio.timeout(HELLO_S) as patience,
            self._upstream.exchange(
                agent,
                "GET",
                self._path,
                token=self._token_for(agent),
                params=self._params,
                headers=headers,
                read_s=None,
            ) as answer,
        ):
            if answer.status == 401:
                raise Trouble(Status.UNAUTHORIZED, "token_rejected")
            if answer.status == 403:
                raise Trouble(Status.UNAUTHORIZED, "forbidden")
            if answer.status != 200:
                self.last_ids.pop(agent.name, None)  # it may be what was refused
                raise Trouble(Status.ERROR, "http_error", f"it answered {answer.status}")
            if answer.content_type != "text/event-stream":
                raise Trouble(Status.INCOMPATIBLE, "bad_body", "its answer is not a stream of events")
            async with aclosing(self._blocks(agent, answer)) as blocks, aclosing(parsed(blocks)) as events:
                async for event in events:
                    if patience.when() is not None:
                        if event.type != "hello":
                            raise Trouble(Status.INCOMPATIBLE, "bad_shape", "its stream does not begin as agentd's do")
                        patience.reschedule(None)
                    yield event

    async def _blocks(self, agent: Agent, answer: ClientResponse) -> AsyncGenerator[bytes, None]:
        """What comes; while nothing does, the agent is asked whether it is there at all."""
        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    block = await answer.content.readany()
            except TimeoutError:
                if not await self._upstream.answers(agent, self._token_for(agent), PROBE_S):
                    detail = "it fell silent, and does not answer"
                    raise Trouble(Status.UNREACHABLE, "read_timeout", detail) from None
                continue
            if not block:
                return
            yield block

    async def _put(self, agent: str, found: ServerEvent | Contact) -> None:
        if self._lossless:
            await self._queue.put((agent, found))
            return
        if self._queue.full():
            self.lost = True
            with suppress(asyncio.QueueEmpty):
                self._queue.get_nowait()
        self._queue.put_nowait((agent, found))


def _can_be_sent_back(event_id: str | None) -> TypeGuard[str]:
    return event_id is not None and len(event_id) <= MAX_ID and event_id.isascii() and event_id.isprintable()


def _reached(agent: Agent) -> Contact:
    now = rfc3339(time.time())
    return Contact(agent=agent.name, status=Status.FRESH, tried_at=now, answered_at=now, url=agent.url)
