"""What a journal says: its events applied one by one to a snapshot, or to nothing."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agentd.model.changes import active, applied_to_session, applied_to_task
from agentd.model.events import Event, SessionCreated, SessionEvent, SessionPruned, TaskCreated, TaskEvent
from agentd.model.run import Run, surplus
from agentd.model.run_changes import applied_to_run, run_of
from agentd.model.run_events import RunCreated, RunEvent
from agentd.model.session import Session
from agentd.model.task import State, Task, Value


class KeyRecord(Value, frozen=True, kw_only=True):
    """What an Idempotency-Key made: a task, a run, or (neither id is there) the session itself; `at` is RFC 3339.

    A batch of tasks is named by the first; the others were created by the events that follow `seq`.
    """

    key_hash: str
    body_hash: str
    at: str
    task_id: str | None
    seq: int
    batch: int = 1
    run_id: str | None = None

    @property
    def is_of_session(self) -> bool:
        """Whether it made the session itself."""
        return self.task_id is None and self.run_id is None


def key_record(event: TaskCreated | SessionCreated | RunCreated, seq: int) -> KeyRecord | None:
    """What to remember of a creation that carried an Idempotency-Key."""
    if event.key_hash is None or event.body_hash is None:
        return None
    task_id, batch = (event.task_id, event.batch) if isinstance(event, TaskCreated) else (None, 1)
    return KeyRecord(
        key_hash=event.key_hash,
        body_hash=event.body_hash,
        at=event.at,
        task_id=task_id,
        seq=seq,
        batch=batch,
        run_id=event.run_id if isinstance(event, RunCreated) else None,
    )


class Finished(NamedTuple):
    """A task's record: the seq of the event that ended it, and the task as JSON."""

    seq: int
    state: State
    task_id: str
    line: bytes


class Replay:
    """A session, its tasks and its runs as of `seq`; the last `policy.tasks_kept` finished tasks are kept."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.seq = 0
        self.tasks: dict[str, Task] = {}
        self.runs: dict[str, Run] = {}
        self.keys: dict[str, KeyRecord] = {}
        self.finished: dict[str, int] = {}  #: finished tasks that are kept, oldest first, and the seq of their end
        self.ended: dict[str, tuple[int, Task]] = {}  #: every task that ended in an event applied here

    def apply(self, event: Event, seq: int) -> None:
        """Take one event in.

        Raises:
            InvalidTransition: it does not fit what came before.
        """
        match event:
            case SessionCreated():
                self.session = event.session
                self._remember(event, seq)
            case SessionEvent():
                if self.session is not None:
                    self.session = applied_to_session(self.session, event, seq)
                if isinstance(event, SessionPruned):
                    self._forget(event.tasks)
            case TaskEvent():
                task = applied_to_task(self.tasks.get(event.task_id), event, seq)
                self.tasks[event.task_id] = task
                if self.session is not None:
                    self.session = active(self.session, event)
                if isinstance(event, TaskCreated):
                    self._remember(event, seq)
                if task.terminal and event.task_id not in self.finished:
                    self.finished[event.task_id] = seq
                    self.ended[event.task_id] = (seq, task)
            case RunEvent():
                if self.session is not None:
                    self.session = active(self.session, event)
                if isinstance(event, RunCreated):
                    self._remember(event, seq)
        if (run_id := run_of(event)) is not None:
            run = applied_to_run(self.runs.get(run_id), event, seq)
            if run is not None:
                self.runs[run_id] = run
                if not run.live:
                    for each in surplus(self.runs.values()):
                        del self.runs[each]
        self.seq = seq
        self._trim()

    def records(self) -> list[Finished]:
        """The records of the tasks that ended in the events applied here."""
        return [Finished(seq, task.state, task.task_id, msgspec.json.encode(task)) for seq, task in self.ended.values()]

    def _remember(self, event: SessionCreated | TaskCreated | RunCreated, seq: int) -> None:
        if (record := key_record(event, seq)) is not None:
            self.keys[record.key_hash] = record

    def _forget(self, task_ids: tuple[str, ...]) -> None:
        for task_id in task_ids:
            self.ended.pop(task_id, None)
            if self.finished.pop(task_id, None) is not None:
                del self.tasks[task_id]

    def _trim(self) -> None:
        kept = self.session.policy.tasks_kept if self.session else 0
        while len(self.finished) > kept:
            oldest = next(iter(self.finished))
            del self.finished[oldest]
            del self.tasks[oldest]
