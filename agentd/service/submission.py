"""Accepting a task: checked, keyed, made durable."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from agentd.clock import epoch, rfc3339
from agentd.errors import (
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    QueueFull,
    TaskNotFound,
)
from agentd.model.changes import created, new_task
from agentd.model.events import (
    SessionCreated,
    TaskCreated,
)
from agentd.model.ids import is_task_id, new_task_id
from agentd.model.requests import AskedTrigger, Created, Key, NewSession, NewTask, plain
from agentd.model.task import Retry, State, Task, Trigger, TriggerType
from agentd.service.listing import check_labels
from agentd.service.sessions import SessionVerbs
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
)


class Submission(SessionVerbs):
    """Submit a task, or an ended one again."""

    async def submit(self, session_id: str | None, new: NewTask, key: Key | None, source: str) -> Created[Task]:
        """Accept a task; durable when this returns.

        With `session_id` the session must exist; without, the body may name one, and it is made if absent.

        Raises:
            SessionNotFound, SessionReadOnly, Invalid, IdempotencyConflict, QueueFull, Draining, StorageFailed
        """
        if session_id is not None:
            if new.session_id not in (None, session_id):
                raise Invalid.field("session_id", f"the path says {session_id!r}; leave it out of the body")
            return await self._submit_to(await self.store.ledger(session_id), new, key, source)
        session = self.new_session(NewSession(session_id=new.session_id), key)
        session_id = session.session_id
        self.check_key(key, session_id)
        await self.store.created_by_now(session_id)
        if session_id in self.store.entries:
            return await self._submit_to(await self.store.ledger(session_id), new, key, source)
        self.refuse_when_draining()
        self.refuse_when_full(session_id)
        task = await self._accepted(session_id, new, source, None)
        head = SessionCreated(at=session.created_at, session=session)
        event = _keyed(TaskCreated(at=task.created_at, task_id=task.task_id, task=task), key)
        ledger = await self.store.create(session, [head, event])
        made = ledger.tasks[task.task_id]
        self.runner.changed(made, session)
        return Created(value=made)

    async def _submit_to(self, ledger: Ledger, new: NewTask, key: Key | None, source: str) -> Created[Task]:
        if key is not None and (first := await self._first_answer(ledger, key)) is not None:
            return Created(value=first, replayed=True)
        self.refuse_when_draining()
        return await self._create(ledger, await self._accepted(ledger.session.session_id, new, source, ledger), key)

    async def _create(self, ledger: Ledger, task: Task, key: Key | None) -> Created[Task]:
        if key is not None and (first := await self._first_answer(ledger, key)) is not None:
            return Created(value=first, replayed=True)  # one that came while this was being accepted
        event = _keyed(TaskCreated(at=task.created_at, task_id=task.task_id, task=task), key)
        seq = ledger.head_seq + 1  # staging it may start it at once, which is an event of its own
        await self.stage(ledger, [event])
        return Created(value=replace(task, seq=seq))

    async def _first_answer(self, ledger: Ledger, key: Key) -> Task | None:
        record = ledger.head_key(key.key_hash)
        if record is None or self.clock.time() - epoch(record.at) > self.settings.limits.idempotency_ttl_s:
            return None
        if record.body_hash != key.body_hash or record.task_id is None:
            raise IdempotencyConflict("this Idempotency-Key was used with another body; use a new key")
        await ledger.settled()
        return replace(created(await self.find(record.task_id)), seq=record.seq)

    async def _accepted(self, session_id: str, new: NewTask, source: str, ledger: Ledger | None) -> Task:
        kind = self.kinds.get(new.kind)
        if kind is None:
            raise Invalid.field("kind", f"{new.kind!r} is not a kind of task; there are: {', '.join(self.kinds)}")
        kind.check(new.spec)
        check_labels(new.labels)
        not_before = _start_time(new.not_before)
        limits = self.settings.limits
        if self.store.live >= limits.live_tasks or (ledger and ledger.live >= limits.live_tasks_per_session):
            raise QueueFull("too many unfinished tasks; wait for some to end, or raise limits.live_tasks")
        pending = await self._pending(new.needs, session_id, ledger)
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
            not_before=not_before,
            created_at="",
        )
        return new_task(task, at=rfc3339(now), waiting=pending or self.due(task) > now)

    async def _pending(self, needs: Sequence[str], session_id: str, ledger: Ledger | None) -> bool:
        """Whether a needed task is still to come, at the moment of the return. One that ended badly never will."""
        left: dict[str, Task] = {}  # those no longer in memory: they have ended
        while ledger and (gone := [need for need in needs if need not in left and ledger.head(need) is None]):
            for need in gone:
                left[need] = await self._needed(need, session_id)
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

    async def retry(self, task_id: str, key: Key | None) -> Created[Task]:
        """Submit an ended task again, as a new one with `retry_of`.

        Raises:
            TaskNotFound, SessionReadOnly, IdempotencyConflict, QueueFull, Draining, StorageFailed
            InvalidTransition: it has not ended.
        """
        task = await self.find(task_id)
        ledger = await self.store.ledger(task.session_id)
        if key is not None and (first := await self._first_answer(ledger, key)) is not None:
            return Created(value=first, replayed=True)
        if not task.terminal:
            raise InvalidTransition(f"task {task_id} is {task.state}; wait for its end, or cancel it first")
        self.refuse_when_draining()
        given = {name: getattr(task, name) for name in _RETRIED_FIELDS}
        trigger = AskedTrigger(type=TriggerType.RETRY, source=task_id)
        fresh = await self._accepted(task.session_id, NewTask(**given, trigger=trigger), task_id, ledger)
        return await self._create(ledger, replace(fresh, retry_of=task_id), key)


def _keyed(event: TaskCreated, key: Key | None) -> TaskCreated:
    return event if key is None else replace(event, key_hash=key.key_hash, body_hash=key.body_hash)


def _stranger(need: str, session_id: str) -> Invalid:
    return Invalid.field("needs", f"{need!r} is not a task of session {session_id}")


def _start_time(not_before: str | None) -> str | None:
    if not_before is None:
        return None
    try:
        return rfc3339(epoch(not_before))
    except (ValueError, OverflowError) as error:
        raise Invalid.field("not_before", "must be an RFC 3339 time with an offset, as 2030-01-31T09:00:00Z") from error
