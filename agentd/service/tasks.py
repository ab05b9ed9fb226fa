"""The verbs of tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from msgspec.structs import replace

from agentd.errors import (
    Conflict,
    Invalid,
    InvalidTransition,
)
from agentd.model.changes import PROGRESS_FIELDS
from agentd.model.events import (
    Event,
    SessionConversation,
    TaskProgress,
)
from agentd.model.reports import ProgressReport
from agentd.model.requests import TASK_SORTS, Page, TaskQuery, plain
from agentd.model.task import Cause, CauseCode, State, Task, Usage
from agentd.service.across import Asleep, Listed, age, first_of
from agentd.service.listing import check_sort, cursor_of, key_in, paged, task_matches, with_times
from agentd.service.submission import Submission
from agentd.store.entry import Entry
from agentd.store.ledger import Ledger
from agentd.store.output import OutputLog

#: The longest a `wait` is held, in seconds; clients ask again.
MAX_WAIT_S = 300.0
#: Agents that one session has conversations with.
CONVERSATIONS_MOST = 100


class TaskVerbs(Submission):
    """Read, wait, cancel, report progress."""

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
        try:
            async with asyncio.timeout(min(timeout_s, MAX_WAIT_S)):
                return await end
        except TimeoutError:
            return await self.find(task_id)
        finally:
            end.cancel()

    async def list_tasks(self, query: TaskQuery, session_id: str | None = None) -> Page[Task]:
        """Live tasks and the finished ones still in tasks.json, of one session or all, a page of them.

        Raises:
            SessionNotFound: no such session.
            Malformed: a bad cursor, sort or time.
        """
        _, descending = check_sort(query.sort, TASK_SORTS)
        query = with_times(query)
        if session_id is not None:
            view = await self.session(session_id)
            assert isinstance(view.tasks, tuple)
            rows: Iterable[Task] = (task for task in view.tasks if task_matches(task, query))
            of = f"tasks of {session_id} {query.sort}"
            return paged(rows, age, of=of, limit=query.limit, cursor=query.cursor, descending=descending)
        known = query.prefix or query.parent  # an id tells which sessions it can be of
        entries = {
            each: self.store.entries[each]
            for each in (self.store.sessions_of(known) if known else list(self.store.entries))
        }
        seqs, listed = await self.in_thread(self._listed, entries, query, descending)
        for each, oldest in listed.oldest.items():
            if (entry := entries[each]).ledger is None and entry.seq == seqs[each]:
                entry.oldest = oldest
        return listed.page

    def _listed(
        self, entries: Mapping[str, Entry], query: TaskQuery, descending: bool
    ) -> tuple[dict[str, int], Listed]:
        """The page, and at which event each session that was not in memory stood. For a thread."""
        awake: list[Iterable[Task]] = []
        asleep, seqs = [], {}
        states = (State.RUNNING,) if query.awaiting else query.state  # only what runs awaits an answer
        for session_id, entry in entries.items():
            if (ledger := entry.ledger) is not None:
                awake.append(list(ledger.tasks.values()))
            elif entry.tasks:
                awake.append(list(entry.tasks.values()))
            else:
                session, counts, seqs[session_id] = entry.at_rest
                if any(counts.get(state) for state in states or counts):
                    asleep.append(Asleep(session_id, entry.oldest, session.updated_at))
        return seqs, first_of(awake, asleep, self.store.read_tasks, query, descending)

    async def history(self, session_id: str, query: TaskQuery) -> tuple[list[bytes], str | None]:
        """A page of the session's finished tasks: their records as they are on disk, and the next cursor.

        Raises:
            SessionNotFound: no such session.
            Malformed: a bad cursor, sort or time.
        """
        check_sort(query.sort, TASK_SORTS)
        query = with_times(query)
        entry = self.store.entry(session_id)
        if entry.ledger is not None and entry.ledger.busy:
            await entry.ledger.views.flush()
        of = f"history of {session_id} {query.sort}"
        if query.cursor is not None:
            query = replace(query, cursor=key_in(query.cursor, of, str))
        history = self.history_of(session_id)
        rows, following = await self.in_thread(history.page, query)
        if query.cursor is not None and following is not None:  # who turns pages will turn the next
            self.store.later(history.read_ahead, replace(query, cursor=following))
        return rows, None if following is None else cursor_of(of, following)

    def output(self, task: Task, attempt: int | None) -> OutputLog:
        """The output of one attempt, the latest by default. It may be empty: not started, or retention took it.

        Raises:
            Invalid: the task has no such attempt.
        """
        if attempt is not None and not 1 <= attempt <= max(1, task.attempt):
            raise Invalid.field("attempt", f"must be 1 to {max(1, task.attempt)}")
        number = attempt or max(1, task.attempt)
        return OutputLog(self.store.path(task.session_id), task.task_id, number, self._log_indexes)

    # ------------------------------------------------------------------ change

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task: at once while it waits, by asking its processes to stop while it runs; and its sub-tasks.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: it has ended.
        """
        ledger, task = await self.find_live(task_id)
        if task.terminal:
            await ledger.settled()  # what is told is durable, also in a refusal
            raise InvalidTransition(f"task {task_id} is {task.state}; there is nothing to cancel")
        cause = Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled by a client")
        theirs = replace(cause, message=f"task {task_id}, which submitted it, was cancelled by a client")
        await self.stop_tasks(ledger, {task_id: cause, **dict.fromkeys(_below(ledger.heads(), task_id), theirs)})
        current = ledger.tasks.get(task_id) or await self.find(task_id)
        if current.state is State.RUNNING:
            self.runner.stop(current)
        return current

    async def progress(self, task_id: str, report: ProgressReport) -> Task:
        """Record how far a running task is, what it has used, and which conversation it goes on with.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            Invalid: the report is empty.
            Conflict: it is of one agent too many to have a conversation with in this session.
            InvalidTransition: the task is not running.
        """
        if report == ProgressReport():
            raise Invalid(f"say at least one of {', '.join(ProgressReport.__struct_fields__)}")
        ledger, task = await self.find_running(task_id, "reports progress")
        given = {name: getattr(report, name) for name in PROGRESS_FIELDS}
        usage = plain(report.usage, Usage) if report.usage is not None else None
        events: list[Event] = [TaskProgress(at=self.now(), task_id=task_id, usage=usage, **given)]
        told, known = report.conversation, ledger.head_session.conversations
        if task.parent_id is not None:
            told = None  # what was delegated talks beside the session's conversation
        if told is not None and known.get(told.agent) != told.conversation_id:
            if told.agent not in known and len(known) >= CONVERSATIONS_MOST:
                raise Conflict(
                    f"a session has conversations with {CONVERSATIONS_MOST} agents at most; use another session"
                )
            events.append(SessionConversation(at=self.now(), agent=told.agent, conversation_id=told.conversation_id))
        await self.stage(ledger, events)
        return ledger.tasks.get(task_id) or await self.find(task_id)

    async def find_running(self, task_id: str, does: str) -> tuple[Ledger, Task]:
        """A task that runs, on the head of its ledger.

        Raises:
            TaskNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: it does not run, and only one that runs `does` that.
        """
        ledger, task = await self.find_live(task_id)
        if task.state is not State.RUNNING:  # also one that has left memory, of which the ledger knows nothing
            await ledger.settled()  # what is told is durable, also in a refusal
            raise InvalidTransition(f"task {task_id} is {task.state}; only a running one {does}")
        return ledger, task


def _below(tasks: Iterable[Task], task_id: str) -> list[str]:
    """Live sub-tasks of a task, and theirs, also of those that have ended."""
    children: dict[str, list[Task]] = {}
    for task in tasks:
        if task.parent_id is not None:
            children.setdefault(task.parent_id, []).append(task)
    found = [*children.get(task_id, ())]
    for each in found:  # it grows meanwhile
        found += children.get(each.task_id, ())
    return [each.task_id for each in found if not each.terminal]
