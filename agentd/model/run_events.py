"""What happened to runs of workflows; `run_changes.py` says what each makes of one."""

from __future__ import annotations

from agentd.model.event import Event
from agentd.model.run import Run, RunState, Standing


class RunEvent(Event, frozen=True, kw_only=True):
    """A change of one run of a workflow."""

    run_id: str


class RunCreated(RunEvent, tag="run.created", frozen=True, kw_only=True):
    """A run was accepted. The hashes stand for the Idempotency-Key and body of the request, if it had a key."""

    run: Run
    key_hash: str | None = None
    body_hash: str | None = None


class RunStepEnded(RunEvent, tag="run.step_ended", frozen=True, kw_only=True):
    """The task of a step has ended, and what it handed on was read."""

    step: str
    task_id: str
    standing: Standing
    outputs: dict[str, str] = {}
    refused: tuple[str, ...] = ()


class RunStepRefused(RunEvent, tag="run.step_refused", frozen=True, kw_only=True):
    """A step came to something that its kind does not take: it failed without a task."""

    step: str
    reason: str


class RunCancelRequested(RunEvent, tag="run.cancel_requested", frozen=True, kw_only=True):
    """The run was asked to end: nothing more starts but what runs always()."""


class RunResumed(RunEvent, tag="run.resumed", frozen=True, kw_only=True):
    """An ended run goes on; these steps run again."""

    again: tuple[str, ...]


class RunEnded(RunEvent, tag="run.ended", frozen=True, kw_only=True):
    """Nothing of the run is live and nothing more can start; `where` are the steps because of which it ended so."""

    state: RunState
    where: tuple[str, ...] = ()
    reason: str | None = None
