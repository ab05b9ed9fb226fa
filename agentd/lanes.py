"""Who runs next: priority and arrival within a lane, turns between lanes. It decides nothing else and does no IO.

Each session with something to run is a lane, and so are the tasks that one task submitted with its own token: it may
wait for them, so they run beside it. A lane is in the rotation only while it could start a task now, so the next one is
found without looking at any other.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import NamedTuple

from agentd.model.task import Task

#: Ids of tasks that left before their turn, beyond as many as are queued, that a lane's heap may hold.
STALE_IDS = 64

#: (-priority, seq, task id); the id may be stale.
_Entry = tuple[int, int, str]


class Waiting(NamedTuple):
    """A queued task: the monotonic time since which it could run, and what only one task of its lane may use."""

    since: float
    entry: _Entry
    exclusive: str | None


class Next(NamedTuple):
    """What runs next, and since when it could."""

    session_id: str
    parent_id: str | None
    task_id: str
    since: float


class Lane:
    """What one session, or one task's delegation, has to run, and what it runs."""

    __slots__ = ("excluded", "heap", "held", "max_parallel", "parked", "queued", "running")

    def __init__(self) -> None:
        self.heap: list[_Entry] = []
        self.queued: dict[str, Waiting] = {}
        self.excluded: dict[str, list[_Entry]] = {}  #: heaps by what is in use; each entry is in one heap only
        self.parked: set[str] = set()  #: queued where no worker serves
        self.running: dict[str, str | None] = {}  #: with what each uses alone
        self.max_parallel = 1
        self.held: str | None = None  #: why nothing of it may start

    @property
    def ready(self) -> bool:
        """Whether it could start a task now."""
        return self.first() is not None

    @property
    def idle(self) -> bool:
        """Whether it has nothing at all."""
        return not (self.queued or self.running or self.parked)

    def first(self) -> str | None:
        """The task that it starts next; None when it can start none now."""
        if self.held is not None or len(self.running) >= self.max_parallel:
            return None
        while self.heap:
            waiting = self.queued.get(self.heap[0][2])
            if waiting is None or waiting.entry != self.heap[0]:
                heapq.heappop(self.heap)
            elif self.is_excluded(waiting):
                assert waiting.exclusive is not None
                heapq.heappush(self.excluded.setdefault(waiting.exclusive, []), heapq.heappop(self.heap))
            else:
                return self.heap[0][2]
        return None

    def is_excluded(self, waiting: Waiting) -> bool:
        """Whether a running task uses what it needs for itself."""
        return self.user_of(waiting) is not None

    def user_of(self, waiting: Waiting) -> str | None:
        """The running task that uses what it needs for itself."""
        if waiting.exclusive is None:
            return None
        return next((task_id for task_id, used in self.running.items() if used == waiting.exclusive), None)

    def leave(self, task_id: str) -> None:
        """The task is neither queued nor running here."""
        self.parked.discard(task_id)
        waiting = self.queued.pop(task_id, None)
        exclusive = waiting.exclusive if waiting is not None else self.running.pop(task_id, None)
        if exclusive is not None:
            self._admit(exclusive)
        if waiting is not None and self._entries > 2 * len(self.queued) + STALE_IDS:
            self.heap = [each.entry for each in self.queued.values()]
            heapq.heapify(self.heap)
            self.excluded.clear()

    @property
    def _entries(self) -> int:
        return len(self.heap) + sum(map(len, self.excluded.values()))

    def _admit(self, exclusive: str) -> None:
        """The best of those that wait for this comes back among the others; it may be in use no longer."""
        heap = self.excluded.get(exclusive, [])
        while heap:
            entry = heapq.heappop(heap)
            waiting = self.queued.get(entry[2])
            if waiting is not None and waiting.entry == entry:
                heapq.heappush(self.heap, entry)
                break
        if not heap:
            self.excluded.pop(exclusive, None)


_LaneId = tuple[str, str | None]


