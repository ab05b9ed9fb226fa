"""One assignment about a container, from its beginning to the end of what it made."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from agentd.drivers.container_engine import Away, Engine, Missing, Refused
from agentd.drivers.container_handing import Handing
from agentd.drivers.container_logs import Output
from agentd.kinds.containers import (
    AGENT_LABEL,
    ATTEMPT_LABEL,
    BOOT_LABEL,
    TASK_LABEL,
    Assignment,
    Operation,
    Pull,
    Record,
)

#: How long an engine that went away is waited for, and between two tries, in seconds.
AWAY_S, AGAIN_S = 30.0, 0.5
#: What the end of the output gets when the container is gone and no more comes; by how much the output ends before
#: the container at most, if it ended because the container did: in seconds.
DRAIN_S, LATE_S = 1.0, 1.0
T = TypeVar("T")


class Errand:
    """Does what is assigned. `tell` is called with what is known, when there is a container and when it has started;
    `say` with a line about what it does.
    """

    def __init__(
        self, assignment: Assignment, engine: Engine, tell: Callable[[Record], None], say: Callable[[str], None]
    ) -> None:
        self.container_id: str | None = None
        self.begun = self.started = False  #: it may run; it runs, or ran
        self._handing = Handing(assignment, engine)
        self._told = self._handing.told
        self._engine = engine
        self._tell = tell
        self._say = say
        self._output = Output()
        self._creating: asyncio.Task[str] | None = None
        self._tty = assignment.tty

    @property
    def ours(self) -> bool:
        """Whether the container is made by this attempt, and ends with it."""
        return self._told.operation is Operation.RUN

    async def work(self) -> Record:
        """Do it; how it went.

        Raises:
            Refused: it could not be done.
        """
        match self._told.operation:
            case Operation.RUN:
                await self._make()
                return await self._run()
            case Operation.START:
                await self._find()
                await self._pass_over()
                return await self._run()
            case Operation.STOP:
                return await self._stop()
            case Operation.LOGS:
                return await self._read()

    # ------------------------------------------------------------------ the operations

    async def _make(self) -> None:
        told = self._told
        if self._engine.local:
            _check_sources(told)
        if problem := self._handing.prepare():
            self._say(problem)
        await self._fetch()
        # Not to be cut short: what the engine makes all the same would have no id to be removed by.
        self._creating = asyncio.create_task(self._engine.create(_config(told), f"agentd-{told.attempt_id}"))
        try:
            self.container_id = await asyncio.shield(self._creating)
        except Refused as error:
            raise self._handing.blamed(error) from None
        self._tell(self.known())

    async def _fetch(self) -> None:
        image, pull = self._told.image, self._told.pull
        if pull is not Pull.ALWAYS and await self._engine.has_image(image):
            return
        if pull is Pull.NEVER:
            raise Refused(f"there is no image {image!r} here, and pull is never; load it, or set pull to missing")
        self._say(f"pulling {image}")
        await self._engine.pull(image)

    async def _find(self) -> dict[str, Any]:
        try:
            found = await self._engine.show(self._told.id)
        except Missing:
            raise Refused(f"there is no container {self._told.id!r}; `docker ps --all` lists those there are") from None
        self.container_id = str(found["Id"])
        config = found.get("Config") or {}
        self._tty = bool(config.get("Tty"))
        self._tell(self.known())
        return found

    async def _pass_over(self) -> None:
        """Not to tell again what it wrote when it ran before: counted, since times of engines are not exact enough."""
        assert self.container_id is not None
        await self._output.take(self._engine, self.container_id, raw=self._tty, follow=False, aloud=False)

    async def _run(self) -> Record:
        container_id = self.container_id
        assert container_id is not None
        self.begun = True
        await self._engine.start(container_id)
        self.started = True
        self._tell(self.known())
        try:
            code = await self._until_gone(container_id)
            known = self.known(exit_code=code, out_of_memory=await self._was_out_of_memory(container_id))
            return self._handing.taken(known)
        except Missing:
            raise Refused(f"container {container_id} was removed by somebody else, and its exit code with it") from None

    async def _until_gone(self, container_id: str) -> int:
        """Follow it to its end; its exit code."""
        clock = asyncio.get_running_loop().time
        ended: list[float] = []
        following = asyncio.create_task(self._patiently(lambda: self._write(container_id, follow=True)))
        following.add_done_callback(lambda _: ended.append(clock()))
        try:
            code = await self._patiently(lambda: self._engine.wait(container_id))
            while not following.done():
                before = self._output.bytes
                await asyncio.wait({following}, timeout=DRAIN_S)
                if self._output.bytes == before:
                    break
            left_well = following.done() and following.exception() is None and ended[0] + LATE_S > clock()
            if not left_well or self._engine.leaves_early:  # the container may have written more
                following.cancel()
                await asyncio.wait({following})
                await self._patiently(lambda: self._write(container_id, follow=False))
            return code
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _was_out_of_memory(self, container_id: str) -> bool:
        if self._told.memory_bytes is None:
            return False
        found = await self._engine.show(container_id)
        return bool((found.get("State") or {}).get("OOMKilled"))

    async def _stop(self) -> Record:
        await self._find()
        assert self.container_id is not None
        await self._engine.stop(self.container_id, max(1, round(self._told.grace_s)))
        return self.known(exit_code=await self._engine.wait(self.container_id))

    async def _read(self) -> Record:
        state = (await self._find()).get("State") or {}
        assert self.container_id is not None
        await self._write(self.container_id, follow=self._told.follow)
        return self.known(exit_code=None if state.get("Running") else state.get("ExitCode"))

    async def _write(self, container_id: str, *, follow: bool) -> None:
        await self._output.take(self._engine, container_id, raw=self._tty, follow=follow)

    async def _patiently(self, request: Callable[[], Awaitable[T]]) -> T:
        """Ask again while the engine is away, for a while: a container may outlive its engine's restart."""
        clock = asyncio.get_running_loop().time
        away_since: float | None = None
        while True:
            began = clock()
            try:
                return await request()
            except Away:
                if away_since is None or began + AWAY_S < clock():  # it was there in between
                    away_since = clock()
                if away_since + AWAY_S < clock():
                    raise
            await asyncio.sleep(AGAIN_S)

    # ------------------------------------------------------------------ its end

    async def ask_to_end(self, grace_s: float) -> None:
        """Ask the container to end, as its image wants to be asked; one that is not ours may be killed after the grace.

        Raises:
            Refused: the engine would not.
        """
        assert self.container_id is not None
        if self.ours:
            found = await self._engine.show(self.container_id)
            await self._engine.kill(self.container_id, str(found["Config"].get("StopSignal") or "SIGTERM"))
        else:  # a kill would have its restart policy start it again
            await self._engine.stop(self.container_id, max(1, int(grace_s)))

    async def kill(self) -> None:
        """End it at once.

        Raises:
            Refused: the engine would not.
        """
        assert self.container_id is not None
        if self.ours:
            await self._engine.kill(self.container_id)
        else:
            await self._engine.stop(self.container_id, 0)

    async def clear(self) -> None:
        """Remove what was made here, and nothing else.

        Raises:
            Refused: the engine would not.
        """
        self._handing.clear()
        if self._creating is not None:
            await asyncio.wait({self._creating})
            match self._creating.exception():
                case None:
                    await self._engine.remove(self._creating.result())
                case Away() as error:  # it may have been made all the same
                    raise error

    def known(self, **more: Any) -> Record:
        """What is known of it so far."""
        image = self._told.image or None
        return Record(container_id=self.container_id, image=image, started=self.started, gone=not self.ours, **more)


