"""The daemon's API as typed methods: one for each route."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from msgspec.structs import replace

from agentd.client import queries
from agentd.client.calls import if_match, session_path, task_path
from agentd.client.transport import segment
from agentd.client.workflows import WorkflowCalls
from agentd.model.launch import Capacity
from agentd.model.reports import InputTaken, NewAnswer, NewInput, NewQuestion, NewSize, ProgressReport
from agentd.model.requests import (
    Batch,
    NewSession,
    NewTask,
    Page,
    QueueView,
    Scale,
    SessionPatch,
    SessionQuery,
    SessionView,
    TaskQuery,
    Window,
    WorkerView,
)
from agentd.model.task import Task
from agentd.model.upkeep import CheckReport, CleanupReport, ResetReport

#: The daemon answers a wait after at most so long.
MAX_WAIT_S = 300.0


class Client(WorkflowCalls):
    """One daemon, over HTTP. Use it as `async with Client(url, token) as agent:`.

    Every method raises what the daemon raised, as the same class of agentd.errors with the same sentence, and
    `Unreachable` where no daemon answers. Streams resume by themselves and give up after `patience_s`.
    Creates carry an Idempotency-Key (a fresh one unless `key` is given), so a lost answer never doubles work.
    """

    # -- the agent -------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """What the agent is and does now."""
        return await self._json(dict[str, Any], "GET", "/status")

    async def healthy(self) -> bool:
        """Whether the daemon answers; needs no token."""
        await self._transport.bytes("GET", "/healthz")
        return True

    async def metrics(self) -> str:
        """The Prometheus exposition."""
        return (await self._transport.bytes("GET", "/metrics", headers={"Accept": "*/*"})).decode()

    async def openapi(self) -> dict[str, Any]:
        """The OpenAPI document."""
        return await self._json(dict[str, Any], "GET", "/openapi.json")

    async def shutdown(self) -> None:
        """Ask the daemon to drain and stop."""
        await self._transport.bytes("POST", "/shutdown")

    # -- sessions --------------------------------------------------------------------------------------------------

    async def sessions(self, query: SessionQuery | None = None) -> Page[SessionView]:
        """One page of sessions."""
        return await self._json(Page[SessionView], "GET", "/sessions", params=queries.encoded(query or SessionQuery()))

    async def each_session(self, query: SessionQuery | None = None) -> AsyncGenerator[SessionView, None]:
        """All sessions that match, page by page."""
        query = query or SessionQuery()
        while True:
            page = await self.sessions(query)
            for session in page.data:
                yield session
            if page.next is None:
                return
            query = replace(query, cursor=page.next)

    async def create_session(self, new: NewSession, *, key: str | None = None) -> SessionView:
        """A new session; SessionExists if the id is taken."""
        return await self._create(SessionView, "/sessions", new, key)

    async def session(self, session_id: str) -> SessionView:
        """One session with its tasks."""
        return await self._json(SessionView, "GET", session_path(session_id))

    async def edit_session(self, session_id: str, patch: SessionPatch, *, if_seq: int | None = None) -> SessionView:
        """Change title, labels, policy or archived; with `if_seq` only if nothing changed since."""
        return await self._json(SessionView, "PATCH", session_path(session_id), body=patch, headers=if_match(if_seq))

    async def delete_session(self, session_id: str, *, force: bool = False, if_seq: int | None = None) -> None:
        """Delete it with all its files; SessionActive while tasks are not terminal, unless forced."""
        params = [("force", "true")] if force else []
        await self._transport.bytes("DELETE", session_path(session_id), params=params, headers=if_match(if_seq))

    async def cancel_session(self, session_id: str) -> tuple[Task, ...]:
        """Cancel all its tasks that are not terminal; these are returned."""
        return (await self._json(Page[Task], "POST", session_path(session_id) + "/cancel")).data

    # -- tasks -----------------------------------------------------------------------------------------------------

    async def submit(self, new: NewTask, *, session_id: str | None = None, key: str | None = None) -> Task:
        """A new task, in the named session, which is made if it is absent, or in one of its own."""
        if session_id is not None:
            new = replace(new, session_id=session_id)
        return await self._create(Task, "/tasks", new, key)

    async def submit_batch(
        self, batch: Sequence[NewTask], *, session_id: str | None = None, key: str | None = None
    ) -> tuple[Task, ...]:
        """New tasks, 1 to 1000, all of one session, as by `submit`; all of them, or none when one is refused."""
        if session_id is not None:
            batch = [replace(new, session_id=session_id) for new in batch]
        return (await self._create(Batch, "/tasks", batch, key)).data

    async def tasks(self, query: TaskQuery | None = None, *, session_id: str | None = None) -> Page[Task]:
        """One page of tasks, of all sessions or of one."""
        path = "/tasks" if session_id is None else session_path(session_id) + "/tasks"
        return await self._json(Page[Task], "GET", path, params=queries.encoded(query or TaskQuery()))

    async def each_task(
        self, query: TaskQuery | None = None, *, session_id: str | None = None
    ) -> AsyncGenerator[Task, None]:
        """All tasks that match, page by page."""
        query = query or TaskQuery()
        while True:
            page = await self.tasks(query, session_id=session_id)
            for task in page.data:
                yield task
            if page.next is None:
                return
            query = replace(query, cursor=page.next)

    async def history(self, session_id: str, query: TaskQuery | None = None) -> Page[Task]:
        """One page of a session's finished tasks."""
        params = queries.encoded(query or TaskQuery())
        return await self._json(Page[Task], "GET", session_path(session_id) + "/history", params=params)

    async def task(self, task_id: str) -> Task:
        """One task."""
        return await self._json(Task, "GET", task_path(task_id))

    async def wait(self, task_id: str, timeout_s: float = MAX_WAIT_S) -> Task:
        """The task once it is terminal, or as it is after `timeout_s` (at most MAX_WAIT_S)."""
        timeout_s = min(timeout_s, MAX_WAIT_S)
        params = [("timeout_s", f"{timeout_s:.3f}")]
        return await self._json(Task, "GET", task_path(task_id) + "/wait", params=params, read_s=timeout_s + 30)

    async def cancel(self, task_id: str) -> Task:
        """Ask the task to end; InvalidTransition when it has ended."""
        return await self._json(Task, "POST", task_path(task_id) + "/cancel")

    async def retry(self, task_id: str, *, key: str | None = None) -> Task:
        """A new task that does the same again."""
        return await self._create(Task, task_path(task_id) + "/retry", None, key)

    async def report_progress(self, task_id: str, report: ProgressReport) -> Task:
        """Say how far the task is."""
        return await self._json(Task, "POST", task_path(task_id) + "/progress", body=report)

    async def ask(self, task_id: str, question: NewQuestion, timeout_s: float = MAX_WAIT_S) -> Task:
        """Put a running task's question: the task once it is answered, or as it is after `timeout_s`."""
        path = f"{task_path(task_id)}/ask?timeout_s={min(timeout_s, MAX_WAIT_S):.3f}"
        return await self._json(Task, "POST", path, body=question, read_s=timeout_s + 30, repeatable=True)

    async def withdraw(self, task_id: str, ask_id: str | None = None) -> Task:
        """Take a running task's question back; with `ask_id` that one only."""
        params = [] if ask_id is None else [("ask_id", ask_id)]
        return await self._json(Task, "DELETE", task_path(task_id) + "/ask", params=params)

    async def answer(self, task_id: str, answer: NewAnswer) -> Task:
        """Answer what a running task asks."""
        return await self._json(Task, "POST", task_path(task_id) + "/answer", body=answer)

    async def give_input(self, task_id: str, new: NewInput) -> InputTaken:
        """Write to a running interactive task; InputFull while it does not read. Never repeated by itself."""
        return await self._json(InputTaken, "POST", task_path(task_id) + "/input", body=new)

    async def resize_terminal(self, task_id: str, size: NewSize) -> Task:
        """Change the size of a running interactive task's terminal."""
        return await self._json(Task, "POST", task_path(task_id) + "/terminal", body=size)

    # -- workers, queue, care --------------------------------------------------------------------------------------

    async def workers(self) -> tuple[WorkerView, ...]:
        """Every worker of the pool."""
        return (await self._json(Page[WorkerView], "GET", "/workers?limit=1000")).data  # the pool's own bound

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace one worker; what it runs ends as worker_lost."""
        return await self._json(WorkerView, "POST", f"/workers/{segment(worker_id)}/restart")

    async def scale(self, scale: Scale) -> Capacity:
        """Change the bounds of the pool."""
        return await self._json(Capacity, "POST", "/workers/scale", body=scale)

    async def queue(self, window: Window | None = None) -> QueueView:
        """What is queued or waiting, in the order in which it will run."""
        return await self._json(QueueView, "GET", "/queue", params=queries.encoded(window or Window()))

    async def cleanup(self, *, dry_run: bool = False) -> CleanupReport:
        """Apply retention now, or say what it would remove."""
        params = [("dry_run", "true")] if dry_run else []
        return await self._json(CleanupReport, "POST", "/admin/cleanup", params=params, read_s=None)

    async def check(self) -> CheckReport:
        """Verify the whole store."""
        return await self._json(CheckReport, "POST", "/admin/check", read_s=None)

    async def reset(self) -> ResetReport:
        """Kill what runs, cancel what waits, replace the workers."""
        return await self._json(ResetReport, "POST", "/admin/reset", read_s=None)
