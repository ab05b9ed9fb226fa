"""One session in memory: what is durable, and what is staged on top of it.

Readers see only what is durable (`session`, `tasks`, `seq`). Decisions are made on the head, which also holds what
is staged and not yet synced, so that the next step need not wait for the last one's disk. When a batch fails, all
that was staged falls away and the head is the durable state again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import NamedTuple

from msgspec.structs import replace

from agentd.errors import SessionReadOnly, StorageFailed
from agentd.model.changes import applied_to_session, applied_to_task, used
from agentd.model.events import Event, SessionEvent, SessionPruned, TaskCreated, TaskEvent, TaskFinished, TaskRetried
from agentd.model.run import Run, surplus
from agentd.model.run_changes import applied_to_run, run_of
from agentd.model.run_events import RunCreated
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.commits import GroupCommit, Staged
from agentd.store.folder import Appended, Folder, KeyRecord, Loaded, Position
from agentd.store.hands import Hands
from agentd.store.replay import key_record
from agentd.store.view_writer import Moment, ViewWriter


class Committed(NamedTuple):
    """A durable event: its line in the journal and the task it made."""

    seq: int
    event: Event
    line: bytes
    task: Task | None


class Hooks:
    """Who is told of a ledger's life; the store sets them."""

    on_commit: Callable[[Ledger, Sequence[Committed]], None]
    on_failed: Callable[[Ledger, StorageFailed | SessionReadOnly], None]
    on_dropped: Callable[[Ledger, Sequence[Task]], None]
    on_edited: Callable[[Ledger], None]
    on_commit_latency: Callable[[float], None]


