"""The composition root: lock, recover, build, serve, drain, stop."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web

from agentd import __version__
from agentd.bus import Bus
from agentd.clock import SystemClock, rfc3339
from agentd.config import Settings
from agentd.engines.containers import LocalEngineWithContainers
from agentd.engines.local import system
from agentd.engines.local.orphans import end_leftovers, left_behind
from agentd.engines.local.process_tree import started_at
from agentd.errors import AgentdError, AlreadyRunning, ConfigInvalid, StorageFailed
from agentd.http import unix_socket
from agentd.http.app import make_runner
from agentd.http.server import Runner
from agentd.kinds.registry import kinds
from agentd.kinds.sandbox import options
from agentd.model.events import AgentDraining, AgentEvent, type_of
from agentd.placing import Places
from agentd.scheduler import Scheduler
from agentd.scopes import TaskTokens
from agentd.service import Service
from agentd.store import agent_file, layout
from agentd.store.agent_file import AgentFile
from agentd.store.container_mark import ContainerMark
from agentd.store.datadir import has_room, make_private, prepare, sweep
from agentd.store.disk import RealDisk
from agentd.store.locks import DirectoryLock
from agentd.store.store import Store
from agentd.store.watch import MetadataWatch

log = structlog.get_logger()

#: Seconds a stop may take beyond drain and grace before what is left is cut off.
STOP_MARGIN_S = 5.0
#: Seconds between attempts to write agent.json.
SHOW_S = 5.0
#: Seconds between runs of retention.
CLEANUP_S = 3600.0


class Daemon:
    """One daemon and all it owns. `start`, then `run_until_stopped` or `stop`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_dir = Path(os.path.realpath(settings.data_dir))
        self.url = ""
        self.service: Service
        self._clock = SystemClock()
        self._disk = RealDisk()
        self._lock: DirectoryLock | None = None
        self._engine: LocalEngineWithContainers
        self._store: Store
        self._web: Runner | None = None
        self._watch: MetadataWatch | None = None
        self._chores: set[asyncio.Task[None]] = set()
        self._stop_asked = asyncio.Event()
        self._hurry = asyncio.Event()

    # ------------------------------------------------------------------ start

    async def start(self) -> None:
        """Own the data directory, put right what the last boot left, and answer.

        Raises:
            AlreadyRunning: another daemon owns the directory.
            FormatTooNew: a newer agentd wrote it.
            ConfigInvalid: it cannot listen where the settings say.
            StorageFailed: the directory cannot be made or written.
        """
        began = self._clock.monotonic()
        previous = self._own()
        copied = previous is not None and agent_file.is_copy(previous, str(self.data_dir))
        agent_id = previous.agent_id if previous and not copied else secrets.token_hex(8)
        boot_id = secrets.token_hex(8)
        tokens = TaskTokens(secrets.token_bytes(32))
        bus = Bus(self.settings.limits.event_ring)
        self._store = Store(self.data_dir, disk=self._disk, limits=self.settings.limits)
        self.service = Service(
            settings=self.settings,
            store=self._store,
            bus=bus,
            clock=self._clock,
            kinds=kinds(self.settings.agents, await asyncio.to_thread(system.found, options)),
            agent_id=agent_id,
            boot_id=boot_id,
            stop_asked=self._stop_asked,
        )
        self.service.task_tokens = tokens
        mark = ContainerMark(str(self.data_dir))
        self._engine = LocalEngineWithContainers(
            self.settings.workers, agent_id=agent_id, boot_id=boot_id, clock=self._clock, mark=mark
        )
        self._engine.on_event = self._announce
        places = Places(str(self.data_dir), self.settings, tokens, os.environ, agent_id, boot_id)
        self._scheduler = Scheduler(self.service, self._engine, places)
        if not has_room(self._disk, str(self.data_dir)):
            log.warning("agent.disk_full", data_dir=str(self.data_dir))
            self._store.room.missing()
        found = await self._store.open()
        # In a copy, what ran at the time belongs to the original and may well be alive there.
        left = [] if copied else [left_behind(task) for task in self.service.running_at_start(found)]
        killed = await asyncio.to_thread(end_leftovers, agent_id, left)
        await self._engine.clear_earlier()
        report = await self.service.recover(found, killed=killed, began=began)
        for session_id, reason in found.damaged:
            log.error("session.quarantined", session_id=session_id, reason=reason)
        for session_id, reason in found.aside:
            log.warning("session.set_aside", session_id=session_id, reason=reason)
        for session_id in found.edited:
            await self.service.metadata_touched(session_id)
        self._watch = MetadataWatch(self.data_dir / layout.SESSIONS, self._metadata_touched)
        self._store.on_added = self._watch.add
        self._store.on_edited = self._metadata_touched
        self._store.on_removed = self._watch.remove
        await self._watch.open(list(self._store.entries))
        await self._listen()
        places.url = self.url
        await self._engine.open()
        self._scheduler.open()
        self._own_task(self._housekeeping())
        self._own_task(self.service.mend([session_id for session_id, _ in found.aside]))
        log.info("agent.recovered", **_fields(report))
        self._show_itself(agent_id, boot_id)
        log.info("agent.started", url=self.url, data_dir=str(self.data_dir), pid=os.getpid(), version=__version__)

    def _own(self) -> AgentFile | None:
        make_private(self.data_dir)
        self._lock = DirectoryLock.take(self.data_dir)
        previous = agent_file.read(str(self.data_dir))
        if self._lock is None:
            holder = f"pid {previous.pid} at {previous.url}" if previous else "another process"
            raise AlreadyRunning(f"{self.data_dir} is owned by a running daemon: {holder}")
        prepare(self._disk, str(self.data_dir))
        sessions = self.data_dir / layout.SESSIONS
        if not self._lock.also(sessions):
            raise AlreadyRunning(
                f"{sessions} is owned by a running daemon: it is mounted in another data directory, too"
            )
        sweep(self._disk, str(sessions))
        return previous

    async def _listen(self) -> None:
        http = self.settings.http
        self._web = make_runner(self.service)
        await self._web.setup()
        try:
            site = web.TCPSite(self._web, http.host, http.port)
            await site.start()
            if http.socket is not None:
                await unix_socket.listen(self._web, Path(http.socket))
        except OSError as error:
            raise ConfigInvalid(
                f"http.host/http.port: cannot listen on {http.host}:{http.port}: {error.strerror}; choose another port"
            ) from error
        host, port = self._web.addresses[0][:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _show_itself(self, agent_id: str, boot_id: str) -> None:
        """Write agent.json, as soon as the disk takes it; until then clients must be told where to knock."""
        agent = AgentFile(
            agent_id=agent_id,
            boot_id=boot_id,
            pid=os.getpid(),
            pid_started_at=started_at(os.getpid()) or 0,
            url=self.url,
            socket=self.settings.http.socket,
            data_dir=str(self.data_dir),
            version=__version__,
            started_at=rfc3339(self._clock.time()),
        )
        try:
            agent_file.write(self._disk, agent)
        except StorageFailed as error:
            log.warning("agent.file_not_written", url=self.url, reason=error.detail)
            self._own_task(self._show_itself_later(agent_id, boot_id))

    async def _show_itself_later(self, agent_id: str, boot_id: str) -> None:
        await asyncio.sleep(SHOW_S)
        self._show_itself(agent_id, boot_id)

    # ------------------------------------------------------------------ run and stop

    def heed_signals(self) -> None:
        """SIGTERM, SIGINT and SIGHUP ask for a stop, from now on; a second one cuts the drain short."""

        def signalled() -> None:
            (self._hurry if self._stop_asked.is_set() else self._stop_asked).set()

        numbers = {signal.SIGTERM, signal.SIGINT}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it shall outlive its terminal
            numbers.add(signal.SIGHUP)
        for number in numbers:
            asyncio.get_running_loop().add_signal_handler(number, signalled)

    async def run_until_stopped(self) -> None:
        """Serve until a signal or POST /shutdown asks for a stop, then drain."""
        await self._stop_asked.wait()
        await self.stop()

    async def stop(self) -> None:
        """Drain and stop: running tasks get `drain_s`, then end with cause `shutdown`; queued ones stay queued."""
        drain_s = self.settings.drain_s
        log.info("agent.draining", drain_s=drain_s)
        self.service.announce(AgentDraining(at=self.service.now(), drain_s=drain_s))
        limit_s = self.settings.workers.grace_s + STOP_MARGIN_S
        await self._scheduler.drain(drain_s, limit_s, self._hurry)
        await self.service.close_runs()
        await self.close()
        log.info("agent.stopped")

    async def close(self) -> None:
        """Let everything go that `start` took; also after a start that failed half way."""
        if self._watch is not None:
            await self._watch.close()
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(*self._chores, return_exceptions=True)
        if hasattr(self, "service"):
            await self.service.close_runs()
            self.service.bus.close()
        if self._web is not None:
            await self._web.cleanup()
        if hasattr(self, "_engine"):
            await self._engine.close()
        if hasattr(self, "_store"):
            await self._store.close()
        if self._lock is not None:
            self._lock.release()

    # ------------------------------------------------------------------ chores

    def _announce(self, event: AgentEvent) -> None:
        log.info(type_of(event), **_fields(event))
        self.service.announce(event)

    def _metadata_touched(self, session_id: str) -> None:
        self._own_task(self.service.metadata_touched(session_id))

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(CLEANUP_S)
            try:
                report = await self.service.cleanup(dry_run=False)
            except (AgentdError, OSError) as error:
                log.warning("session.not_pruned", reason=str(error))
                continue
            if report.bytes:
                log.info("session.pruned", tasks=report.tasks, outputs=report.outputs, bytes=report.bytes)

    def _own_task(self, work: Coroutine[Any, Any, None]) -> None:
        chore = asyncio.get_running_loop().create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._done)

    def _done(self, chore: asyncio.Task[None]) -> None:
        self._chores.discard(chore)
        if not chore.cancelled() and (error := chore.exception()) is not None:
            log.error("agent.chore_failed", exc_info=error)


def _fields(event: AgentEvent) -> dict[str, Any]:
    return {k: v for k, v in msgspec.structs.asdict(event).items() if k != "at"}
