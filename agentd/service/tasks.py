"""The verbs of tasks."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterable

from msgspec.structs import replace

from agentd.clock import epoch, rfc3339
from agentd.errors import (
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    QueueFull,
    TaskNotFound,
)
from agentd.kinds.protocol import Outcome
from agentd.model.events import (
    PROGRESS_FIELDS,
    AttemptEnd,
    Event,
    SessionCreated,
    TaskCreated,
    TaskEvent,
    TaskFinished,
    TaskProgress,
    TaskRetried,
    TaskStarted,
    TaskStopRequested,
    created,
    new_task,
)
from agentd.model.ids import is_task_id, new_task_id
from agentd.model.launch import Exit
from agentd.model.requests import Created, Key, NewSession, NewTask, Page, ProgressReport, TaskQuery
from agentd.model.task import Cause, CauseCode, Retry, State, Task, Trigger, TriggerType
from agentd.service.listing import TASK_SORTS, check_labels, check_sort, cursor_of, paged, parts_of, task_matches
from agentd.service.sessions import SessionVerbs
from agentd.store.ledger import Ledger
from agentd.store.output import OutputLog

#: The longest a `wait` is held, in seconds; clients ask again.
MAX_WAIT_S = 300.0
MAX_RETRIES = 1000


class TaskVerbs(SessionVerbs):
    """Submit, read, wait, cancel, retry, report progress; and for the runner: start and end an attempt."""

    # ------------------------------------------------------------------ submit

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
        await self.store.created_by_now(session_id)
        if session_id in self.store.entries:
            return await self._submit_to(await self.store.ledger(session_id), new, key, source)
        self.refuse_when_draining()
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
        event = _keyed(TaskCreated(at=task.created_at, task_id=task.task_id, task=task), key)
        durable = self.stage(ledger, [event])
        seq = ledger.head_seq
        await durable
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
        if new.retry is not None:
            _check_retry(new.retry)
        now = self.clock.time()
        due = _start_time(new.not_before)
        limits = self.settings.limits
        if self.live_tasks >= limits.live_tasks or (ledger and ledger.live >= limits.live_tasks_per_session):
            raise QueueFull("too many unfinished tasks; wait for some to end, or raise limits.live_tasks")
        pending = False
        for need in new.needs:
            pending |= await self._needed(need, session_id, ledger)
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
            trigger=new.trigger if new.trigger.source else Trigger(type=new.trigger.type, source=source),
            timeout_s=new.timeout_s,
            retry=new.retry,
            on_interrupt=new.on_interrupt,
            max_output_bytes=new.max_output_bytes,
            not_before=rfc3339(due) if due else None,
            created_at="",
        )
        return new_task(task, at=rfc3339(now), waiting=pending or due > now)

    async def _needed(self, need: str, session_id: str, ledger: Ledger | None) -> bool:
        """Whether the needed task is still to come. One that ended badly can never be followed."""
        task = ledger.head(need) if ledger is not None else None
        if task is None and ledger is not None and is_task_id(need):
            try:
                task = await self.find(need)
            except TaskNotFound:
                task = None
        if task is None or task.session_id != session_id:
            raise Invalid.field("needs", f"{need!r} is not a task of session {session_id}")
        if task.terminal and task.state is not State.COMPLETED:
            raise Invalid.field("needs", f"{need!r} ended {task.state}; the new task could never start")
        return not task.terminal

    @property
    def live_tasks(self) -> int:
        """How many tasks are not terminal, over all sessions."""
        return sum(ledger.live for ledger in self.store.resident)

    # ------------------------------------------------------------------ read

    async def task(self, task_id: str) -> Task:
        """One task as it is durable.

        Raises:
            TaskNotFound: no such task.
        """
        return await self.find(task_id)

    async def wait(self, task_id: str, timeout_s: float) -> Task:
        """The task when it is terminal, or as it is after the timeout (at most MAX_WAIT_S).

        Raises:
            TaskNotFound: no such task.
        """
        task = await self.find(task_id)
        if task.terminal or timeout_s <= 0:
            return task
        end = self.end_of(task_id)
        await asyncio.wait([end], timeout=min(timeout_s, MAX_WAIT_S))
        if end.done():
            return end.result()
        end.cancel()
        return await self.find(task_id)

    async def list_tasks(self, query: TaskQuery, session_id: str | None = None) -> Page[Task]:
        """Live tasks and the finished ones still in tasks.json, of one session or all, a page of them.

        Raises:
            SessionNotFound: no such session.
            Malformed: a bad cursor or sort.
        """
        _, descending = check_sort(query.sort, TASK_SORTS)
        if session_id is not None:
            view = await self.session(session_id)
            assert isinstance(view.tasks, tuple)
            rows: Iterable[Task] = (task for task in view.tasks if task_matches(task, query))
            return paged(rows, _age, limit=query.limit, cursor=query.cursor, descending=descending)
        pick = heapq.nlargest if descending else heapq.nsmallest
        last = parts_of(query.cursor, tuple[str, str]) if query.cursor else None
        best: list[Task] = []
        for tasks in await self._tasks_by_session(query):
            behind = (t for t in tasks if last is None or (_age(t) < last if descending else _age(t) > last))
            best = pick(query.limit + 1, [*best, *(t for t in behind if task_matches(t, query))], key=_age)
        page = best[: query.limit]
        return Page(data=tuple(page), next=cursor_of(_age(page[-1])) if len(best) > query.limit else None)

    async def _tasks_by_session(self, query: TaskQuery) -> list[Iterable[Task]]:
        found: list[Iterable[Task]] = []
        live_only = bool(query.state) and not any(state in query.state for state in _ENDED)
        wanted = self.store.sessions_of(query.prefix) if query.prefix else list(self.store.entries)
        asleep = []
        for session_id in wanted:
            entry = self.store.entries[session_id]
            if entry.ledger is not None:
                found.append(entry.ledger.tasks.values())
            elif entry.tasks:
                found.append(entry.tasks.values())
            elif not live_only and entry.counts:
                asleep.append(session_id)
        if asleep:
            found += await self.in_thread(self.store.read_tasks, asleep)
        return found

    async def history(self, session_id: str, query: TaskQuery) -> tuple[list[bytes], str | None]:
        """A page of the session's finished tasks: their records as they are on disk, and the next cursor.

        Raises:
            SessionNotFound: no such session.
            Malformed: a bad cursor or sort.
        """
        check_sort(query.sort, TASK_SORTS)
        entry = self.store.entry(session_id)
        if entry.ledger is not None and entry.ledger.busy:
            await entry.ledger.views.flush()
        return await self.in_thread(self.history_of(session_id).page, query)

    def output(self, task: Task, attempt: int | None) -> OutputLog:
        """The output of one attempt, the latest by default. It may be empty: not started, or retention took it.

        Raises:
            Invalid: the task has no such attempt.
        """
        if attempt is not None and not 1 <= attempt <= max(1, task.attempt):
            raise Invalid.field("attempt", f"must be 1 to {max(1, task.attempt)}")
        number = attempt or max(1, task.attempt)
        return OutputLog(self.store.path(task.session_id), task.task_id, number, self._line_indexes)

    # ------------------------------------------------------------------ change

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task: at once while it waits, by asking its processes to stop while it runs.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: it has ended.
        """
        ledger, task = await self.find_live(task_id)
        if task.terminal:
            raise InvalidTransition(f"task {task_id} is {task.state}; there is nothing to cancel")
        cause = Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled by a client")
        if task.state is not State.RUNNING:
            event: TaskEvent = TaskFinished(at=self.now(), task_id=task_id, state=State.CANCELLED, cause=cause)
            ended = replace(task, state=State.CANCELLED)
            await self.stage(ledger, [event, *self.consequences(ledger, [ended])])
        elif task.stop_cause is None:
            await self.stage(ledger, [TaskStopRequested(at=self.now(), task_id=task_id, cause=cause)])
        current = ledger.tasks.get(task_id) or await self.find(task_id)
        if current.state is State.RUNNING:
            self.runner.stop(current)
        return current

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
        trigger = Trigger(type=TriggerType.RETRY, source=task_id)
        fresh = await self._accepted(task.session_id, NewTask(**given, trigger=trigger), task_id, ledger)
        return await self._create(ledger, replace(fresh, retry_of=task_id), key)

    async def progress(self, task_id: str, report: ProgressReport) -> Task:
        """Record how far a running task is.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            Invalid: the report is empty.
            InvalidTransition: the task is not running.
        """
        given = {name: value for name in PROGRESS_FIELDS if (value := getattr(report, name)) is not None}
        if not given:
            raise Invalid(f"say at least one of {', '.join(PROGRESS_FIELDS)}")
        ledger, _ = await self.find_live(task_id)
        await self.stage(ledger, [TaskProgress(at=self.now(), task_id=task_id, **given)])
        return ledger.tasks.get(task_id) or await self.find(task_id)

    # ------------------------------------------------------------------ for the runner

    def start_attempt(self, ledger: Ledger, task: Task, worker_id: str, wait_s: float) -> asyncio.Future[None]:
        """Stage the claim of the task's next attempt; nothing may be launched before the future is done."""
        event = TaskStarted(
            at=self.now(),
            task_id=task.task_id,
            attempt=task.attempt + 1,
            worker_id=worker_id,
            boot_id=self.boot_id,
            wait_s=round(max(0.0, wait_s), 6),
        )
        return self.stage(ledger, [event])

    def end_attempt(self, ledger: Ledger, task_id: str, exit: Exit, outcome: Outcome) -> asyncio.Future[None]:
        """Stage the end of the running attempt: the task's end, or its next attempt."""
        task = ledger.head(task_id)
        if task is None:
            raise TaskNotFound(f"no task {task_id!r}")
        end = AttemptEnd(
            cause=outcome.cause,
            duration_s=exit.duration_s,
            pid=exit.pid,
            pid_started_at=exit.pid_started_at,
            usage=exit.usage,
            output_bytes=exit.output_bytes,
        )
        at = self.now()
        if _retry_left(task, outcome):
            assert task.retry is not None
            pause = backoff_s(task.retry, task.attempt)
            not_before = rfc3339(self.clock.time() + pause) if pause > 0 else None
            return self.stage(ledger, [TaskRetried(at=at, task_id=task_id, end=end, not_before=not_before)])
        event: Event = TaskFinished(
            at=at, task_id=task_id, state=outcome.state, cause=outcome.cause, end=end, result=outcome.result
        )
        ended = replace(task, state=outcome.state)
        return self.stage(ledger, [event, *self.consequences(ledger, [ended])])


