"""What goes wrong: the daemon, workers, the viewer and the tasks' own processes are killed, stopped and woken."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable

from benchlib.processes import argv, marked
from soaklib.stage import Lost, Stage, signal_to

#: How often each is done, of the sum of its row; the first row only while the daemon may die.
_ON_DAEMON = {"kill daemon": 3, "kill daemon and workers": 2, "stop daemon": 1}
_ON_OTHERS = {
    "freeze daemon": 1, "kill worker": 5, "freeze worker": 2, "restart worker": 1, "scale": 1, "kill viewer": 2,
    "kill task": 5, "end task": 2, "freeze task": 3,
}  # fmt: skip


class Strikes:
    """Strikes, `pause_s` apart on average, those on the daemon ten times that, and only while it is not `spared`."""

    def __init__(self, stage: Stage, dice: random.Random, mark: str, pause_s: float) -> None:
        self.counts: Counter[str] = Counter()
        self.spared = False
        self.over = asyncio.Event()  #: set it, and there are no more
        self._stage = stage
        self._told = stage.told
        self._dice = dice
        self._mark = mark
        self._pause_s = pause_s
        self._frozen: set[int] = set()

    async def strike(self) -> None:
        """Until `over`; when it returns, nothing is frozen, and a daemon that was killed answers again."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._go_on(_ON_DAEMON, 10 * self._pause_s))
                group.create_task(self._go_on(_ON_OTHERS, self._pause_s))
        finally:
            for pid in self._frozen:
                signal_to(pid, signal.SIGCONT)

    async def _go_on(self, weights: dict[str, int], pause_s: float) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), min(self._dice.expovariate(1 / pause_s), 3 * pause_s))
            if self.over.is_set():
                return
            if weights is _ON_DAEMON and self.spared:
                continue
            name = self._dice.choices(list(weights), weights=list(weights.values()))[0]
            what: Callable[[], Awaitable[bool]] = getattr(self, "_" + name.replace(" ", "_"))
            self.counts[name] += await what()

    # ------------------------------------------------------------------ the daemon

    async def _kill_daemon(self, *, workers_too: bool = False) -> bool:
        await self._stage.kill(workers_too=workers_too)
        await self._stage.start()
        return True

    async def _kill_daemon_and_workers(self) -> bool:
        return await self._kill_daemon(workers_too=True)

    async def _stop_daemon(self) -> bool:
        await self._stage.stop()
        await self._stage.start()
        return True

    async def _freeze_daemon(self) -> bool:
        return await self._freeze(self._stage.daemon.pid, self._dice.uniform(0.1, 4))

    async def _freeze(self, pid: int, for_s: float) -> bool:
        if not signal_to(pid, signal.SIGSTOP):
            return False
        self._frozen.add(pid)
        await asyncio.sleep(for_s)
        signal_to(pid, signal.SIGCONT)
        self._frozen.discard(pid)
        return True

    # ------------------------------------------------------------------ workers and the viewer

    async def _worker(self) -> tuple[str, int]:
        """One that there is, preferably a busy one."""
        try:
            status, answer = await self._stage.ask("GET", "/workers")
        except Lost:
            return "", 0
        there = [each for each in answer["data"] if each["state"] in ("busy", "idle")] if status == 200 else []
        if not there:
            return "", 0
        busy = [each for each in there if each["state"] == "busy"]
        chosen = self._dice.choice(busy or there)
        self._told.tell("worker", worker_id=chosen["worker_id"])
        return chosen["worker_id"], chosen["pid"]

    async def _kill_worker(self) -> bool:
        _, pid = await self._worker()
        return bool(pid) and self._is_worker(pid) and signal_to(pid, signal.SIGKILL)

    async def _freeze_worker(self) -> bool:
        """For less than the three heartbeats that it may be silent, or for more."""
        _, pid = await self._worker()
        return bool(pid) and self._is_worker(pid) and await self._freeze(pid, self._dice.choice([0.5, 5.0]))

    def _is_worker(self, pid: int) -> bool:
        """Whether the number is still a worker's, and not somebody else's by now."""
        return any("worker.py" in word for word in argv(pid))

    async def _restart_worker(self) -> bool:
        worker_id, _ = await self._worker()
        return bool(worker_id) and await self._posted(f"/workers/{worker_id}/restart", None)

    async def _scale(self) -> bool:
        low = self._dice.randint(0, 3)
        return await self._posted("/workers/scale", {"min": low, "max": self._dice.randint(6, 14)})

    async def _posted(self, path: str, body: object) -> bool:
        try:
            status, answer = await self._stage.ask("POST", path, body)
        except Lost:
            return False
        if status not in (200, 404, 503):
            self._told.complain(f"POST {path} was answered {status}: {answer}")
        return status == 200

    async def _kill_viewer(self) -> bool:
        await self._stage.kill_viewer()
        return True

    # ------------------------------------------------------------------ tasks

    def _process(self) -> int:
        """Some process of some task, which the ledger is told of first; 0 when there is none."""
        found = marked(self._mark)
        if not found:
            return 0
        pid = self._dice.choice(found)
        nonce = " ".join(argv(pid)).partition(self._mark)[2][:7]
        if nonce:
            self._told.tell("struck", nonce=nonce)
        return pid if nonce else 0

    async def _kill_task(self) -> bool:
        return bool(pid := self._process()) and signal_to(pid, signal.SIGKILL)

    async def _end_task(self) -> bool:
        return bool(pid := self._process()) and signal_to(pid, signal.SIGTERM)

    async def _freeze_task(self) -> bool:
        return bool(pid := self._process()) and await self._freeze(pid, self._dice.uniform(0.1, 2))
