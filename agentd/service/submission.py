"""Accepting a task: checked, keyed, made durable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from agentd.clock import epoch, rfc3339
from agentd.errors import (
    FieldError,
    Invalid,
    InvalidTransition,
    QueueFull,
    TaskNotFound,
)
from agentd.model.changes import created, new_task
from agentd.model.events import (
    SessionCreated,
    TaskCreated,
    decoded,
)
from agentd.model.ids import is_task_id, new_task_id
from agentd.model.requests import AskedTrigger, Created, Key, NewSession, NewTask, plain
from agentd.model.task import Retry, State, Task, Trigger, TriggerType
from agentd.service.listing import check_labels
from agentd.service.sessions import SessionVerbs
from agentd.store.folder import KeyRecord
from agentd.store.inside import checked
from agentd.store.ledger import Ledger

_RETRIED_FIELDS = (
    "kind",
    "spec",
    "name",
    "priority",
    "queue",
    "labels",
    "timeout_s",
    "retry",
    "on_interrupt",
    "max_output_bytes",
    "artifacts",
)


class _Asked(NamedTuple):
    """What one request submits, and who: `source` a name, `parent_id` the task whose own token it is.

    `named`: errors say by its place in the batch which task is meant.
    """

    tasks: tuple[NewTask, ...]
    source: str
    parent_id: str | None = None
    named: bool = False


class Submission(SessionVerbs):
    """Submit a task, or an ended one again."""

    async def submit(
        self, session_id: str | None, new: NewTask, key: Key | None, source: str, parent_id: str | None = None
    ) -> Created[Task]:
        """Accept a task; durable when this returns.

        With `session_id` the session must exist; without, the body may name one, and it is made if absent.

        Raises:
            SessionNotFound, SessionReadOnly, Invalid, IdempotencyConflict, QueueFull, Draining, StorageFailed
        """
        if session_id is not None and new.session_id not in (None, session_id):
            raise Invalid.field("session_id", f"the path says {session_id!r}; leave it out of the body")
        asked = _Asked((new,), source, parent_id)
        made = await self._submitted(session_id, session_id or new.session_id, asked, key)
        return Created(value=made.value[0], replayed=made.replayed)

    async def submit_batch(
        self,
        session_id: str | None,
        batch: Sequence[NewTask],
        key: Key | None,
        source: str,
        parent_id: str | None = None,
    ) -> Created[tuple[Task, ...]]:
        """Accept tasks, all of one session, in one write: all are durable when this returns, or none is there.

        Raises:
            As `submit`; the name of a wrong field begins with the task's place, as in `[17].spec.command`.
        """
        named = session_id or next((new.session_id for new in batch if new.session_id is not None), None)
        for place, new in enumerate(batch):
            if new.session_id not in (None, named):
                raise Invalid.field(
                    f"[{place}].session_id", f"must be {named!r} or left out: a batch is of one session"
                )
        asked = _Asked(tuple(batch), source, parent_id, named=True)
        return await self._submitted(session_id, named, asked, key)

    async def _submitted(
        self, existing: str | None, named: str | None, asked: _Asked, key: Key | None
    ) -> Created[tuple[Task, ...]]:
        if existing is not None:
            return await self._submit_to(await self.store.ledger(existing), asked, key)
        session = self.new_session(NewSession(session_id=named), key)
        session_id = session.session_id
        self.keys.check_home(key, session_id, self.store.entries)
        await self.store.created_by_now(session_id)
        if session_id in self.store.entries:
            return await self._submit_to(await self.store.ledger(session_id), asked, key)
        self.refuse_when_draining()
        self.refuse_when_full(session_id)
        tasks = await self._accepted(session_id, asked, None)
        head = SessionCreated(at=session.created_at, session=session)
        ledger = await self.store.create(session, [head, *_creations(tasks, key)])
        made = tuple(ledger.tasks[task.task_id] for task in tasks)
        self.runner.changed(made, session)
        return Created(value=made)

    async def _submit_to(self, ledger: Ledger, asked: _Asked, key: Key | None) -> Created[tuple[Task, ...]]:
        with ledger.kept():
            if (first := await self._first_answer(ledger, key)) is not None:
                return Created(value=first, replayed=True)
            self.refuse_when_draining()
            tasks = await self._accepted(ledger.session.session_id, asked, ledger)
            return await self._create(ledger, tasks, key)

    async def _create(self, ledger: Ledger, tasks: Sequence[Task], key: Key | None) -> Created[tuple[Task, ...]]:
        if (first := await self._first_answer(ledger, key)) is not None:
            return Created(value=first, replayed=True)  # one that came while this was being accepted
        seq = ledger.head_seq + 1  # staging them may start some at once, which are events of their own
        await self.stage(ledger, _creations(tasks, key))
        return Created(value=tuple(replace(task, seq=seq + place) for place, task in enumerate(tasks)))

    async def _first_answer(self, ledger: Ledger, key: Key | None) -> tuple[Task, ...] | None:
        record = self.keys.first_use(ledger, key, "task_id")
        if record is None or record.task_id is None:
            return None
        await ledger.settled()
        if record.batch > 1:
            return await self._batch_of(ledger, record)
        return (replace(created(await self.find(record.task_id)), seq=record.seq),)

    async def _batch_of(self, ledger: Ledger, record: KeyRecord) -> tuple[Task, ...]:
        """The tasks of a batch as they were created."""
        made: list[Task] = []
        while (left := record.batch - len(made)) > 0:
            seq = record.seq + len(made)
            lines, _ = await self.in_thread(ledger.folder.read_events, seq - 1, left, seq - 1 + left)
            events = [event for event in map(decoded, lines) if isinstance(event, TaskCreated)]
            if not events or len(events) != len(lines):
                raise TaskNotFound("the tasks that this Idempotency-Key made are not kept any more; use a new key")
            made += (replace(event.task, seq=seq + place) for place, event in enumerate(events))
        return tuple(made)

    async def _accepted(self, session_id: str, asked: _Asked, ledger: Ledger | None) -> list[Task]:
        place = 0
        try:
            for place, new in enumerate(asked.tasks):  # noqa: B007 - where it was, if it was wrong
                self._check(new)
            left: dict[str, Task] = {}  # what is needed and no longer in memory: it has ended
            needed = {need: at for at, new in reversed([*enumerate(asked.tasks)]) for need in new.needs}
            while ledger and (gone := [need for need in needed if need not in left and ledger.head(need) is None]):
                for need in gone:
                    place = needed[need]
                    left[need] = await self._needed(need, session_id)
            # Nothing is awaited any more: no needed task can end meanwhile, and no parent be asked to stop.
            self._check_room(len(asked.tasks), ledger)
            parent = self._parent(asked, ledger)
            tasks = []
            for place, new in enumerate(asked.tasks):  # noqa: B007
                pending = self._pending(new.needs, session_id, left, ledger)
                task = self._made(session_id, new, asked.source, pending)
                if parent is not None:
                    task = replace(task, parent_id=parent.task_id, depth=parent.depth + 1)
                tasks.append(task)
        except Invalid as error:
            if not asked.named:
                raise
            errors = [FieldError(f"[{place}].{each.field}", each.message) for each in error.errors]
            raise Invalid(f"[{place}].{error.detail}", errors=errors) from error
        return tasks

    def _check_room(self, count: int, ledger: Ledger | None) -> None:
        limits = self.settings.limits
        live = ledger.live if ledger is not None else 0
        if self.store.live + count > limits.live_tasks or live + count > limits.live_tasks_per_session:
            raise QueueFull("too many unfinished tasks; wait for some to end, or raise limits.live_tasks")

    def _parent(self, asked: _Asked, ledger: Ledger | None) -> Task | None:
        """The task that submits, if it may submit more."""
        parent = ledger.head(asked.parent_id) if ledger is not None and asked.parent_id is not None else None
        if ledger is None or parent is None:
            return None
        if parent.stop_cause is not None:
            raise InvalidTransition(f"task {parent.task_id} was asked to stop; it submits nothing more")
        limits = self.settings.limits
        if parent.depth >= limits.subtask_depth:
            text = f"tasks that submit one another end at {limits.subtask_depth} (limits.subtask_depth)"
            raise QueueFull(f"{text}; do it in this task, or leave it to the one that submitted this")
        live = sum(each.parent_id == parent.task_id and not each.terminal for each in ledger.heads())
        if live + len(asked.tasks) > limits.live_subtasks:
            raise QueueFull(
                f"{live} tasks that this one submitted are unfinished; wait for some (limits.live_subtasks)"
            )
        return parent

    def _check(self, new: NewTask) -> None:
        kind = self.kinds.get(new.kind)
        if kind is None:
            raise Invalid.field("kind", f"{new.kind!r} is not a kind of task; there are: {', '.join(self.kinds)}")
        kind.check(new.spec)
        check_labels(new.labels)
        for n, pattern in enumerate(new.artifacts):
            checked(pattern, f"artifacts[{n}]")

    def _made(self, session_id: str, new: NewTask, source: str, pending: bool) -> Task:
        not_before = _start_time(new.not_before)
        now = self.clock.time()
        task = Task(
            task_id=new_task_id(session_id),
            session_id=session_id,
            kind=new.kind,
            spec=new.spec,
            name=new.name,
            state=State.QUEUED,
            priority=new.priority,
            queue=new.queue,
            needs=tuple(dict.fromkeys(new.needs)),
            labels=new.labels,
            trigger=Trigger(type=new.trigger.type, source=new.trigger.source or source),
            timeout_s=new.timeout_s,
            retry=plain(new.retry, Retry) if new.retry is not None else None,
            on_interrupt=new.on_interrupt,
            max_output_bytes=new.max_output_bytes,
            artifacts=new.artifacts,
            not_before=not_before,
            created_at="",
        )
        return new_task(task, at=rfc3339(now), waiting=pending or self.due(task) > now)

    def _pending(self, needs: Sequence[str], session_id: str, left: Mapping[str, Task], ledger: Ledger | None) -> bool:
        """Whether a needed task is still to come. One that ended badly never will."""
        pending = False
        for need in needs:
            task = left.get(need) or (ledger.head(need) if ledger else None)
            if task is None:
                raise _stranger(need, session_id)
            if task.terminal and task.state is not State.COMPLETED:
                raise Invalid.field("needs", f"{need!r} ended {task.state}; the new task could never start")
            pending |= not task.terminal
        return pending

    async def _needed(self, need: str, session_id: str) -> Task:
        """A task of the session that is not on its head."""
        try:
            task = await self.find(need) if is_task_id(need) else None
        except TaskNotFound:
            task = None
        if task is None or task.session_id != session_id:
            raise _stranger(need, session_id)
        return task

    async def retry(self, task_id: str, key: Key | None, parent_id: str | None = None) -> Created[Task]:
        """Submit an ended task again, as a new one with `retry_of`; with `parent_id`, as a sub-task of that one.

        Raises:
            TaskNotFound, SessionReadOnly, IdempotencyConflict, QueueFull, Draining, StorageFailed
            InvalidTransition: it has not ended.
        """
        task = await self.find(task_id)
        ledger = await self.store.ledger(task.session_id)
        with ledger.kept():
            return await self._retried(ledger, task, key, parent_id)

    async def _retried(self, ledger: Ledger, task: Task, key: Key | None, parent_id: str | None) -> Created[Task]:
        if (first := await self._first_answer(ledger, key)) is not None:
            return Created(value=first[0], replayed=True)
        if not task.terminal:
            raise InvalidTransition(f"task {task.task_id} is {task.state}; wait for its end, or cancel it first")
        self.refuse_when_draining()
        given = {name: getattr(task, name) for name in _RETRIED_FIELDS}
        trigger = AskedTrigger(type=TriggerType.RETRY, source=task.task_id)
        new = NewTask(**given, trigger=trigger)
        (fresh,) = await self._accepted(task.session_id, _Asked((new,), task.task_id, parent_id), ledger)
        made = await self._create(ledger, (replace(fresh, retry_of=task.task_id),), key)
        return Created(value=made.value[0], replayed=made.replayed)


def _creations(tasks: Sequence[Task], key: Key | None) -> list[TaskCreated]:
    events = [TaskCreated(at=task.created_at, task_id=task.task_id, task=task) for task in tasks]
    events[0] = replace(events[0], batch=len(events))
    if key is not None:
        events[0] = replace(events[0], key_hash=key.key_hash, body_hash=key.body_hash)
    return events


def _stranger(need: str, session_id: str) -> Invalid:
    return Invalid.field("needs", f"{need!r} is not a task of session {session_id}")


def _start_time(not_before: str | None) -> str | None:
    if not_before is None:
        return None
    try:
        return rfc3339(epoch(not_before))
    except (ValueError, OverflowError) as error:
        raise Invalid.field("not_before", "must be an RFC 3339 time with an offset, as 2030-01-31T09:00:00Z") from error
