"""Attempts, for the runner: claimed before they start, recorded when they end."""

from __future__ import annotations

import asyncio
import random

from msgspec.structs import replace

from agentd.clock import rfc3339
from agentd.errors import (
    TaskNotFound,
)
from agentd.kinds.protocol import Outcome
from agentd.model.changes import reported
from agentd.model.consequences import unanswered
from agentd.model.events import (
    AttemptEnd,
    Event,
    TaskFinished,
    TaskRetried,
    TaskStarted,
)
from agentd.model.launch import Exit
from agentd.model.task import Retry, State, Task
from agentd.service.workflows import WorkflowVerbs
from agentd.store.collecting import collect
from agentd.store.handed import sync_handed
from agentd.store.ledger import Ledger

#: Of files that were not kept, so many are named.
SAID_MOST = 5


class Attempts(WorkflowVerbs):
    """Start and end attempts of tasks."""

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

    async def collected(self, task: Task, exit: Exit) -> Exit:
        """The exit of an attempt, after the files that it asked to keep were, and what it hands on is durable.

        What could not be is said in its message.
        """
        session_dir, most = self.store.path(task.session_id), self.settings.limits.artifact_bytes
        if task.workflow is not None:
            try:
                await self.in_thread(sync_handed, self.store.disk, session_dir, task.task_id, task.attempt)
            except OSError as error:
                lost = f"what it hands on may be lost: {error.strerror}"
                exit = replace(exit, message="; ".join(filter(None, [exit.message, lost])))
        if not task.artifacts:
            return exit
        found = await self.in_thread(collect, session_dir, task.task_id, task.artifacts, most)
        more = len(found.problems) - SAID_MOST
        said = [exit.message, *found.problems[:SAID_MOST], f"and {more} more" if more > 0 else ""]
        return replace(exit, message="; ".join(filter(None, said)))

    def end_attempt(self, ledger: Ledger, task_id: str, exit: Exit, outcome: Outcome) -> asyncio.Future[None]:
        """Stage the end of the running attempt: the task's end, or its next attempt.

        While nobody waits for it and others are live, it waits for the next start or submission to share its sync.
        """
        task = ledger.head(task_id)
        if task is None:
            raise TaskNotFound(f"no task {task_id!r}")
        end = AttemptEnd(
            cause=unanswered(task, outcome.cause),
            duration_s=exit.duration_s,
            pid=exit.pid,
            pid_started_at=exit.pid_started_at,
            usage=reported(exit.usage, task.attempts[-1].usage),
            output_bytes=exit.output_bytes,
        )
        at, lazily = self.now(), ledger.live > 1 and not self.awaited(task_id)
        if _retry_left(task, outcome):
            assert task.retry is not None
            pause = backoff_s(task.retry, task.attempt)
            again_at = rfc3339(self.clock.time() + pause) if pause > 0 else None
            return self.stage(
                ledger, [TaskRetried(at=at, task_id=task_id, end=end, next_attempt_at=again_at)], lazily=lazily
            )
        event: Event = TaskFinished(
            at=at, task_id=task_id, state=outcome.state, cause=end.cause, end=end, result=outcome.result
        )
        return self.stage(ledger, [event, *self.consequences(ledger, {task_id: outcome.state})], lazily=lazily)


def _retry_left(task: Task, outcome: Outcome) -> bool:
    if task.retry is None or task.stop_cause is not None or outcome.state is State.COMPLETED:
        return False
    return outcome.cause.code in task.retry.on and task.attempt <= task.retry.max


def backoff_s(retry: Retry, attempt: int, spread: float | None = None) -> float:
    """The pause after an attempt: exponential, bounded, spread by ± `jitter` so that retries do not march in step."""
    pause = min(retry.max_backoff_s, retry.backoff_s * retry.factor ** min(attempt - 1, 64))
    spread = random.uniform(-1, 1) if spread is None else spread  # noqa: S311 - spreads load, guards nothing
    return float(min(retry.max_backoff_s, pause * (1 + retry.jitter * spread)))
