"""What all verbs stand on: the store, the clock, the bus, and one way to stage a change."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from agentd.bus import Bus
from agentd.clock import Clock, epoch, rfc3339
from agentd.config import Settings
from agentd.errors import Draining, SessionNotFound, SessionReadOnly, StorageFailed, TaskNotFound
from agentd.kinds.registry import Kinds
from agentd.model.changes import used
from agentd.model.consequences import after_end
from agentd.model.events import (
    AgentEvent,
    Event,
    SessionQuarantined,
    SessionUpdated,
    TaskEvent,
    TaskFinished,
    TaskRetried,
)
from agentd.model.reading import read
from agentd.model.session import SessionUsage
from agentd.model.task import State, Task
from agentd.scopes import TaskTokens
from agentd.service.keys import Keys
from agentd.service.runner import Runner
from agentd.store.history import History
from agentd.store.ledger import Committed, Ledger
from agentd.store.log_index import LogIndexes
from agentd.store.record_cache import RecordCache
from agentd.store.store import Store

T = TypeVar("T")


class _Waiter(NamedTuple):
    future: asyncio.Future[Task]
    ready: Callable[[Task], bool]


class Ground:
    """The shared state of the verbs; every change of a task or session goes through `stage`."""

    runner: Runner
    task_tokens: TaskTokens

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        bus: Bus,
        clock: Clock,
        kinds: Kinds,
        agent_id: str,
        boot_id: str,
        stop_asked: asyncio.Event,
    ) -> None:
        self.settings = settings
        self.store = store
        self.bus = bus
        self.clock = clock
        self.kinds = kinds
        self.agent_id = agent_id
        self.boot_id = boot_id
        self.started_at = self.now()
        self.finished: Counter[tuple[str, str]] = Counter()  #: ended tasks of this boot by state and cause
        self.usage = SessionUsage()  #: of all attempts that ended in this boot
        self.recovered: Counter[str] = Counter()  #: tasks the last start changed, by what became of them
        self._stop_asked = stop_asked
        self._dependents: dict[str, dict[str, None]] = {}
        self._waiters: dict[str, list[_Waiter]] = {}
        self._histories: dict[str, History] = {}
        self._log_indexes = LogIndexes()
        self.keys = Keys(clock, settings.limits.idempotency_ttl_s)
        self._records = RecordCache()
        store.on_commit = self._committed
        store.on_failed = store.on_healed = self._rolled_back
        store.on_dropped = self._dropped
        store.on_damaged = self._damaged

    def now(self) -> str:
        """The time, as events carry it."""
        return rfc3339(self.clock.time())

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Run blocking work off the loop."""
        return await self.store.in_thread(work, *args)

    def due(self, task: Task) -> float:
        """When the task may start at the earliest, in seconds since the epoch."""
        return epoch(task.not_before) if task.not_before else 0.0

    # ------------------------------------------------------------------ finding

    def history_of(self, session_id: str) -> History:
        """The finished records of a session; its directory is read on first use, what ended lately is known without."""
        history = self._histories.get(session_id)
        if history is None:
            if len(self._histories) >= self.settings.limits.resident_sessions:
                self._histories.pop(next(iter(self._histories)))
            history = self._histories[session_id] = History(self.store.path(session_id), self._records)
            if (ledger := self.store.in_memory(session_id)) is not None:  # records may not be in the directory yet
                self._dropped(session_id, [task for task in ledger.tasks.values() if task.terminal])
        return history

    async def find(self, task_id: str) -> Task:
        """The task as it is durable, wherever it is.

        Raises:
            TaskNotFound: no such task.
            StorageFailed: there is one, whose record somebody damaged.
        """
        for session_id in self.store.sessions_of(task_id):
            try:
                ledger = await self.store.ledger(session_id)
            except SessionReadOnly:
                task = self.store.entry(session_id).tasks.get(task_id)
            except SessionNotFound:
                continue  # deleted meanwhile
            else:
                task = ledger.tasks.get(task_id)
            if task is None:
                raw = await self.in_thread(self.history_of(session_id).get, task_id)
                task = _recorded(raw, task_id) if raw is not None else None
            if task is not None:
                return task
        raise TaskNotFound(f"no task {task_id!r}; `agentd ls` shows those there are")

    async def find_live(self, task_id: str) -> tuple[Ledger, Task]:
        """The task on the head of its ledger, ended or not.

        Raises:
            TaskNotFound: no such task.
            SessionReadOnly: its session cannot be changed.
        """
        for session_id in self.store.sessions_of(task_id):
            ledger = await self.store.ledger(session_id)
            if (task := ledger.head(task_id)) is not None:
                return ledger, task
        task = await self.find(task_id)
        return await self.store.ledger(task.session_id), task

    def session_of_running(self, task_id: str) -> str | None:
        """The session of a task that runs right now; None when it does not."""
        for session_id in self.store.sessions_of(task_id):
            ledger = self.store.in_memory(session_id)
            if ledger is not None and (task := ledger.head(task_id)) is not None and task.state is State.RUNNING:
                return session_id
        return None

    # ------------------------------------------------------------------ changing

    def stage(self, ledger: Ledger, events: Sequence[Event], *, lazily: bool = False) -> asyncio.Future[None]:
        """Stage events and tell the runner at once, so that what it starts shares their sync.

        Raises:
            InvalidTransition, SessionReadOnly: as Ledger.stage.
        """
        durable = ledger.stage(events, lazily=lazily)
        changed = []
        for event in events:
            if isinstance(event, TaskEvent):
                task = ledger.head(event.task_id)
                assert task is not None
                self._index_needs(task)
                changed.append(task)
                if task.terminal:  # the clock may have been set back: a start time that had come is still to come
                    changed += self._waiting_for(ledger, task.task_id)
            elif isinstance(event, SessionUpdated):
                self.runner.session_changed(ledger.head_session)
        if changed:
            self.runner.changed(changed, ledger.head_session)
        return durable

    def _waiting_for(self, ledger: Ledger, task_id: str) -> list[Task]:
        found = (ledger.head(each) for each in self._dependents.get(task_id, ()))
        return [task for task in found if task is not None and task.state is State.WAITING]

    def consequences(self, ledger: Ledger, ended: Mapping[str, State]) -> list[TaskEvent]:
        """What the end of tasks means for those that need them."""
        return after_end(
            ended,
            lambda task_id: self._waiting_for(ledger, task_id),
            ledger.head,
            at=self.now(),
            now=self.clock.time(),
            due=self.due,
        )

    def refuse_when_draining(self) -> None:
        """Raises Draining when the daemon is stopping."""
        if self.runner.draining:
            raise Draining("the daemon is stopping and takes no new work; what is queued runs at the next start")

    def _index_needs(self, task: Task) -> None:
        for need in task.needs:
            if task.state is State.WAITING:
                self._dependents.setdefault(need, {})[task.task_id] = None
            elif (waiting := self._dependents.get(need)) is not None:
                waiting.pop(task.task_id, None)
                if not waiting:
                    del self._dependents[need]

    # ------------------------------------------------------------------ telling

    def announce(self, event: AgentEvent) -> None:
        """Publish an event of the daemon itself."""
        self.bus.publish(getattr(event, "session_id", None), 0, msgspec.json.encode(event))

    def when(self, task_id: str, ready: Callable[[Task], bool]) -> asyncio.Future[Task]:
        """A future of the task once a durable change has made it `ready`, as its end always does.

        Cancel it when nobody waits any more.
        """
        future: asyncio.Future[Task] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(future, ready)
        self._waiters.setdefault(task_id, []).append(waiter)
        for session_id in self.store.sessions_of(task_id):
            if (ledger := self.store.in_memory(session_id)) is not None:
                ledger.hurry()
        future.add_done_callback(lambda _: self._drop_waiter(task_id, waiter))
        return future

    def end_of(self, task_id: str) -> asyncio.Future[Task]:
        """A future of the task when it is terminal and durable."""
        return self.when(task_id, lambda task: task.terminal)

    def awaited(self, task_id: str) -> bool:
        """Whether somebody waits for a change of the task."""
        return task_id in self._waiters

    def _drop_waiter(self, task_id: str, waiter: _Waiter) -> None:
        waiters = self._waiters[task_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[task_id]

    def _committed(self, session_id: str, committed: Sequence[Committed]) -> None:
        history = self._histories.get(session_id)
        for seq, event, line, task in committed:
            self.keys.remember(event, session_id)
            self.bus.publish(session_id, seq, line)
            if task is None:
                continue
            for waiter in self._waiters.get(task.task_id, ()):
                if not waiter.future.done() and (task.terminal or waiter.ready(task)):
                    waiter.future.set_result(task)
            if isinstance(event, (TaskFinished, TaskRetried)):
                self.usage = used(self.usage, event.end) or self.usage
            if not task.terminal:
                continue
            self.finished[task.state.value, task.cause.code.value if task.cause else ""] += 1
            self._dependents.pop(task.task_id, None)
            if history is not None:
                history.add(seq, task.state, task.task_id)

    def _dropped(self, session_id: str, tasks: Sequence[Task]) -> None:
        """Finished tasks leave memory, or may: from then on their records are all there is."""
        if (history := self._histories.get(session_id)) is not None:
            for task in tasks:
                history.add(task.seq, task.state, task.task_id)

    def _rolled_back(self, session_id: str) -> None:
        """What is durable is the truth again: staged events fell away, or the session can be written again."""
        if (ledger := self.store.in_memory(session_id)) is not None:
            for task in ledger.tasks.values():
                self._index_needs(task)
            self.runner.rolled_back(ledger)

    def _damaged(self, session_id: str, reason: str) -> None:
        self.announce(SessionQuarantined(at=self.now(), session_id=session_id, reason=reason))


def _recorded(record: bytes, task_id: str) -> Task:
    try:
        return read(record, Task)
    except msgspec.MsgspecError as error:
        raise StorageFailed(f"the record of task {task_id} is damaged: {error}; `agentd check` finds such") from error
