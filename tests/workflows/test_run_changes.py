"""What is recorded of a run: what each event makes of it, what is kept, and which events do not fit."""

from __future__ import annotations

import msgspec
import pytest

from agentd.errors import InvalidTransition
from agentd.model import run as run_module
from agentd.model.event import Event
from agentd.model.events import TaskCreated, decoded, type_of
from agentd.model.reading import read
from agentd.model.run import ENDED_KEPT, Resumption, Run, RunState, RunStep, Standing, surplus
from agentd.model.run_changes import applied_to_run, created_run
from agentd.model.run_events import (
    RunCancelRequested,
    RunCreated,
    RunEnded,
    RunResumed,
    RunStepEnded,
    RunStepRefused,
)
from agentd.model.task import State, Task, WorkflowStep

AT = "2026-01-01T00:00:00.000000Z"
RUN = Run(run_id="r", session_id="s", name="n", source="steps: []", created_at=AT)
CREATED = RunCreated(at=AT, run_id="r", run=RUN)


def task_created(task_id: str, step: str) -> TaskCreated:
    task = Task(
        task_id=task_id,
        session_id="s",
        kind="shell",
        spec={},
        state=State.QUEUED,
        created_at=AT,
        workflow=WorkflowStep(run_id="r", step=step),
    )
    return TaskCreated(at=AT, task_id=task_id, task=task)


def step_ended(step: str, standing: Standing, **outputs: str) -> RunStepEnded:
    return RunStepEnded(at=AT, run_id="r", step=step, task_id="t", standing=standing, outputs=outputs)


def after(*events: Event) -> Run:
    run: Run | None = None
    for seq, event in enumerate([CREATED, *events], 1):
        run = applied_to_run(run, event, seq)
    assert run is not None
    return run


FAILED = RunEnded(at=AT, run_id="r", state=RunState.FAILED, where=("b",))
STORY: tuple[Event, ...] = (
    task_created("t1", "a"),
    step_ended("a", Standing.COMPLETED, x="1"),
    task_created("t2", "b"),
    RunStepRefused(at=AT, run_id="r", step="c", reason="no"),
    step_ended("b", Standing.FAILED),
    FAILED,
)


def test_the_tasks_of_a_step_and_how_they_ended_are_in_the_run() -> None:
    run = after(*STORY)
    assert run.steps == {
        "a": RunStep(tasks=("t1",), standing=Standing.COMPLETED, outputs={"x": "1"}),
        "b": RunStep(tasks=("t2",), standing=Standing.FAILED),
        "c": RunStep(standing=Standing.FAILED, reason="no"),
    }
    assert (run.state, run.where, run.ended_at, run.seq) == (RunState.FAILED, ("b",), AT, 7)


def test_a_resumption_forgets_how_what_runs_again_ended_and_keeps_which_tasks_it_was() -> None:
    run = after(*STORY, RunResumed(at=AT, run_id="r", again=("b", "c", "unknown")), task_created("t3", "b"))
    assert run.steps["b"] == RunStep(tasks=("t2", "t3"), standing=Standing.LIVE)
    assert run.steps["c"] == RunStep()
    assert run.steps["a"].outputs == {"x": "1"}
    assert (run.state, run.where, run.ended_at) == (RunState.RUNNING, (), None)
    assert run.resumed == (Resumption(at=AT, state=RunState.FAILED),)


def test_what_was_live_when_a_run_was_ended_from_outside_counts_as_interrupted() -> None:
    run = after(task_created("t1", "a"), RunEnded(at=AT, run_id="r", state=RunState.INTERRUPTED))
    assert run.steps["a"].standing is Standing.INTERRUPTED


@pytest.mark.parametrize(
    "events",
    [
        (CREATED,),
        (RunResumed(at=AT, run_id="r", again=()),),
        (*STORY, FAILED),
        (*STORY, RunCancelRequested(at=AT, run_id="r")),
        (*STORY, task_created("t9", "a")),
        (*STORY, step_ended("a", Standing.COMPLETED)),
    ],
)
def test_an_event_that_does_not_fit_is_refused(events: tuple[Event, ...]) -> None:
    with pytest.raises(InvalidTransition):
        after(*events)


def test_a_task_of_a_run_that_is_no_longer_kept_is_a_task_all_the_same() -> None:
    assert applied_to_run(None, task_created("t", "a"), 1) is None
    with pytest.raises(InvalidTransition, match="does not exist"):
        applied_to_run(None, FAILED, 1)


@pytest.mark.parametrize("event", [CREATED, *STORY, RunCancelRequested(at=AT, run_id="r")], ids=type_of)
def test_every_event_comes_back_as_it_was_written(event: Event) -> None:
    assert decoded(msgspec.json.encode(event)) == event


def test_a_run_comes_back_as_it_was_written() -> None:
    run = after(*STORY, RunResumed(at=AT, run_id="r", again=("b",)))
    assert read(msgspec.json.encode(run), Run) == run
    assert created_run(run, 1) == after()


def ended(n: int, source: str = "") -> Run:
    return msgspec.structs.replace(RUN, run_id=f"r{n}", state=RunState.COMPLETED, source=source, seq=n)


def test_the_latest_ended_runs_are_kept_and_all_that_go_on() -> None:
    live = [msgspec.structs.replace(RUN, run_id=f"live{n}", seq=n) for n in range(200)]
    runs = [*live, *(ended(n) for n in range(ENDED_KEPT + 3))]
    assert sorted(surplus(runs)) == ["r0", "r1", "r2"]


def test_of_large_ended_runs_fewer_are_kept_but_never_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "ENDED_KEPT_BYTES", 100)
    runs = [ended(1, "x" * 10), ended(2, "x" * 60), ended(3, "x" * 50), ended(4, "x" * 40)]
    assert sorted(surplus(runs)) == ["r1", "r2"]
    assert surplus([ended(1, "x" * 500)]) == []
    assert surplus([ended(1), ended(2, "x" * 500)]) == ["r1"]
