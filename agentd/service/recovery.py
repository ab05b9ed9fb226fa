"""After a crash: what ran is ended durably, what waits is taken up, and what cannot be written yet is when it can."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog

from agentd.errors import SessionNotFound, SessionReadOnly, StorageFailed, Unavailable
from agentd.model.changes import applied_to_task
from agentd.model.consequences import interrupted, open_needs
from agentd.model.events import AgentRecovered, TaskEvent, TaskFinished, TaskQueued, TaskRetried
from agentd.model.task import CauseCode, State, Task
from agentd.service.attempts import Attempts
from agentd.store.catalogue import Found
from agentd.store.ledger import Ledger

log = structlog.get_logger()

#: Seconds between attempts to take up what was set aside at the start.
MEND_S = 2.0


class Recovery(Attempts):
    """What a start does about the end of the boot before."""

    def running_at_start(self, found: Found) -> list[Task]:
        """Tasks that the last boot left running, those of sessions that cannot be written too."""
        tasks = [self._resident(session_id).tasks for session_id in found.live]
        tasks += [self.store.entry(session_id).tasks for session_id, _ in (*found.damaged, *found.aside)]
        return [task for each in tasks for task in each.values() if task.state is State.RUNNING]

    async def recover(self, found: Found, *, killed: int, began: float) -> AgentRecovered:
        """End, durably, what a dead daemon left running, and take up what waits.

        The processes of the dead are gone before this is called. Safe to run again after a crash inside it.
        `began` is the monotonic time at which the start began.
        """
        changes: list[TaskEvent] = []
        commits: dict[str, asyncio.Future[None]] = {}
        for session_id in found.live:
            ledger = self._resident(session_id)
            if events := self._recovery(ledger):
                changes += events
                commits[session_id] = self.stage(ledger, events)
        results = await asyncio.gather(*commits.values(), return_exceptions=True)
        refused = {each: error for each, error in zip(commits, results, strict=True) if error is not None}
        for session_id, error in refused.items():
            if not isinstance(error, (StorageFailed, SessionReadOnly)):
                raise error
            await self.store.set_aside(session_id, error.detail)
            self.runner.forget(session_id)
            found.aside.append((session_id, error.detail))
        for session_id, _ in (*found.damaged, *found.aside):
            self._suppose(session_id)
        for session_id in found.live:
            if session_id not in refused:
                self._take_note(self._resident(session_id))
        ended = [event for event in changes if isinstance(event, TaskFinished)]
        was_interrupted = [event for event in ended if event.cause.code is CauseCode.INTERRUPTED]
        cancelled = [event for event in ended if event.state is State.CANCELLED]
        requeued = [event for event in changes if isinstance(event, TaskRetried)]
        self.recovered.update(
            interrupted=len(was_interrupted), cancelled=len(cancelled), requeued=len(requeued), killed=killed
        )
        report = AgentRecovered(
            at=self.now(),
            boot_id=self.boot_id,
            clean=not (ended or requeued or killed or found.unclean),
            sessions=found.sessions,
            interrupted=len(was_interrupted),
            requeued=len(requeued),
            cancelled=len(cancelled),
            torn=found.torn,
            damaged=len(found.damaged),
            killed=killed,
            took_s=round(self.clock.monotonic() - began, 6),
        )
        self.announce(report)
        return report

    def _suppose(self, session_id: str) -> None:
        """Show what ran in a session that cannot be written as what it is: over."""
        entry, at = self.store.entry(session_id), self.now()
        left = [task for task in entry.tasks.values() if task.state is State.RUNNING]
        ends = ((task, interrupted(task, at=at, boot_id=self.boot_id)) for task in left)
        entry.suppose({task.task_id: applied_to_task(task, end, task.seq) for task, end in ends})

    async def mend(self, session_ids: Iterable[str]) -> None:
        """Take up sessions that were set aside, each as soon as that can be; returns when there are none."""
        todo = list(session_ids)
        while todo:
            await asyncio.sleep(MEND_S)
            todo = [session_id for session_id in todo if not await self._mended(session_id)]

    async def _mended(self, session_id: str) -> bool:
        """Whether there is nothing more to be done for it."""
        try:
            ledger = await self.store.take_up(session_id, self._put_right)
        except (StorageFailed, Unavailable):
            return False
        except (SessionReadOnly, SessionNotFound):
            return True  # damaged, or deleted meanwhile
        self._take_note(ledger)
        if ledger.edited:
            await self.metadata_touched(session_id)
        log.info("session.taken_up", session_id=session_id)
        return True

    async def _put_right(self, ledger: Ledger) -> None:
        """Record what a start could not.

        Raises:
            StorageFailed: not yet.
        """
        if events := self._recovery(ledger):
            await ledger.stage(events)

    def _take_note(self, ledger: Ledger) -> None:
        """From now on its tasks and its workflows are run."""
        for task in ledger.tasks.values():
            self._index_needs(task)
        self.runner.changed([task for task in ledger.tasks.values() if not task.terminal], ledger.session)
        self.take_up_runs(ledger)

    def _recovery(self, ledger: Ledger) -> list[TaskEvent]:
        at = self.now()
        for task in ledger.tasks.values():
            self._index_needs(task)
        events: list[TaskEvent] = [
            interrupted(task, at=at, boot_id=self.boot_id)
            for task in ledger.tasks.values()
            if task.state is State.RUNNING
        ]
        # A crash may have cut a batch between an end and what followed from it: ask again for every ended task.
        ended = {task.task_id: task.state for task in ledger.tasks.values() if task.terminal}
        ended |= {event.task_id: event.state for event in events if isinstance(event, TaskFinished)}
        events += self.consequences(ledger, ended)
        settled = {event.task_id for event in events}
        now = self.clock.time()
        # What was due, or had all it needs, while nobody was there to see it.
        ripe = [
            task.task_id
            for task in ledger.tasks.values()
            if task.state is State.WAITING
            and task.task_id not in settled
            and self.due(task) <= now
            and not open_needs(task, ledger.head)
        ]
        return events + [TaskQueued(at=at, task_id=task_id) for task_id in ripe]

    def _resident(self, session_id: str) -> Ledger:
        ledger = self.store.entry(session_id).ledger
        assert ledger is not None, "sessions with live tasks stay in memory"
        return ledger
