"""What the service asks of whoever runs the tasks; the scheduler is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from agentd.model.launch import Capacity
from agentd.model.requests import QueueView, Scale, Window, WorkerView
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.ledger import Ledger


class Runner(Protocol):
    """Who runs the tasks: told of every change on the head, asked about workers and the queue."""

    draining: bool

    def changed(self, tasks: Sequence[Task], session: Session) -> None:
        """These tasks of the session are new on the head, or in another state, all at the same moment.

        Those that go on waiting although something they need has just ended are told of again.
        """

    def session_changed(self, session: Session) -> None:
        """The session has another policy on the head."""

    def stop(self, task: Task) -> None:
        """The running task's recorded intent to stop is durable: end its processes."""

    def rolled_back(self, ledger: Ledger) -> None:
        """What was staged fell away, or could not be staged; the ledger's durable tasks are the truth again."""

    def forget(self, session_id: str) -> None:
        """The session is gone."""

    def capacity(self) -> Capacity:
        """What the engine can run."""

    def queue(self, window: Window) -> QueueView:
        """What is queued or waiting, and why."""

    def held(self, session_id: str) -> str | None:
        """Why nothing more of the session starts, if that is so."""

    def workers(self) -> Sequence[WorkerView]:
        """Every worker."""

    async def restart_worker(self, worker_id: str) -> WorkerView:
        """Replace a worker."""

    def scale(self, scale: Scale) -> Capacity:
        """Change the pool's bounds."""
