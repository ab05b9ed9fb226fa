"""Ending live tasks: some of a session, or all."""

from __future__ import annotations

from collections.abc import Mapping

from agentd.model.events import TaskEvent, TaskFinished, TaskStopRequested
from agentd.model.run_events import RunCancelRequested
from agentd.model.task import Cause, State, Task
from agentd.service.hand_edits import HandEdits
from agentd.store.ledger import Ledger


class Stopping(HandEdits):
    """End what is live."""

    async def stop_all(self, ledger: Ledger, cause: Cause) -> tuple[Task, ...]:
        """End every live task and run of a session for one cause; running ones are asked to stop.

        Raises:
            SessionReadOnly, StorageFailed
        """
        runs = [run.run_id for run in ledger.live_runs() if run.cancel_requested_at is None]
        if runs:  # or they would go on with what follows; durable with what comes next
            self.stage(ledger, [RunCancelRequested(at=self.now(), run_id=run_id) for run_id in runs])
        return await self.stop_tasks(ledger, {task.task_id: cause for task in ledger.heads() if not task.terminal})

    async def stop_tasks(self, ledger: Ledger, causes: Mapping[str, Cause]) -> tuple[Task, ...]:
        """End live tasks of a session, each for its cause; running ones are asked to stop, if they were not yet.

        What others submitted goes first: a crash may keep the beginning alone, and one that ended cannot be cancelled
        again to reach what it left behind.

        Raises:
            SessionReadOnly, StorageFailed
        """
        at = self.now()
        events: list[TaskEvent] = []
        ended: dict[str, State] = {}
        heads = [task for task_id in causes if (task := ledger.head(task_id)) is not None and not task.terminal]
        for task in sorted(heads, key=lambda task: -task.depth):
            task_id, cause = task.task_id, causes[task.task_id]
            if task.state is not State.RUNNING:
                events.append(TaskFinished(at=at, task_id=task_id, state=State.CANCELLED, cause=cause))
                ended[task_id] = State.CANCELLED
            elif task.stop_cause is None:
                events.append(TaskStopRequested(at=at, task_id=task_id, cause=cause))
        if events:
            # Consequences: what was submitted to wait for one of these, and is not durable yet.
            await self.stage(ledger, [*events, *self.consequences(ledger, ended)])
        else:
            await ledger.settled()  # what others ended or stopped may be on its way to the disk
        stopped = tuple(task for each in events if (task := ledger.tasks.get(each.task_id)) is not None)
        for task in stopped:
            if task.state is State.RUNNING:
                self.runner.stop(task)
        return stopped