class Lanes:
    """All lanes and whose turn it is. `served` are the names of queues that workers serve; `*` is all."""

    def __init__(self, served: Iterable[str], monotonic: Callable[[], float]) -> None:
        self._served = frozenset(served)
        self._monotonic = monotonic
        self._lanes: dict[str, dict[str | None, Lane]] = {}  #: by session and parent
        self._rotation: OrderedDict[_LaneId, None] = OrderedDict()
        self._held: dict[str, str] = {}  #: sessions of which nothing may start, and why
        self._delegated: set[str] = set()  #: sessions that may have lanes of sub-tasks

    def queue(self, task: Task, max_parallel: int, exclusive: str | None = None) -> None:
        """The task could run; again: no effect. Of those in a lane with the same `exclusive`, one runs at a time."""
        lane = self._lane(task, max_parallel)
        if task.task_id in lane.running:
            lane.leave(task.task_id)
        if "*" not in self._served and task.queue not in self._served:
            lane.parked.add(task.task_id)
        elif task.task_id not in lane.queued:
            # Its `seq` is that of the event that queued it: the same order after a restart.
            entry = (-task.priority, task.seq, task.task_id)
            lane.queued[task.task_id] = Waiting(self._monotonic(), entry, exclusive)
            heapq.heappush(lane.heap, entry)
        self._turn(_id_of(task), lane)

    def run(self, task: Task, max_parallel: int, exclusive: str | None = None) -> None:
        """The task runs."""
        lane = self._lane(task, max_parallel)
        lane.leave(task.task_id)
        lane.running[task.task_id] = exclusive
        self._turn(_id_of(task), lane)

    def drop(self, task: Task) -> None:
        """The task has ended, or does not want to run now."""
        if (lane := self.of(task)) is not None:
            lane.leave(task.task_id)
            self._turn(_id_of(task), lane)

    def limit(self, session_id: str, max_parallel: int) -> None:
        """Each lane of the session may run so many at once from now on."""
        for parent_id, lane in list(self._lanes.get(session_id, {}).items()):
            lane.max_parallel = max_parallel
            self._turn((session_id, parent_id), lane)

    def hold(self, session_id: str, why: str | None) -> None:
        """Nothing of the session may start from now on; None: it may again."""
        if why is not None:
            self._held[session_id] = why
        elif self._held.pop(session_id, None) is None:
            return
        for parent_id, lane in list(self._lanes.get(session_id, {}).items()):
            lane.held = why
            self._turn((session_id, parent_id), lane)

    def held(self, session_id: str) -> str | None:
        """Why nothing of the session may start, if that is so."""
        return self._held.get(session_id)

    def forget(self, session_id: str) -> None:
        """The session is gone, or is to be told of again."""
        for parent_id in self._lanes.pop(session_id, ()):
            self._rotation.pop((session_id, parent_id), None)

    def next(self) -> Next | None:
        """What runs next; None when nothing can."""
        while self._rotation:
            session_id, parent_id = lane_id = next(iter(self._rotation))
            lane = self._lanes[session_id][parent_id]
            if (task_id := lane.first()) is not None:
                return Next(session_id, parent_id, task_id, lane.queued[task_id].since)
            del self._rotation[lane_id]
        return None

    def take(self, taken: Next) -> None:
        """What `next` gave is being started: the turn goes to the next lane."""
        lane_id = (taken.session_id, taken.parent_id)
        lane = self._lanes[taken.session_id][taken.parent_id]
        heapq.heappop(lane.heap)
        lane.queued.pop(taken.task_id, None)
        if lane_id in self._rotation:
            self._rotation.move_to_end(lane_id)
        self._turn(lane_id, lane)

    def _lane(self, task: Task, max_parallel: int) -> Lane:
        lane = self._lanes.setdefault(task.session_id, {}).setdefault(task.parent_id, Lane())
        if task.parent_id is not None:
            self._delegated.add(task.session_id)
        lane.max_parallel, lane.held = max_parallel, self._held.get(task.session_id)
        return lane

    def _turn(self, lane_id: _LaneId, lane: Lane) -> None:
        if lane.ready:
            self._rotation.setdefault(lane_id, None)
            return
        self._rotation.pop(lane_id, None)
        if lane.idle and (lanes := self._lanes.get(lane_id[0])) is not None:
            lanes.pop(lane_id[1], None)
            if not lanes:
                del self._lanes[lane_id[0]]

    # ------------------------------------------------------------------ what is asked

    def turns(self) -> list[_LaneId]:
        """Session and parent of the lanes that could start a task, in the order of their turns."""
        return list(self._rotation)

    def delegating(self) -> int:
        """How many running tasks have sub-tasks that run or are queued: they may be waiting for them."""
        found = 0
        for session_id in list(self._delegated):
            lanes = self._lanes.get(session_id, {})
            parents = lanes.keys() - {None}
            if not parents:
                self._delegated.discard(session_id)
            found += sum(len(parents & lane.running.keys()) for lane in lanes.values())
        return found

    def running(self, session_id: str) -> list[str]:
        """Ids of the session's tasks that run."""
        return [task_id for lane in self._lanes.get(session_id, {}).values() for task_id in lane.running]

    def of(self, task: Task) -> Lane | None:
        """The task's lane, if that has anything to run."""
        return self._lanes.get(task.session_id, {}).get(task.parent_id)


def _id_of(task: Task) -> _LaneId:
    return task.session_id, task.parent_id
