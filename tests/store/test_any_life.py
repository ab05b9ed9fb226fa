"""Any life of a store, with refusals, kills and power cuts anywhere in it, keeps every rule."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentd.errors import StorageFailed
from agentd.model.events import Event
from tests.store.oracle import check_recovery
from tests.store.simdisk import PowerCut, SimDisk
from tests.store.story import (
    SEGMENT_BYTES,
    Killed,
    Player,
    finished,
    progressed,
    replayed,
    started,
    task_created,
    titled,
)

SESSIONS = st.sampled_from(["a", "b"])
RANDOM = st.randoms(use_true_random=False)
TASKS = st.lists(st.integers(1, 9), min_size=1, max_size=3)
PADDING = st.sampled_from([1, 1, 1, SEGMENT_BYTES])
STATES_LOOKED_AT = 3


class StoreLife(RuleBasedStateMachine):
    """A player whom anything may befall."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = SimDisk()
        self.disk.mkdir("/top")
        self.disk.settle()
        self.player = Player(self.disk)

    @initialize()
    def begin(self) -> None:
        self.player.start()

    def _batch(self, session_id: str, tasks: list[int], padding: int) -> list[Event]:
        """Events that fit the session as it is: each task takes its next step."""
        known = replayed(self.player.memories[session_id].acked).tasks
        ended = {getattr(each, "task_id", "") for each in self.player.memories[session_id].acked}
        events: list[Event] = []
        for number in dict.fromkeys(tasks):
            task_id = f"t{number}"
            task = known.get(task_id)
            if task is None and task_id not in ended:
                events.append(task_created(session_id, task_id))
            elif task is not None and task.state == "queued":
                events.append(started(task_id))
            elif task is not None and task.state == "running":
                events.append(progressed(task_id) if number % 2 and task.message is None else finished(task_id))
        return [*events, titled("x" * padding)]

    @rule(session_id=SESSIONS)
    def create(self, session_id: str) -> None:
        if session_id in self.player.folders:
            return
        try:
            self.player.create(session_id, "t0")
        except StorageFailed:
            self.disk.hook = None
            self.player.create(session_id, "t0")

    @precondition(lambda self: self.player.folders)
    @rule(session_id=SESSIONS, tasks=TASKS, padding=PADDING)
    def append(self, session_id: str, tasks: list[int], padding: int) -> None:
        if session_id not in self.player.folders:
            return
        folder = self.player.folders[session_id]
        try:
            self.player.append(session_id, *self._batch(session_id, tasks, padding))
        except StorageFailed:
            if folder.poisoned:
                try:
                    folder.resume()
                except StorageFailed:
                    folder.resume()

    @precondition(lambda self: self.player.folders)
    @rule(session_id=SESSIONS)
    def views(self, session_id: str) -> None:
        if session_id in self.player.folders:
            try:
                self.player.views(session_id)
            except StorageFailed:
                self.player.views(session_id)

    @precondition(lambda self: self.player.folders)
    @rule(session_id=SESSIONS, segment=st.integers(1, 5))
    def prune(self, session_id: str, segment: int) -> None:
        if session_id in self.player.folders:
            try:
                self.player.folders[session_id].prune(segment)
            except StorageFailed:
                pass  # later, then

    @rule(nth=st.integers(1, 8), short=st.sampled_from([0, 1, 200]), number=st.sampled_from([errno.ENOSPC, errno.EIO]))
    def break_soon(self, nth: int, short: int, number: int) -> None:
        """The nth operation from now is refused."""
        left = [nth]
        self.disk.short_write = short

        def refuse(disk: SimDisk, operation: str, path: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise OSError(number, "refused")

        self.disk.hook = refuse

    @rule()
    def restart(self) -> None:
        self.disk.hook = None
        self.player.close()
        self.player.start()

    @rule(session_id=SESSIONS, tasks=TASKS, padding=PADDING, nth=st.integers(1, 7))
    def kill(self, session_id: str, tasks: list[int], padding: int, nth: int) -> None:
        """The process dies in the middle of something; what the kernel has stays."""
        self._until(Killed(), nth, session_id, tasks, padding)
        self.player.die()
        self.player.start()

    @rule(
        session_id=SESSIONS, tasks=TASKS, padding=PADDING, nth=st.integers(1, 9), chance=RANDOM, again=st.integers(0, 8)
    )
    def cut_the_power(
        self, session_id: str, tasks: list[int], padding: int, nth: int, chance: random.Random, again: int
    ) -> None:
        """The machine dies in the middle of something, and perhaps again while it recovers."""
        self._until(PowerCut(), nth, session_id, tasks, padding)
        self._come_back(chance)
        if again:
            self.disk.hook = _stopping(again, PowerCut())
            try:
                self.player.start()
            except PowerCut:
                pass
            self._come_back(chance)
        self.player.start()

    def _until(self, end: Exception, nth: int, session_id: str, tasks: list[int], padding: int) -> None:
        self.disk.hook = _stopping(nth, end)
        try:
            if session_id not in self.player.folders:
                self.player.create(session_id, "t0")
            self.player.append(session_id, *self._batch(session_id, tasks, padding))
            self.player.views(session_id)
        except (Killed, PowerCut):
            pass
        self.disk.hook = None

    def _come_back(self, chance: random.Random) -> None:
        self.disk.hook = None
        self.disk = chance.choice(list(self.disk.after_power_cut(32, chance)))
        self.player.disk = self.disk
        self.player.folders.clear()

    @invariant()
    def every_rule_holds_after_any_power_cut(self) -> None:
        if not self.disk.exists("/top/data"):
            return
        chance = random.Random(self.disk.operations)
        for state in self.disk.after_power_cut(STATES_LOOKED_AT, chance):
            check_recovery(state, self.player.memories, after_recovery=True)


def _stopping(nth: int, end: Exception) -> Callable[[SimDisk, str, str], None]:
    """A hook that ends it all at the nth operation."""
    left = [nth]

    def stop(disk: SimDisk, operation: str, path: str) -> None:
        left[0] -= 1
        if left[0] <= 0:
            raise end

    return stop


TestStoreLife = StoreLife.TestCase
TestStoreLife.settings = settings(
    max_examples=120, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
