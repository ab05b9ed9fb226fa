"""What drives runs of workflows: when a step has ended, what it handed on is recorded and what follows is submitted.

All that a pass decides goes into one write, and is decided from what is recorded. So a pass that a crash cut short is
made again by the next start, and no step starts twice: the task of a step and the run's knowledge of it are one record.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from msgspec.structs import replace

from agentd.errors import AgentdError, Invalid, SessionNotFound, SessionReadOnly, StorageFailed, TaskNotFound
from agentd.model.events import Event, TaskCreated, TaskFinished
from agentd.model.reading import prepared
from agentd.model.requests import AskedRetry
from agentd.model.run import Run, RunState, Standing, output_size
from agentd.model.run_changes import applied_to_run
from agentd.model.run_events import RunCancelRequested, RunCreated, RunEnded, RunResumed, RunStepEnded, RunStepRefused
from agentd.model.task import Task, WorkflowStep
from agentd.service.inputs import Inputs
from agentd.store.handed import read_handed
from agentd.store.ledger import Committed, Ledger
from agentd.workflows.definition import Workflow
from agentd.workflows.outputs import MAX_BYTES, Outputs, read_outputs
from agentd.workflows.planning import Plan, next_steps
from agentd.workflows.reading import read
from agentd.workflows.runs import state_of
from agentd.workflows.standing import InstanceState, States, standing_of

log = structlog.get_logger()

#: Seconds after which a run that could not go on is looked at again; after a fault of agentd's own, twice as many each
#: time, up to the latter.
RETRY_S, FAULT_MOST_S = 1.0, 60.0
#: Seconds that runs get at a stop to record what has ended.
CLOSE_S = 5.0
#: Characters that the steps of one run hand on, all together.
RUN_OUTPUT = 1 << 20
#: Characters of a reason.
REASON_MOST = 1000
#: Workflows that are kept as they were read.
READ_KEPT = 16

prepared(AskedRetry)  # threads read workflows


class _End(NamedTuple):
    """A step whose task has ended for good."""

    step: str
    task: Task | None
    outputs: Outputs


class RunDriver(Inputs):
    """Takes runs on, from each end of a step to the next starts."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.held: dict[str, str] = {}  #: runs of which a step could start and does not yet, and why
        self._bells: dict[str, asyncio.Event] = {}  #: of the runs that are being driven
        self._driving: set[asyncio.Task[None]] = set()
        self._closing = False
        self._read: OrderedDict[str, Workflow] = OrderedDict()
        for kind in self.kinds.values():
            prepared(kind.Spec)

    async def workflow_of(self, source: str) -> Workflow:
        """The workflow that the text describes.

        Raises:
            WorkflowInvalid: it describes none.
        """
        workflow = self._read.get(source)
        if workflow is None:
            workflow = self._read[source] = await self.in_thread(read, source, self.kinds)
            if len(self._read) > READ_KEPT:
                self._read.popitem(last=False)
        else:
            self._read.move_to_end(source)
        return workflow

    async def close_runs(self) -> None:
        """Let the passes that are under way end, and begin no other."""
        self._closing = True
        for bell in self._bells.values():
            bell.set()
        if self._driving:
            await asyncio.wait(self._driving, timeout=CLOSE_S)
        for task in self._driving:
            task.cancel()
        await asyncio.gather(*self._driving, return_exceptions=True)

    # ------------------------------------------------------------------ when

    def _committed(self, session_id: str, committed: Sequence[Committed]) -> None:
        super()._committed(session_id, committed)
        for each in committed:
            match each.event:
                case RunCreated(run_id=run_id) | RunResumed(run_id=run_id) | RunCancelRequested(run_id=run_id):
                    self._stir(session_id, run_id)
                case TaskFinished() if each.task is not None and each.task.workflow is not None:
                    self._stir(session_id, each.task.workflow.run_id)

    def take_up_runs(self, ledger: Ledger) -> None:
        """Go on with the runs that a start found."""
        for run in ledger.live_runs():
            self._stir(run.session_id, run.run_id)

    def _stir(self, session_id: str, run_id: str) -> None:
        if (bell := self._bells.get(run_id)) is not None:
            bell.set()
        elif not self._closing:
            bell = self._bells[run_id] = asyncio.Event()
            bell.set()
            task = asyncio.get_running_loop().create_task(self._drive(session_id, run_id, bell))
            self._driving.add(task)
            task.add_done_callback(self._driving.discard)

    async def _drive(self, session_id: str, run_id: str, bell: asyncio.Event) -> None:
        """Pass after pass, until there is nothing to do before something else of the run ends."""
        pause_s = RETRY_S
        try:
            while bell.is_set() or run_id in self.held:
                bell.clear()
                try:
                    held, pause_s = await self._passed(session_id, run_id), RETRY_S
                except Exception as error:  # our own fault: the run must not look as if it went on
                    log.exception("run.fault", session_id=session_id, run_id=run_id)
                    held = f"agentd is at fault, its log says more: {error!r}"[:REASON_MOST]
                    pause_s = min(2 * pause_s, FAULT_MOST_S)
                if held is None:
                    self.held.pop(run_id, None)
                    continue
                self.held[run_id] = held
                if self._closing:
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await bell.wait()
        finally:
            del self._bells[run_id]
            self.held.pop(run_id, None)

    # ------------------------------------------------------------------ one pass

    async def _passed(self, session_id: str, run_id: str) -> str | None:
        """Bring the run up to what has ended; why it must be looked at again later, if it must."""
        try:
            ledger = await self.store.ledger(session_id)
            with ledger.kept():
                return await self._pass(ledger, run_id)
        except SessionNotFound:
            return None
        except (SessionReadOnly, StorageFailed) as error:
            # One that was set aside is taken up again, and its runs with it.
            return error.detail if self.store.in_memory(session_id) is not None else None

    async def _pass(self, ledger: Ledger, run_id: str) -> str | None:
        run = ledger.head_run(run_id)
        if run is None or not run.live:
            return None
        try:
            workflow = await self.workflow_of(run.source)
        except Invalid as error:  # another version of agentd took it
            reason = f"it cannot be read any more: {error.detail}"
            reason = reason[:REASON_MOST]
            await self.stage(ledger, [RunEnded(at=self.now(), run_id=run_id, state=RunState.FAILED, reason=reason)])
            return None
        ends = [
            await self._end(ledger, workflow, name, step.tasks[-1])
            for name, step in run.steps.items()
            if step.standing is Standing.LIVE and _is_over(ledger, step.tasks[-1])
        ]
        run = ledger.head_run(run_id)  # what was asked meanwhile counts
        if run is None or not run.live:
            return None
        events, held = self._follows(ledger, run, workflow, ends)
        if events:
            await self.stage(ledger, events)
        return held

    async def _end(self, ledger: Ledger, workflow: Workflow, name: str, task_id: str) -> _End:
        """What a step has come to whose task is over."""
        task = ledger.tasks.get(task_id)
        if task is None:
            try:
                task = await self.find(task_id)
            except TaskNotFound:
                return _End(name, None, Outputs())
        instance = workflow.instances.get(name)
        declared = workflow.steps[instance.step_id].outputs if instance is not None else ()
        path, attempt = self.store.path(task.session_id), task.attempt
        if attempt == 0:
            return _End(name, task, Outputs())
        try:
            raw = await self.in_thread(read_handed, path, task_id, attempt, MAX_BYTES + 1)
        except OSError as error:
            return _End(name, task, Outputs(refused=(f"AGENTD_OUTPUT cannot be read: {error.strerror}",)))
        return _End(name, task, read_outputs(raw, declared))

    def _follows(
        self, ledger: Ledger, run: Run, workflow: Workflow, ends: Sequence[_End]
    ) -> tuple[list[Event], str | None]:
        """What is to be recorded, and why something that could start does not."""
        events: list[Event] = []

        def record(event: Event) -> None:
            nonlocal run
            events.append(event)
            run = applied_to_run(run, event, run.seq) or run

        for end in ends:
            if run.steps[end.step].standing is Standing.LIVE:  # else it runs again already
                record(self._recorded(run, end))
        cancelled = run.cancel_requested_at is not None
        while True:
            plan = next_steps(workflow, run.inputs, states_of(run), cancelled=cancelled)
            refusals = self._refusals(run, plan)
            if not refusals:
                break
            for refusal in refusals:
                record(refusal)
        starts, held = plan.starts, None
        if starts:
            room = self._room(ledger)
            if self.runner.draining:
                starts, held = (), "the daemon is stopping; it goes on at the next start"
            elif room < len(starts):
                starts = starts[: max(0, room)]
                held = "there are too many unfinished tasks (limits.live_tasks); it goes on when some have ended"
        for start in starts:
            task = replace(
                self._made(run.session_id, start.task, workflow.name, False),
                workflow=WorkflowStep(run_id=run.run_id, step=start.instance_id),
            )
            events.append(TaskCreated(at=task.created_at, task_id=task.task_id, task=task))
        if not plan.starts and all(step.standing is not Standing.LIVE for step in run.steps.values()):
            found = state_of(workflow, run.inputs, states_of(run), cancelled=cancelled, plan=plan)
            record(RunEnded(at=self.now(), run_id=run.run_id, state=found.state, where=found.where))
        return events, held

    def _recorded(self, run: Run, end: _End) -> Event:
        if end.task is None:
            reason = "the record of its task is gone; nobody knows how it ended"
            return RunStepRefused(at=self.now(), run_id=run.run_id, step=end.step, reason=reason)
        values, refused = end.outputs.values, end.outputs.refused
        if values and output_size(values) + sum(output_size(step.outputs) for step in run.steps.values()) > RUN_OUTPUT:
            values = {}
            words = f"the steps of this run hand on more than {RUN_OUTPUT >> 20} MiB; hand files on as artifacts"
            refused = (*refused, words)
        return RunStepEnded(
            at=self.now(),
            run_id=run.run_id,
            step=end.step,
            task_id=end.task.task_id,
            standing=standing_of(end.task),
            outputs=values,
            refused=refused,
        )

    def _refusals(self, run: Run, plan: Plan) -> list[RunStepRefused]:
        """What is to start and its kind does not take, now that its expressions have values."""
        found = []
        for start in plan.starts:
            try:
                self._check(start.task)
            except AgentdError as error:
                found.append(
                    RunStepRefused(at=self.now(), run_id=run.run_id, step=start.instance_id, reason=error.detail)
                )
        return found

    def _room(self, ledger: Ledger) -> int:
        """How many tasks more there may be."""
        limits = self.settings.limits
        return min(limits.live_tasks - self.store.live, limits.live_tasks_per_session - ledger.live)


def _is_over(ledger: Ledger, task_id: str) -> bool:
    """Whether the task has ended durably; of those that have left memory, all have."""
    task = ledger.tasks.get(task_id)
    return task.terminal if task is not None else ledger.head(task_id) is None


def states_of(run: Run) -> States:
    """Where the instances of a run stand, as planning asks it."""
    return {
        name: InstanceState(standing=step.standing, outputs=step.outputs)
        for name, step in run.steps.items()
        if step.standing is not None
    }
