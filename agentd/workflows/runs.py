"""A run as a whole: where it stands, and what runs again when it is resumed. Pure, as planning is."""

from __future__ import annotations

from agentd.workflows.definition import ScalarValue, Workflow
from agentd.workflows.planning import RUN_CANCELLED, Plan, next_steps
from agentd.workflows.standing import RunStanding, RunState, Standing, States, passes


def state_of(
    workflow: Workflow,
    inputs: dict[str, ScalarValue],
    states: States,
    *,
    cancelled: bool = False,
    plan: Plan | None = None,
) -> RunStanding:
    """Where the run stands. A run in which nothing is live and nothing can start has ended.

    `plan`: what `next_steps` says of it, from who knows that already.
    """
    plan = plan or next_steps(workflow, inputs, states, cancelled=cancelled)
    of = {each: state.standing for each, state in states.items()}
    live = tuple(each for each in workflow.instances if of.get(each) is Standing.LIVE)
    if live or plan.starts:
        return RunStanding(state=RunState.RUNNING, where=live + tuple(start.instance_id for start in plan.starts))
    stopped: dict[Standing, list[str]] = {}
    for step in workflow.steps.values():
        for each in step.instances:
            standing = of.get(each.instance_id)
            if standing is not None and standing is not Standing.SKIPPED and not passes(step, standing):
                stopped.setdefault(standing, []).append(each.instance_id)
    there = {each for ids in stopped.values() for each in ids}
    where = tuple(each for each in workflow.instances if each in there)
    held_back = tuple(skip.instance_id for skip in plan.skips if skip.reason == RUN_CANCELLED)
    if cancelled and (stopped or held_back):
        return RunStanding(state=RunState.CANCELLED, where=where or held_back)
    for standing in (Standing.FAILED, Standing.INTERRUPTED, Standing.CANCELLED):
        if standing in stopped:
            return RunStanding(state=RunState(standing.value), where=where)
    return RunStanding(state=RunState.COMPLETED)


def resumed(
    workflow: Workflow, inputs: dict[str, ScalarValue], states: States, *, cancelled: bool = False
) -> tuple[str, ...]:
    """The instances that run again when the run is resumed, in order; their states are forgotten by whoever resumes.

    Those that failed, were interrupted or cancelled, and what was skipped because of them or of the cancelled run.
    What completed is kept, and so is what failed with `continue_on_error`: the run went on from it.
    """
    plan = next_steps(workflow, inputs, states, cancelled=cancelled)
    skips = {skip.instance_id: skip for skip in plan.skips}
    again: set[str] = set()
    touched: set[str] = set()  #: steps of which an instance runs again
    for step_id in workflow.order:
        step = workflow.steps[step_id]
        because = any(need in touched for need in step.needs)
        for each in step.instances:
            skip = skips.get(each.instance_id)
            state = states.get(each.instance_id)
            if skip is not None or (state is not None and state.standing is Standing.SKIPPED):
                runs = because or (skip is not None and skip.reason == RUN_CANCELLED)
            else:
                runs = state is not None and state.standing is not Standing.LIVE and not passes(step, state.standing)
            if runs:
                again.add(each.instance_id)
                touched.add(step_id)
    return tuple(each for each in workflow.instances if each in again)
