"""The verbs of workflows: run, look, cancel, resume."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from msgspec.structs import asdict, replace

from agentd.errors import (
    InvalidTransition,
    QueueFull,
    RunNotFound,
    SessionReadOnly,
    WorkflowInvalid,
)
from agentd.model.ids import new_run_id
from agentd.model.requests import Created, Key, Page
from agentd.model.run import Run, RunStep, Standing
from agentd.model.run_changes import created_run
from agentd.model.run_events import RunCancelRequested, RunCreated, RunResumed
from agentd.model.run_views import InputView, NewRun, RunQuery, RunView, StepState, StepView, WorkflowOutline
from agentd.model.task import Cause, CauseCode, State
from agentd.service.listing import paged
from agentd.service.run_driver import RunDriver, states_of
from agentd.store.ledger import Ledger
from agentd.workflows.definition import Instance, Workflow
from agentd.workflows.planning import Plan, next_steps
from agentd.workflows.reading import accepted_inputs
from agentd.workflows.runs import resumed, state_of
from agentd.workflows.standing import standing_of

#: Runs of one session that have not ended, at most.
LIVE_RUNS = 100


class WorkflowVerbs(RunDriver):
    """Validate, run, show, list, cancel, resume."""

    async def validate(self, source: str) -> WorkflowOutline:
        """What the text describes; nothing starts.

        Raises:
            WorkflowInvalid: with every problem, and where it is.
        """
        workflow = await self.workflow_of(source)
        return WorkflowOutline(
            name=workflow.name,
            description=workflow.description,
            inputs=tuple(InputView(**asdict(each)) for each in workflow.inputs.values()),
            steps=tuple(_planned(workflow, each, RunStep(), StepState.WAITING) for each in workflow.instances.values()),
        )

    async def run_workflow(self, session_id: str, new: NewRun, key: Key | None, by: str) -> Created[RunView]:
        """Accept a run in a session that exists; durable when this returns, and its first steps start.

        Raises:
            SessionNotFound, SessionReadOnly, IdempotencyConflict, QueueFull, Draining, StorageFailed
            WorkflowInvalid: nothing can be run of the source.
            Invalid: an input is missing, unknown or of another type.
        """
        ledger = await self.store.ledger(session_id)
        with ledger.kept():
            if (first := await self._first_run(ledger, key)) is not None:
                return Created(value=await self._view(ledger, first), replayed=True)
            self.refuse_when_draining()
            workflow = await self.workflow_of(new.source)
            inputs = accepted_inputs(workflow, new.inputs)
            if (first := await self._first_run(ledger, key)) is not None:  # one that came meanwhile
                return Created(value=await self._view(ledger, first), replayed=True)
            _refuse_when_full(ledger)
            at = self.now()
            run = Run(
                run_id=new_run_id(session_id),
                session_id=session_id,
                name=workflow.name,
                source=new.source,
                inputs=inputs,
                by=by,
                created_at=at,
            )
            event = RunCreated(at=at, run_id=run.run_id, run=run)
            if key is not None:
                event = replace(event, key_hash=key.key_hash, body_hash=key.body_hash)
            run = replace(run, seq=ledger.head_seq + 1)
            await self.stage(ledger, [event])
            return Created(value=await self._view(ledger, run))

    async def _first_run(self, ledger: Ledger, key: Key | None) -> Run | None:
        record = self.keys.first_use(ledger, key, "run_id")
        if record is None or record.run_id is None:
            return None
        await ledger.settled()
        run = ledger.runs.get(record.run_id)
        if run is None:
            raise RunNotFound("the run that this Idempotency-Key made is not kept any more; use a new key")
        return created_run(run, record.seq)

    # ------------------------------------------------------------------ look

    async def workflow_runs(self, session_id: str, query: RunQuery) -> Page[RunView]:
        """A page of the session's runs, the newest first, without their steps.

        Raises:
            SessionNotFound: no such session.
            Malformed: a bad cursor.
        """
        ledger = await self._ledger(session_id)
        runs = (ledger.runs if ledger is not None else self.store.entry(session_id).runs).values()
        page = paged(
            [run for run in runs if not query.state or run.state in query.state],
            attrgetter("created_at", "run_id"),
            of=f"runs of {session_id}",
            limit=query.limit,
            cursor=query.cursor,
            descending=True,
        )
        return Page(data=tuple(self._headline(run) for run in page.data), next=page.next)

    async def workflow_run(self, run_id: str, session_id: str | None = None) -> RunView:
        """One run with its steps; with `session_id`, of that session.

        Raises:
            SessionNotFound, RunNotFound
        """
        for each in self.store.sessions_of(run_id) if session_id is None else (session_id,):
            ledger = await self._ledger(each)
            run = (ledger.runs if ledger is not None else self.store.entry(each).runs).get(run_id)
            if run is not None:
                return await self._view(ledger, run)
        raise _unknown(run_id)

    async def _ledger(self, session_id: str) -> Ledger | None:
        """None: the session is damaged, and shown as far as it was read."""
        try:
            return await self.store.ledger(session_id)
        except SessionReadOnly:
            return None

    async def _view(self, ledger: Ledger | None, run: Run) -> RunView:
        try:
            workflow = await self.workflow_of(run.source)
        except WorkflowInvalid:  # of another version; what was recorded is true all the same
            steps = tuple(_recorded(name, step, _state_of(step, ledger)) for name, step in run.steps.items())
            return replace(self._headline(run), steps=steps, source=run.source)
        states, cancelled = states_of(run), run.cancel_requested_at is not None
        plan = next_steps(workflow, run.inputs, states, cancelled=cancelled)
        where = run.where
        if run.live:
            where = state_of(workflow, run.inputs, states, cancelled=cancelled, plan=plan).where
        steps = tuple(_steps(workflow, run, plan, ledger))
        return replace(self._headline(run), where=where, steps=steps, source=run.source)

    def _headline(self, run: Run) -> RunView:
        held = None
        if run.live:
            why = self.store.entry(run.session_id).reason  # it is damaged
            held = why or self.held.get(run.run_id) or self.runner.held(run.session_id)
        return RunView(
            run_id=run.run_id,
            session_id=run.session_id,
            name=run.name,
            state=run.state,
            where=run.where,
            reason=run.reason,
            held=held,
            inputs=run.inputs,
            by=run.by,
            created_at=run.created_at,
            ended_at=run.ended_at,
            cancel_requested_at=run.cancel_requested_at,
            resumed=run.resumed,
            seq=run.seq,
        )

    # ------------------------------------------------------------------ change

    async def cancel_run(self, session_id: str, run_id: str) -> RunView:
        """Ask a run to end: its live tasks are cancelled, and nothing more starts but what runs always().

        Raises:
            SessionNotFound, RunNotFound, SessionReadOnly, StorageFailed
            InvalidTransition: it has ended.
        """
        ledger = await self.store.ledger(session_id)
        with ledger.kept():
            run = ledger.head_run(run_id)
            if run is None:
                raise _unknown(run_id)
            if not run.live:
                await ledger.settled()
                raise InvalidTransition(f"run {run_id} is {run.state}; there is nothing to cancel")
            cause = Cause(code=CauseCode.CANCELLED_BY_USER, message=f"its workflow run {run_id} was cancelled")
            self.stage(ledger, [RunCancelRequested(at=self.now(), run_id=run_id)])  # durable with what follows
            theirs = {step.tasks[-1] for step in run.steps.values() if step.tasks}
            for task in ledger.heads():  # in the order of their creation
                if task.parent_id in theirs:
                    theirs.add(task.task_id)
            await self.stop_tasks(ledger, dict.fromkeys(theirs, cause))
            return await self._view(ledger, ledger.runs.get(run_id, run))

    async def resume_run(self, session_id: str, run_id: str) -> RunView:
        """Go on with a run that has ended: what failed, was interrupted, cancelled or held back by it runs again.

        Raises:
            SessionNotFound, RunNotFound, SessionReadOnly, Draining, QueueFull, StorageFailed
            InvalidTransition: it has not ended, or nothing of it is to run again.
            WorkflowInvalid: it cannot be read any more.
        """
        ledger = await self.store.ledger(session_id)
        with ledger.kept():
            run = ledger.head_run(run_id)
            if run is None:
                raise _unknown(run_id)
            self.refuse_when_draining()
            workflow = await self.workflow_of(run.source)
            run = ledger.head_run(run_id)  # it may have been resumed meanwhile
            if run is None:
                raise _unknown(run_id)
            if run.live:
                raise InvalidTransition(f"run {run_id} is running; wait for its end, or cancel it first")
            _refuse_when_full(ledger)
            cancelled = run.cancel_requested_at is not None
            again = resumed(workflow, run.inputs, states_of(run), cancelled=cancelled)
            if not again:
                raise InvalidTransition(f"run {run_id} is {run.state}, and nothing of it is to run again")
            await self.stage(ledger, [RunResumed(at=self.now(), run_id=run_id, again=again)])
            return await self._view(ledger, ledger.runs.get(run_id, run))


def _refuse_when_full(ledger: Ledger) -> None:
    if len(ledger.live_runs()) >= LIVE_RUNS:
        raise QueueFull(f"the session has {LIVE_RUNS} runs that have not ended; wait for some, or cancel them")


def _unknown(run_id: str) -> RunNotFound:
    return RunNotFound(f"no run {run_id!r} of a workflow; `agentd workflow show SESSION` shows those there are")


def _recorded(name: str, step: RunStep, shown: StepState) -> StepView:
    """What is recorded of a step; all there is where the workflow cannot be read any more."""
    return StepView(
        id=name,
        step=name,
        state=shown,
        task_id=step.tasks[-1] if step.tasks else None,
        tasks=step.tasks,
        outputs=step.outputs,
        refused=step.refused,
        reason=step.reason,
    )


def _planned(workflow: Workflow, instance: Instance, step: RunStep, shown: StepState) -> StepView:
    """The same, with what is written of it."""
    written = workflow.steps[instance.step_id]
    return replace(
        _recorded(instance.instance_id, step, shown),
        step=written.id,
        kind=written.kind,
        needs=written.needs,
        matrix=instance.matrix,
        line=written.line,
        continue_on_error=written.continue_on_error,
    )


def _steps(workflow: Workflow, run: Run, plan: Plan, ledger: Ledger | None) -> Iterator[StepView]:
    skips = {skip.instance_id: skip.reason for skip in plan.skips}
    for name, instance in workflow.instances.items():
        step = run.steps.get(name, RunStep())
        if name in skips:
            yield replace(_planned(workflow, instance, step, StepState.SKIPPED), reason=skips[name])
        else:
            yield _planned(workflow, instance, step, _state_of(step, ledger))


def _state_of(step: RunStep, ledger: Ledger | None) -> StepState:
    if step.standing is None:
        return StepState.WAITING
    if step.standing is not Standing.LIVE:
        return StepState(step.standing.value)
    task = ledger.tasks.get(step.tasks[-1]) if ledger is not None else None
    if task is not None and task.terminal:  # its end is not recorded yet
        return StepState(standing_of(task).value)
    return StepState.RUNNING if task is not None and task.state is State.RUNNING else StepState.QUEUED
