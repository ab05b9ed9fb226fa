"""A task's output with its two streams told apart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING

from agentd.cli.patience import Patience
from agentd.errors import Unreachable
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client
    from agentd.client.streams import OutputChunk

#: The worker writes bytes first and a few milliseconds later which stream they came from, more where it is held up:
#: seconds between two looks for that, at first and at most.
LOOK_S, LOOK_MOST_S = 0.02, 0.5


class Apart:
    """The output as (stream, bytes), each stream in its own order and from the byte that `seen` says, then the task.

    The daemon's live stream gives the bytes as they arrived; which came from where is in the index alone. So the
    live stream only rings, and the bytes are read of each stream by itself.
    """

    def __init__(self, agent: Client, task: Task, *, attempt: int | None = None, out: int = 0, err: int = 0) -> None:
        self._agent = agent
        self._task_id = task.task_id
        self._one = attempt is not None
        self._attempt = attempt or max(1, task.attempt)
        self._seen = {"out": out, "err": err}

    async def parts(self) -> AsyncGenerator[tuple[str, bytes] | Task, None]:
        """All of it."""
        async with aclosing(self._rings()) as rings:
            async for ring in rings:
                if isinstance(ring, Task):
                    async for part in self._rest(Patience(self._agent)):
                        yield part
                    yield ring
                    return
                if ring.attempt > self._attempt:
                    async for part in self._rest(Patience(self._agent)):
                        yield part
                    self._attempt, self._seen = ring.attempt, {"out": 0, "err": 0}
                if self._behind(ring):
                    async for part in self._rest(None):
                        yield part

    def _behind(self, ring: OutputChunk) -> bool:
        """Whether some of what it rang for was not seen yet."""
        return sum(self._seen.values()) < ring.offset + len(ring.data)

    async def _rings(self) -> AsyncGenerator[OutputChunk | Task, None]:
        """The live stream; each chunk again and again until all of it was seen, or the next comes."""
        stream = self._agent.follow_output(self._task_id, attempt=self._attempt, retries=not self._one)
        async with aclosing(stream):
            following = asyncio.ensure_future(anext(stream))
            try:
                while not isinstance(ring := await following, Task):
                    following, pause_s = asyncio.ensure_future(anext(stream)), LOOK_S
                    yield ring
                    while self._behind(ring) and not (await asyncio.wait({following}, timeout=pause_s))[0]:
                        yield ring
                        pause_s = min(2 * pause_s, LOOK_MOST_S)
                yield ring
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _rest(self, patience: Patience | None) -> AsyncGenerator[tuple[str, bytes], None]:
        """What there is now. Without patience a lost connection is left to the next ring."""
        for stream in self._seen:
            while True:
                blocks = self._agent.output(
                    self._task_id, attempt=self._attempt, stream=stream, start=self._seen[stream]
                )
                try:
                    async with aclosing(blocks):
                        async for block in blocks:
                            self._seen[stream] += len(block)
                            yield stream, block
                    break
                except Unreachable as error:
                    if patience is None:
                        return
                    await patience.after(error)