def _check_sources(told: Assignment) -> None:
    for n, mount in enumerate(told.mounts):
        if not os.path.exists(mount.source):
            what = f"mounts[{n}].source {mount.source} does not exist"
            raise Refused(f"{what}; make it first, or correct the path")


def _config(told: Assignment) -> dict[str, Any]:
    """The container, as Docker's API describes one."""
    host: dict[str, Any] = {
        "NetworkMode": told.network,
        "Mounts": [
            {"Type": "bind", "Source": mount.source, "Target": mount.target, "ReadOnly": mount.read_only}
            for mount in told.mounts
        ],
        # One that the API can read back, whatever the engine's default is.
        "LogConfig": {"Type": "json-file", "Config": {}},
    }
    if told.memory_bytes is not None:
        host |= {"Memory": told.memory_bytes, "MemorySwap": told.memory_bytes}
    if told.cpus is not None:
        host["NanoCpus"] = round(told.cpus * 1e9)
    if told.pids is not None:
        host["PidsLimit"] = told.pids
    config: dict[str, Any] = {
        "Image": told.image,
        "Env": [f"{name}={value}" for name, value in told.env.items()],
        "Tty": told.tty,
        "StopTimeout": 0,  # seconds that Podman gives one that is removed while it runs: it was asked before, by us
        "Labels": {
            AGENT_LABEL: told.agent_id,
            BOOT_LABEL: told.boot_id,
            TASK_LABEL: told.task_id,
            ATTEMPT_LABEL: told.attempt_id,
        },
        "HostConfig": host,
    }
    if told.command:
        config["Cmd"] = list(told.command)
    if told.user is not None:
        config["User"] = told.user
    if told.workdir is not None:
        config["WorkingDir"] = told.workdir
    return config
