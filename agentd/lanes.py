"""Who runs next: priority and arrival within a session, turns between sessions. It decides nothing else and does no IO.

Each session with something to run is a lane. A lane is in the rotation only while it could start a task now, so the
next one is found without looking at any other.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable

from agentd.model.task import Task

#: Ids of tasks that left before their turn, beyond as many as are queued, that a lane's heap may hold.
STALE_IDS = 64


class Lane:
    """What one session has to run, and what it runs."""

    __slots__ = ("heap", "max_parallel", "parked", "queued", "running")

    def __init__(self) -> None:
        self.heap: list[tuple[int, int, str]] = []  #: (-priority, seq, task id); an id may be stale
        self.queued: dict[str, float] = {}  #: task id to the monotonic time since which it could run
        self.parked: set[str] = set()  #: queued where no worker serves
        self.running: set[str] = set()
        self.max_parallel = 1

    @property
    def ready(self) -> bool:
        """Whether it could start a task now."""
        return bool(self.queued) and len(self.running) < self.max_parallel

    def leave(self, task_id: str) -> None:
        """The task is neither queued nor running here."""
        self.parked.discard(task_id)
        self.running.discard(task_id)
        if self.queued.pop(task_id, None) is not None and len(self.heap) > 2 * len(self.queued) + STALE_IDS:
            self.heap = [each for each in self.heap if each[2] in self.queued]
            heapq.heapify(self.heap)


class Lanes:
    """All lanes and whose turn it is. `served` are the names of queues that workers serve; `*` is all."""

    def __init__(self, served: Iterable[str], monotonic: Callable[[], float]) -> None:
        self._served = frozenset(served)
        self._monotonic = monotonic
        self._lanes: dict[str, Lane] = {}
        self._rotation: OrderedDict[str, None] = OrderedDict()

    def queue(self, task: Task, max_parallel: int) -> None:
        """The task could run; again: no effect."""
        lane = self._lanes.setdefault(task.session_id, Lane())
        lane.max_parallel = max_parallel
        lane.running.discard(task.task_id)
        if "*" not in self._served and task.queue not in self._served:
            lane.parked.add(task.task_id)
        elif task.task_id not in lane.queued:
            lane.queued[task.task_id] = self._monotonic()
            # Its `seq` is that of the event that queued it: the same order after a restart.
            heapq.heappush(lane.heap, (-task.priority, task.seq, task.task_id))
        self._turn(task.session_id, lane)

    def run(self, task: Task, max_parallel: int) -> None:
        """The task runs."""
        lane = self._lanes.setdefault(task.session_id, Lane())
        lane.max_parallel = max_parallel
        lane.leave(task.task_id)
        lane.running.add(task.task_id)
        self._turn(task.session_id, lane)

    def drop(self, task: Task) -> None:
        """The task has ended, or does not want to run now."""
        if (lane := self._lanes.get(task.session_id)) is not None:
            lane.leave(task.task_id)
            self._turn(task.session_id, lane)

    def limit(self, session_id: str, max_parallel: int) -> None:
        """The session may run so many at once from now on."""
        if (lane := self._lanes.get(session_id)) is not None:
            lane.max_parallel = max_parallel
            self._turn(session_id, lane)

    def reset(self, session_id: str, running: Iterable[str]) -> None:
        """Forget what was queued; only these run."""
        lane = self._lanes[session_id] = Lane()
        lane.running.update(running)
        self._turn(session_id, lane)

    def forget(self, session_id: str) -> None:
        """The session is gone."""
        self._lanes.pop(session_id, None)
        self._rotation.pop(session_id, None)

    def next(self) -> tuple[str, str, float] | None:
        """Session, task and since when it could run, of what runs next; None when nothing can."""
        while self._rotation:
            session_id = next(iter(self._rotation))
            lane = self._lanes[session_id]
            while lane.heap and lane.heap[0][2] not in lane.queued:
                heapq.heappop(lane.heap)
            if lane.heap and lane.ready:
                task_id = lane.heap[0][2]
                return session_id, task_id, lane.queued[task_id]
            del self._rotation[session_id]
        return None

    def take(self, session_id: str, task_id: str) -> None:
        """What `next` gave is being started: the turn goes to the next session."""
        lane = self._lanes[session_id]
        heapq.heappop(lane.heap)
        lane.queued.pop(task_id, None)
        if session_id in self._rotation:
            self._rotation.move_to_end(session_id)
        self._turn(session_id, lane)

    def _turn(self, session_id: str, lane: Lane) -> None:
        if lane.ready:
            self._rotation.setdefault(session_id, None)
            return
        self._rotation.pop(session_id, None)
        if not (lane.queued or lane.running or lane.parked):
            self._lanes.pop(session_id, None)

    # ------------------------------------------------------------------ what is asked

    def turns(self) -> list[str]:
        """Sessions that could start a task, in the order of their turns."""
        return list(self._rotation)

    def of(self, session_id: str) -> Lane | None:
        """The session's lane, if it has anything to run."""
        return self._lanes.get(session_id)
