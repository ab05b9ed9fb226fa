"""What a run does next: pure, of the workflow, the inputs and where the instances stand.

Asked again with the same states, it answers the same. Nobody has to record what is skipped: it follows from the states,
every time. Every call looks at all steps, in their order; 1000 instances take some ten milliseconds.
"""

from __future__ import annotations

from typing import Any

import msgspec

from agentd.model.requests import AskedTrigger, NewTask
from agentd.model.task import TriggerType, Value
from agentd.workflows.definition import Instance, ScalarValue, Step, Workflow
from agentd.workflows.evaluation import Before, Names, evaluate, truth
from agentd.workflows.expressions import STATUS_FUNCTIONS, Call, Expression, parts_of
from agentd.workflows.standing import InstanceState, Standing, States, step_passes, step_standing
from agentd.workflows.templates import Rendering, Template

ENDED_WITHOUT_SUCCESS = (Standing.FAILED, Standing.INTERRUPTED)
RUN_CANCELLED = "the run was cancelled"


class Start(Value, frozen=True, kw_only=True):
    """An instance that starts now, and the task that it is."""

    instance_id: str
    step_id: str
    task: NewTask


class Skip(Value, frozen=True, kw_only=True):
    """An instance that does not run, and why."""

    instance_id: str
    step_id: str
    reason: str


class Plan(Value, frozen=True, kw_only=True):
    """What starts now; and all that is skipped, also what was before."""

    starts: tuple[Start, ...] = ()
    skips: tuple[Skip, ...] = ()


def next_steps(workflow: Workflow, inputs: dict[str, ScalarValue], states: States, *, cancelled: bool = False) -> Plan:
    """What starts now and what is skipped.

    Args:
        inputs: as `accepted_inputs` gave them.
        states: of every instance that has a task, that of its latest one.
        cancelled: the run was asked to end: only steps whose `if` has always() or cancelled() still start.
    """
    plan = _Planning(workflow, inputs, states, cancelled)
    for step_id in workflow.order:
        plan.consider(workflow.steps[step_id])
    return Plan(starts=tuple(plan.starts), skips=tuple(plan.skips))


class _Planning:
    def __init__(self, workflow: Workflow, inputs: dict[str, ScalarValue], states: States, cancelled: bool) -> None:
        self.starts: list[Start] = []
        self.skips: list[Skip] = []
        self._workflow = workflow
        self._inputs = inputs
        self._states = states
        self._cancelled = cancelled
        self._standings: dict[str, Standing | None] = {}  #: of the steps before
        self._passed: set[str] = set()  #: steps
        self._failed_above: set[str] = set()  #: steps that failed, or of which something that they need did
        self._cancelled_above: set[str] = set()
        self._outputs: dict[str, dict[str, str]] = {}
        self._shown: dict[str, str] = {}  #: standings, as expressions have them
        env = Rendering(Names(inputs=inputs))
        self._env = {name: env.text(value) for name, value in workflow.env.items()}

    def consider(self, step: Step) -> None:
        """Plans one step; all that it needs came before."""
        needs = [self._standings[need] for need in step.needs]
        ready = None not in needs and Standing.LIVE not in needs
        standings: list[Standing | None] = []
        outputs: dict[str, str] = {}
        for each in step.instances:
            state = self._states.get(each.instance_id)
            if state is None and ready:
                state = self._decide(step, each)
            standings.append(state.standing if state else None)
            outputs.update(state.outputs if state else {})
        self._standings[step.id] = standing = step_standing(standings)
        self._outputs[step.id] = outputs
        passed = step_passes(step, standings)
        if passed:
            self._passed.add(step.id)
        if standing is not None:
            self._shown[step.id] = standing.value
        failed = not passed and standing in ENDED_WITHOUT_SUCCESS
        if failed or not self._failed_above.isdisjoint(step.needs):
            self._failed_above.add(step.id)
        if Standing.CANCELLED in standings or not self._cancelled_above.isdisjoint(step.needs):
            self._cancelled_above.add(step.id)

    def _decide(self, step: Step, instance: Instance) -> InstanceState:
        """Starts or skips an instance whose needs have ended."""
        names = self._names(step, instance)
        reason = self._reason_to_skip(step, names)
        if reason is not None:
            self.skips.append(Skip(instance_id=instance.instance_id, step_id=step.id, reason=reason))
            return InstanceState(standing=Standing.SKIPPED)
        task = task_of(self._workflow, step, instance, names)
        self.starts.append(Start(instance_id=instance.instance_id, step_id=step.id, task=task))
        return InstanceState(standing=Standing.LIVE)

    def _names(self, step: Step, instance: Instance) -> Names:
        names = Names(
            inputs=self._inputs,
            matrix=instance.matrix,
            env=self._env,
            outputs=self._outputs,
            states=self._shown,
            before=Before(
                success=not self._cancelled and self._passed.issuperset(step.needs),
                failure=not self._cancelled and not self._failed_above.isdisjoint(step.needs),
                cancelled=self._cancelled or not self._cancelled_above.isdisjoint(step.needs),
            ),
        )
        env = Rendering(names)
        own = {name: env.text(value) for name, value in step.env.items()}
        return msgspec.structs.replace(names, env={**self._env, **own}) if own else names

    def _reason_to_skip(self, step: Step, names: Names) -> str | None:
        condition = step.condition.expressions[0] if step.condition is not None else None
        asks = _asks_of_status(condition)
        if self._cancelled and not asks & {"always", "cancelled"}:
            return RUN_CANCELLED
        if not asks and not names.before.success:
            need = next(need for need in step.needs if need not in self._passed)
            return f"step {need}, which it needs, {_ENDED.get(self._standings[need], 'did not complete')}"
        if condition is not None and not truth(evaluate(condition, names)):
            return "its if is false"
        return None


_ENDED: dict[Standing | None, str] = {
    Standing.FAILED: "failed",
    Standing.INTERRUPTED: "was interrupted",
    Standing.CANCELLED: "was cancelled",
    Standing.SKIPPED: "was skipped",
}


def _asks_of_status(condition: Expression | None) -> set[str]:
    called = {each.name for each in parts_of(condition) if isinstance(each, Call)} if condition is not None else set()
    return called & STATUS_FUNCTIONS


def task_of(workflow: Workflow, step: Step, instance: Instance, names: Names) -> NewTask:
    """The task that an instance is; whether its kind takes the spec is seen when it is submitted."""
    rendering = Rendering(names)
    spec: dict[str, Any] = rendering.value(step.spec)
    if step.takes_env and names.env:
        own = spec.get("env")
        spec["env"] = {**names.env, **own} if isinstance(own, dict) else names.env if own is None else own
    return NewTask(
        kind=step.kind,
        spec=spec,
        name=_name(step, instance, rendering),
        timeout_s=step.timeout_s,
        retry=step.retry,
        trigger=AskedTrigger(type=TriggerType.WORKFLOW, source=workflow.name),
    )


MAX_NAME = 200  #: of a task, in characters


def _name(step: Step, instance: Instance, rendering: Rendering) -> str:
    if step.name is None:
        return instance.instance_id
    name = rendering.text(step.name).strip()
    if instance.matrix and not isinstance(step.name, Template):
        name += instance.instance_id.removeprefix(step.id)
    return name[:MAX_NAME] or instance.instance_id
