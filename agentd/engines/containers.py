"""The local engine, for attempts that run containers: one is over only when no container of it is left.

A container is the engine's of its host, no process of ours: whatever kills a driver leaves it running. So when a
driver did not say that its container is gone, a program that asks the container engine removes what has the label of
the attempt; at a start, what has the label of an earlier boot of this agent. An engine that is away is asked again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from agentd.clock import Clock
from agentd.config import Workers
from agentd.engines.local.evidence import result
from agentd.engines.local.pool import LocalEngine
from agentd.model.launch import EndedBy, Exit, Launch
from agentd.model.task import Value

log = structlog.get_logger()

#: How long one removal may take; between two tries of one that failed, at first and at most: in seconds.
REAP_S = 30.0
AGAIN_S, AGAIN_MOST_S = 15.0, 600.0
_REAP = (sys.executable, "-P", "-m", "agentd.drivers.container", "reap")


class Mark(Protocol):
    """Remembers, beyond the end of this process, that containers may be there. May block: called in threads."""

    def is_set(self) -> bool:
        """Whether some may be."""

    def set(self) -> None:
        """Some may be, from now on."""

    def clear(self) -> None:
        """None is."""


class _Left(Value, frozen=True, kw_only=True):
    """What is read of a driver's record."""

    container_id: str | None = None
    gone: bool = False


class _Reaped(Value, frozen=True, kw_only=True):
    removed: tuple[str, ...] = ()
    problem: str = ""


class LocalEngineWithContainers(LocalEngine):
    """A local engine whose launches may leave containers (`Launch.may_leave_container`)."""

    def __init__(self, settings: Workers, agent_id: str, boot_id: str, clock: Clock, *, mark: Mark) -> None:
        super().__init__(settings, agent_id, boot_id, clock)
        self._reaper = (*_REAP, "--agent", agent_id)
        self._mark = mark
        self._marking = asyncio.Lock()
        self._settling: dict[str, asyncio.Task[Exit]] = {}
        self._owed: set[tuple[str, ...]] = set()  #: removals that failed
        self._asking_again: asyncio.Task[None] | None = None

    async def clear_earlier(self) -> None:
        """Remove the containers of earlier boots, if there may be any; takes REAP_S seconds at most.

        With an engine that is away it is tried again later.
        """
        if await asyncio.to_thread(self._mark.is_set):
            await self._reap("--spare-boot", self.boot_id)
            await self._settle_mark()

    def start(self, worker_id: str, launch: Launch, on_spawned: Callable[[int, int], None]) -> asyncio.Future[Exit]:
        """Run the launch on the claimed worker; idempotent by attempt id."""
        if launch.attempt_id in self._settling:
            self.release(worker_id)
            return self._settling[launch.attempt_id]
        exit = super().start(worker_id, launch, on_spawned)
        if not launch.may_leave_container:
            return exit
        settling = asyncio.get_running_loop().create_task(self._settled(launch, exit))
        self._settling[launch.attempt_id] = settling
        return settling

    def attach(self, attempt_id: str) -> asyncio.Future[Exit]:
        """The future of an attempt that runs now.

        Raises:
            KeyError: the engine does not run it.
        """
        return self._settling.get(attempt_id) or super().attach(attempt_id)

    async def close(self) -> None:
        """Let idle workers go. Removals that are under way are cut off: the next start does them."""
        await super().close()
        tasks = [*self._settling.values(), *([self._asking_again] if self._asking_again is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _settled(self, launch: Launch, running: asyncio.Future[Exit]) -> Exit:
        """The exit, when its container is gone, or could not be removed in time."""
        try:
            # What is left is removed all the same while this process lives.
            async with self._marking:
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(self._mark.set)
            exit = await running
            if exit.ended_by is EndedBy.SPAWN_FAILED:
                return exit
            left = await asyncio.to_thread(_left, launch, exit)
            if not left.gone and (problem := await self._reap("--attempt", launch.attempt_id)):
                said = f"its container{f' {left.container_id}' if left.container_id else ''} may be left"
                where = f"`docker ps --all --filter label=agentd.attempt={launch.attempt_id}` shows it"
                text = f"{said}, and its removal is tried again: {problem}; {where}"
                exit = msgspec.structs.replace(exit, message="; ".join(filter(None, [exit.message, text])))
            return exit
        finally:
            del self._settling[launch.attempt_id]
            await self._settle_mark()

    async def _settle_mark(self) -> None:
        async with self._marking:
            if not self._settling and not self._owed:
                with contextlib.suppress(OSError):  # a start looks once more than it needs to
                    await asyncio.to_thread(self._mark.clear)

    # ------------------------------------------------------------------ removing

    async def _reap(self, *what: str) -> str:
        """Remove what these arguments say; why it failed, or an empty text. What failed is tried again later."""
        problem = await self._try(what)
        if problem:
            self._owed.add(what)
            if self._asking_again is None or self._asking_again.done():
                self._asking_again = asyncio.get_running_loop().create_task(self._ask_again())
        return problem

    async def _ask_again(self) -> None:
        pause_s = AGAIN_S
        while self._owed:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MOST_S)
            for what in list(self._owed):
                if not await self._try(what):
                    self._owed.discard(what)
        await self._settle_mark()

    async def _try(self, what: tuple[str, ...]) -> str:
        pipe = asyncio.subprocess.PIPE
        try:
            # In our session: what has another and is no worker counts as a stray.
            process = await asyncio.create_subprocess_exec(
                *self._reaper, *what, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            return f"the program that removes containers could not be started: {error.strerror}"
        try:
            async with asyncio.timeout(REAP_S):
                out, complaint = await process.communicate()
        except TimeoutError:
            problem = f"the container engine did not remove it within {REAP_S:g} s"
            log.warning("containers.left", what=what, reason=problem)
            return problem
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            reaped = msgspec.json.decode(out, type=_Reaped)
        except msgspec.MsgspecError:
            last = complaint.decode(errors="replace").strip().rpartition("\n")[2]
            reaped = _Reaped(problem=f"the program that removes containers failed: {last}")
        if reaped.problem:
            log.warning("containers.left", what=what, reason=reaped.problem)
        elif reaped.removed:
            log.info("containers.removed", what=what, containers=reaped.removed)
        return reaped.problem


def _left(launch: Launch, exit: Exit) -> _Left:
    """What the driver wrote last, also where its worker could not tell."""
    text = exit.result if exit.result is not None else result(launch.result_path, launch.max_result_bytes)[0]
    try:
        return msgspec.json.decode(text or "{}", type=_Left)
    except msgspec.MsgspecError:
        return _Left()
