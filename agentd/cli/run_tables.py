"""Runs of workflows as tables."""

from __future__ import annotations

from agentd.cli.invocation import Invocation
from agentd.cli.printing import Column, Look, Printer, facts, write_line
from agentd.model.run_views import RunView, StepView

RUNS = (
    Column[RunView]("RUN", lambda run, look: run.run_id),
    Column[RunView]("STATE", lambda run, look: run.state.value, state=True),
    Column[RunView]("CREATED", lambda run, look: look.when(run.created_at)),
    Column[RunView]("ENDED", lambda run, look: look.when(run.ended_at)),
    Column[RunView]("WHERE", lambda run, look: ", ".join(run.where)),
    Column[RunView]("NAME", lambda run, look: run.name),
)

STEPS = (
    Column[StepView]("STEP", lambda step, look: step.id),
    Column[StepView]("STATE", lambda step, look: step.state.value, state=True),
    Column[StepView]("TASK", lambda step, look: step.task_id or ""),
    Column[StepView]("NEEDS", lambda step, look: ",".join(step.needs)),
    Column[StepView]("SAYS", lambda step, look: _says(step)),
)


def _says(step: StepView) -> str:
    return "; ".join(
        [*filter(None, [step.reason]), *(f"{k}={v}" for k, v in step.outputs.items()), *step.refused]
    ).replace("\n", " ")


def say(at: Invocation, run: RunView, *, name_only: bool = False) -> None:
    """Write a run, or its id alone unless JSON was asked for."""
    if name_only and at.output in ("table", "name"):
        write_line(run.run_id)
    else:
        at.printer.one(run, run.run_id, _run_facts)


def _run_facts(run: RunView, look: Look) -> None:
    facts(
        [
            ("run", run.run_id),
            ("session", run.session_id),
            ("name", run.name),
            ("state", run.state + (" (stopping)" if run.cancel_requested_at and run.ended_at is None else "")),
            ("where", ", ".join(run.where)),
            ("reason", run.reason or ""),
            ("held back", run.held or ""),
            ("inputs", ", ".join(f"{name}={value}" for name, value in run.inputs.items())),
            ("by", run.by or ""),
            ("created", look.when_long(run.created_at)),
            ("ended", look.when_long(run.ended_at)),
            ("resumed", ", ".join(f"{look.when(each.at)} ({each.state})" for each in run.resumed)),
        ],
        look,
    )
    if isinstance(run.steps, tuple) and run.steps:
        write_line("")
        Printer("table", headers=True).table(run.steps, STEPS, look)