_ENDED = (State.COMPLETED, State.FAILED, State.TIMEOUT, State.CANCELLED)
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


def _age(task: Task) -> tuple[str, str]:
    return (task.created_at, task.task_id)


def _keyed(event: TaskCreated, key: Key | None) -> TaskCreated:
    return event if key is None else replace(event, key_hash=key.key_hash, body_hash=key.body_hash)


def _retry_left(task: Task, outcome: Outcome) -> bool:
    if task.retry is None or task.stop_cause is not None or outcome.state is State.COMPLETED:
        return False
    return outcome.cause.code in task.retry.on and task.attempt <= task.retry.max


def backoff_s(retry: Retry, attempt: int, spread: float | None = None) -> float:
    """The pause after an attempt: exponential, bounded, spread by ± `jitter` so that retries do not march in step."""
    pause = min(retry.max_backoff_s, retry.backoff_s * retry.factor ** min(attempt - 1, 64))
    spread = random.uniform(-1, 1) if spread is None else spread  # noqa: S311 - spreads load, guards nothing
    return float(pause * (1 + retry.jitter * spread))


def _check_retry(retry: Retry) -> None:
    bounds = {
        "max": (0, MAX_RETRIES),
        "backoff_s": (0, 86_400),
        "factor": (1, 100),
        "max_backoff_s": (0, 86_400),
        "jitter": (0, 1),
    }
    for field, (low, high) in bounds.items():
        if not low <= getattr(retry, field) <= high:
            raise Invalid.field(f"retry.{field}", f"must be {low} to {high}")


def _start_time(not_before: str | None) -> float:
    if not_before is None:
        return 0.0
    try:
        return epoch(not_before)
    except (ValueError, OverflowError) as error:
        raise Invalid.field("not_before", "must be an RFC 3339 time with an offset, as 2030-01-31T09:00:00Z") from error