class Ledger:
    """A resident session. All methods are called on the event loop; the disk is touched only in threads."""

    def __init__(self, folder: Folder, loaded: Loaded, *, hooks: Hooks, committers: Hands, viewers: Executor) -> None:
        self.session = loaded.session
        self.tasks: dict[str, Task] = loaded.tasks
        self.runs: dict[str, Run] = loaded.runs
        self.keys: dict[str, KeyRecord] = loaded.keys
        self.seq = loaded.seq
        self.counts: Counter[str] = Counter(task.state.value for task in loaded.tasks.values())
        self.reason: str | None = None  #: why nothing can be written until the disk is well again
        self._users = 0  #: who is in the middle of something
        self.live_told = 0  #: how many live tasks the store has counted here
        self._closed: str | None = None  #: why nothing is taken any more
        self.torn = loaded.torn  #: records that were cut when it was opened
        self.edited = loaded.edited  #: metadata.json was not as the store wrote it when it was opened
        self.folder = folder
        self._hooks = hooks
        self.position: Position = loaded.position
        # the head
        self._head_tasks: dict[str, Task] = {}
        self._head_runs: dict[str, Run] = {}
        self._head_keys: dict[str, KeyRecord] = {}
        self.head_session = loaded.session  #: with all that is staged
        self.head_seq = loaded.seq  #: of the last staged event
        self._commits = GroupCommit(folder, committers, publish=self._publish, fail=self._fall_back)
        self.views = ViewWriter(
            folder, viewers, loaded.finished_order, self.moment, self._drop, lambda: hooks.on_edited(self)
        )
        if loaded.stale:
            self.views.ask()

    # ------------------------------------------------------------------ the head

    def head(self, task_id: str) -> Task | None:
        """The task with all that is staged."""
        return self._head_tasks.get(task_id) or self.tasks.get(task_id)

    def head_run(self, run_id: str) -> Run | None:
        """The run with all that is staged."""
        return self._head_runs.get(run_id) or self.runs.get(run_id)

    def live_runs(self) -> list[Run]:
        """The runs that have not ended, staged ones included, as they are on the head."""
        return [run for run in {**self.runs, **self._head_runs}.values() if run.live]

    def heads(self) -> list[Task]:
        """Every task with all that is staged."""
        return [*(self.tasks | self._head_tasks).values()]

    def head_key(self, key_hash: str) -> KeyRecord | None:
        """What an Idempotency-Key made, staged creations included."""
        return self._head_keys.get(key_hash) or self.keys.get(key_hash)

    @property
    def live(self) -> int:
        """How many tasks are not terminal."""
        return self.counts["waiting"] + self.counts["queued"] + self.counts["running"]

    @property
    def pending(self) -> bool:
        """Whether something is staged that is not durable."""
        return self._commits.pending

    @property
    def busy(self) -> bool:
        """Whether something is not durable, or not in the files that people read."""
        return self.pending or self.views.busy

    @property
    def idle(self) -> bool:
        """Whether it can leave memory: nothing in it is live, to be written or to be healed, and nobody keeps it."""
        return not (self.live or self.busy or self.reason or self._users or self.live_runs())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Meanwhile it does not leave memory: for who waits for something before staging."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    # ------------------------------------------------------------------ commit

    def stage(self, events: Sequence[Event], *, lazily: bool = False) -> asyncio.Future[None]:
        """Put events on the head, all or none; the future is done when they are durable.

        With `lazily` they may wait `commits.LAZY_S` for company.

        Raises:
            InvalidTransition: an event does not fit the head; nothing was staged.
            SessionReadOnly: the session's disk failed, or it is being deleted.

        The future raises StorageFull or StorageFailed when the batch was not acknowledged.
        """
        if (reason := self.reason or self._closed) is not None:
            raise SessionReadOnly(f"session {self.session.session_id} is read-only: {reason}")
        staged, head_session = self._applied(events)
        for entry in staged:
            if entry.task is not None:
                self._head_tasks[entry.task.task_id] = entry.task
            if entry.run is not None:
                self._head_runs[entry.run.run_id] = entry.run
            if entry.key is not None:
                self._head_keys[entry.key.key_hash] = entry.key
        self.head_session = head_session
        self.head_seq += len(staged)
        return self._commits.give(staged, lazily=lazily)

    def hurry(self) -> None:
        """Somebody waits for what is staged after all."""
        self._commits.hurry()

    async def settled(self) -> None:
        """Wait until all that is staged now is durable; what is staged meanwhile is not waited for.

        Raises:
            StorageFailed, SessionReadOnly: it was not acknowledged.
        """
        await self._commits.settled()

    def _applied(self, events: Sequence[Event]) -> tuple[list[Staged], Session]:
        fresh: dict[str, Task] = {}
        runs: dict[str, Run] = {}
        session = self.head_session
        staged = []
        for seq, event in enumerate(events, self.head_seq + 1):
            task = changed = key = run = usage = None
            if isinstance(event, TaskEvent):
                before = fresh.get(event.task_id) or self.head(event.task_id)
                task = fresh[event.task_id] = applied_to_task(before, event, seq)
                if isinstance(event, TaskCreated):
                    key = key_record(event, seq)
                elif isinstance(event, (TaskFinished, TaskRetried)) and event.end is not None:
                    usage = used(session.usage, event.end)
                    session = replace(session, usage=usage)
            elif isinstance(event, SessionEvent):
                session = changed = applied_to_session(session, event, seq)
            if (run_id := run_of(event)) is not None:
                run = applied_to_run(runs.get(run_id) or self.head_run(run_id), event, seq)
                if run is not None:
                    runs[run_id] = run
                if isinstance(event, RunCreated):
                    key = key_record(event, seq)
            staged.append(Staged(seq, event, task, changed, key, run, usage))
        return staged, session

    def _publish(self, batch: list[Staged], appended: Appended, took_s: float) -> None:
        committed = []
        active_at, usage = self.session.updated_at, self.session.usage
        for entry, line in zip(batch, appended.lines, strict=True):
            if (task := entry.task) is not None:
                before = self.tasks.get(task.task_id)
                if before is not None:
                    self.counts[before.state.value] -= 1
                self.counts[task.state.value] += 1
                self.tasks[task.task_id] = task
                if self._head_tasks.get(task.task_id) is task:
                    del self._head_tasks[task.task_id]
                if task.terminal and (before is None or not before.terminal):
                    self.views.finished(entry.seq, task)
            if entry.session is not None:
                self.session = entry.session
                self.views.metadata_changed()
            if entry.run is not None:
                self._take_run(entry.run)
            if entry.key is not None:
                self.keys[entry.key.key_hash] = entry.key
                self._head_keys.pop(entry.key.key_hash, None)
            if isinstance(entry.event, SessionPruned):
                self._drop(entry.event.tasks)
                self.views.forget(entry.event.tasks)
            elif entry.event.at > active_at:
                active_at = entry.event.at
            usage = entry.usage or usage
            committed.append(Committed(entry.seq, entry.event, line, entry.task))
        if active_at > self.session.updated_at or usage is not self.session.usage:  # as `active` says, once a batch
            self.session = replace(self.session, updated_at=max(active_at, self.session.updated_at), usage=usage)
        self.seq = batch[-1].seq
        self.position = appended.position
        self.views.ask(resting=not self.live)
        self._hooks.on_commit(self, committed)
        self._hooks.on_commit_latency(took_s)

    def _take_run(self, run: Run) -> None:
        self.runs[run.run_id] = run
        if self._head_runs.get(run.run_id) is run:
            del self._head_runs[run.run_id]
        if not run.live:
            for run_id in surplus(self.runs.values()):
                del self.runs[run_id]

    def _fall_back(self, error: StorageFailed | SessionReadOnly) -> None:
        self._head_tasks.clear()
        self._head_runs.clear()
        self._head_keys.clear()
        self.head_session, self.head_seq = self.session, self.seq
        self._hooks.on_failed(self, error)

    # ------------------------------------------------------------------ views

    def moment(self) -> Moment:
        """The durable state as it is now."""
        tasks, keys, runs = self.tasks.values(), self.keys.values(), self.runs.values()
        return Moment(self.session, self.seq, self.position, list(tasks), list(keys), list(runs))

    def _drop(self, task_ids: Iterable[str]) -> None:
        """Let finished tasks go that tasks.json no longer has; their records in history/ remain."""
        gone = [task for task_id in task_ids if (task := self.tasks.pop(task_id, None)) is not None]
        for task in gone:
            self.counts[task.state.value] -= 1
        self._hooks.on_dropped(self, gone)

    def drop_keys(self, key_hashes: Iterable[str]) -> None:
        """Forget expired Idempotency-Keys; the next view no longer has them."""
        for key_hash in key_hashes:
            self.keys.pop(key_hash, None)

    def refuse(self, reason: str | None) -> None:
        """Take nothing more; what is staged is still made durable. Without a reason: take changes again."""
        self._closed = reason

    def abandon(self) -> None:
        """Write nothing more; the caller has settled and flushed."""
        self._closed = self._closed or "it has left memory; try again"
        self._commits.abandon()
        self.views.abandon()
