"""What a run does next, by the rules of the page."""

from __future__ import annotations

import msgspec
import pytest

from agentd.model.task import Cause, CauseCode, State, Task
from agentd.workflows.definition import Workflow
from agentd.workflows.planning import RUN_CANCELLED, next_steps
from agentd.workflows.runs import resumed, state_of
from agentd.workflows.standing import InstanceState, RunStanding, RunState, Standing, standing_of, step_standing
from tests.workflows.known import at, steps

States = dict[str, InstanceState]


def starts(workflow: Workflow, states: States, *, cancelled: bool = False) -> list[str]:
    return [each.instance_id for each in next_steps(workflow, {}, states, cancelled=cancelled).starts]


def skips(workflow: Workflow, states: States, *, cancelled: bool = False) -> dict[str, str]:
    return {each.instance_id: each.reason for each in next_steps(workflow, {}, states, cancelled=cancelled).skips}


DIAMOND = steps("id: a", "id: b, needs: a", "id: c, needs: a", "id: d, needs: [b, c]")
CHAIN = steps("id: a", "id: b, needs: a", "id: c, needs: b")


def test_a_step_starts_when_all_that_it_needs_have_completed() -> None:
    assert starts(DIAMOND, {}) == ["a"]
    assert starts(DIAMOND, {"a": at("live")}) == []
    assert starts(DIAMOND, {"a": at("completed")}) == ["b", "c"]
    assert starts(DIAMOND, {"a": at("completed"), "b": at("completed"), "c": at("live")}) == []
    assert starts(DIAMOND, {each: at("completed") for each in "abc"}) == ["d"]


@pytest.mark.parametrize("end", ["failed", "interrupted", "cancelled", "skipped"])
def test_what_needs_a_step_that_did_not_complete_is_skipped_with_the_reason_at_once(end: str) -> None:
    word = end if end in ("failed",) else f"was {end}"
    assert skips(CHAIN, {"a": at(end)}) == {
        "b": f"step a, which it needs, {word}",
        "c": "step b, which it needs, was skipped",
    }
    assert starts(CHAIN, {"a": at(end)}) == []


def test_a_failure_that_does_not_matter_lets_the_others_go_on_and_stays_one() -> None:
    found = steps("id: a, continue_on_error: true, outputs: [x]", "id: b, needs: a", "id: c, needs: a, if: failure()")
    assert starts(found, {"a": at("failed")}) == ["b"]
    assert skips(found, {"a": at("failed")}) == {"c": "its if is false"}
    assert state_of(found, {}, {"a": at("failed"), "b": at("completed")}).state is RunState.COMPLETED
    assert starts(found, {"a": at("interrupted")}) == ["c"]  # that is no failure of its own


def test_an_if_decides_and_is_held_to_success_unless_it_asks_how_things_ended() -> None:
    found = steps(
        "id: a, outputs: [x]",
        "id: b, needs: a, if: steps.a.outputs.x == '1'",
        "id: c, needs: a, if: failure()",
        "id: d, needs: a, if: \"always() && steps.a.state == 'failed'\"",
        "id: e, needs: a, if: success() || failure()",
        "id: f, needs: a, if: cancelled()",
    )
    assert starts(found, {"a": at("completed", x="1")}) == ["b", "e"]
    assert starts(found, {"a": at("completed", x="2")}) == ["e"]
    assert starts(found, {"a": at("failed", x="1")}) == ["c", "d", "e"]
    assert starts(found, {"a": at("cancelled")}) == ["f"]


def test_failure_looks_through_what_was_skipped() -> None:
    found = steps("id: a", "id: b, needs: a", "id: c, needs: b, if: failure()")
    assert starts(found, {"a": at("failed")}) == ["c"]


def test_outputs_are_put_where_they_are_named() -> None:
    found = steps("id: a, outputs: [x]", "id: b, needs: a, run: \"echo ${{ steps.a.outputs.x || 'none' }}\"")
    for given, command in (({"x": "1"}, "echo 1"), ({}, "echo none")):
        [start] = next_steps(found, {}, {"a": at("completed", **given)}).starts
        assert start.task.spec == {"command": command}


def test_all_combinations_are_waited_for_and_the_worst_counts() -> None:
    found = steps("id: t, matrix: {x: [1, 2]}, outputs: [o]", "id: u, needs: t, env: {O: '${{ steps.t.outputs.o }}'}")
    one, two = found.steps["t"].instances
    assert starts(found, {}) == ["t[x=1]", "t[x=2]"]
    assert starts(found, {one.instance_id: at("completed")}) == ["t[x=2]"]
    done = {one.instance_id: at("completed", o="first"), two.instance_id: at("completed", o="second")}
    assert next_steps(found, {}, done).starts[0].task.spec["env"] == {"O": "second"}
    del done[two.instance_id]
    assert starts(found, {**done, two.instance_id: at("live")}) == []
    assert skips(found, {**done, two.instance_id: at("failed")}) == {"u": "step t, which it needs, failed"}


def test_a_combination_that_is_left_out_holds_nothing_back() -> None:
    found = steps("id: t, matrix: {x: [1, 2]}, if: matrix.x == 2", "id: u, needs: t")
    assert skips(found, {}) == {"t[x=1]": "its if is false"}
    assert starts(found, {"t[x=2]": at("completed")}) == ["u"]
    none = steps("id: t, matrix: {x: [1, 2]}, if: matrix.x == 3", "id: u, needs: t")
    assert skips(none, {})["u"] == "step t, which it needs, was skipped"


def test_a_cancelled_run_starts_only_what_asks_for_that() -> None:
    found = steps(
        "id: a", "id: b", "id: c, needs: a, if: always()", "id: d, needs: a, if: cancelled()", "id: e, needs: a"
    )
    states = {"a": at("cancelled"), "b": at("completed")}
    assert starts(found, states, cancelled=True) == ["c", "d"]
    assert skips(found, states, cancelled=True) == {"e": RUN_CANCELLED}
    assert starts(found, {}, cancelled=True) == ["c", "d"]  # what they need is skipped, and that is an end
    assert state_of(found, {}, {"a": at("live")}, cancelled=True).state is RunState.RUNNING
    ended = {**states, "c": at("completed"), "d": at("completed")}
    assert state_of(found, {}, ended, cancelled=True) == RunStanding(state=RunState.CANCELLED, where=("a",))


def test_a_cancelled_run_has_neither_succeeded_nor_failed() -> None:
    found = steps(
        "id: a",
        "id: b, needs: a, if: failure()",
        "id: c, needs: a, if: always() && failure()",
        "id: d, if: always() && success()",
    )
    assert skips(found, {"a": at("failed")}, cancelled=True) == {
        "b": RUN_CANCELLED,
        "c": "its if is false",
        "d": "its if is false",
    }


def test_a_step_whose_combinations_have_not_all_started_is_live() -> None:
    assert step_standing([None, Standing.COMPLETED]) is Standing.LIVE
    assert step_standing([None, None]) is None
    assert step_standing([Standing.SKIPPED, Standing.COMPLETED]) is Standing.COMPLETED


def test_a_run_that_had_completed_when_it_was_cancelled_completed() -> None:
    assert state_of(CHAIN, {}, {each: at("completed") for each in "abc"}, cancelled=True).state is RunState.COMPLETED


def test_a_run_that_was_cancelled_before_anything_started_is_cancelled() -> None:
    assert state_of(CHAIN, {}, {}, cancelled=True) == RunStanding(state=RunState.CANCELLED, where=("a", "b", "c"))


def test_the_state_of_a_run_follows_from_its_steps_and_says_where_it_stopped() -> None:
    def state(**states: str) -> RunStanding:
        return state_of(DIAMOND, {}, {each: at(standing) for each, standing in states.items()})

    assert state() == RunStanding(state=RunState.RUNNING, where=("a",))
    assert state(a="live") == RunStanding(state=RunState.RUNNING, where=("a",))
    assert state(a="completed", b="failed", c="live").state is RunState.RUNNING
    assert state(a="completed", b="failed", c="completed") == RunStanding(state=RunState.FAILED, where=("b",))
    assert state(a="completed", b="interrupted", c="completed") == RunStanding(state=RunState.INTERRUPTED, where=("b",))
    assert state(a="completed", b="interrupted", c="failed") == RunStanding(state=RunState.FAILED, where=("b", "c"))
    assert state(a="cancelled") == RunStanding(state=RunState.CANCELLED, where=("a",))
    assert state(a="completed", b="completed", c="completed", d="completed") == RunStanding(state=RunState.COMPLETED)


def test_a_run_whose_steps_are_all_left_out_completes() -> None:
    assert state_of(steps("id: a, if: false"), {}, {}) == RunStanding(state=RunState.COMPLETED)


def test_resuming_runs_again_what_stopped_and_what_was_skipped_for_it() -> None:
    states = {"a": at("completed"), "b": at("failed"), "c": at("interrupted")}
    assert resumed(DIAMOND, {}, states) == ("b", "c", "d")
    assert resumed(DIAMOND, {}, {each: at("completed") for each in "abcd"}) == ()
    assert resumed(DIAMOND, {}, {"a": at("completed")}, cancelled=True) == ("b", "c", "d")
    kept = {each: state for each, state in states.items() if each not in ("b", "c", "d")}
    assert starts(DIAMOND, kept) == ["b", "c"]


def test_resuming_keeps_what_was_left_out_by_its_own_if_and_what_did_not_matter() -> None:
    found = steps(
        "id: a, if: false", "id: b, needs: a", "id: c, continue_on_error: true", "id: d", "id: e, needs: [c, d]"
    )
    states = {"c": at("failed"), "d": at("failed")}
    assert resumed(found, {}, states) == ("d", "e")


def test_resuming_a_matrix_runs_the_combinations_that_failed() -> None:
    found = steps("id: t, matrix: {x: [1, 2]}", "id: u, needs: t")
    states = {"t[x=1]": at("completed"), "t[x=2]": at("cancelled")}
    assert resumed(found, {}, states) == ("t[x=2]", "u")


ENDS = {
    (State.WAITING, None): "live",
    (State.QUEUED, None): "live",
    (State.RUNNING, None): "live",
    (State.COMPLETED, CauseCode.OK): "completed",
    (State.FAILED, CauseCode.EXIT_CODE): "failed",
    (State.TIMEOUT, CauseCode.TIMEOUT): "failed",
    (State.FAILED, CauseCode.INTERRUPTED): "interrupted",
    (State.FAILED, CauseCode.WORKER_LOST): "interrupted",
    (State.CANCELLED, CauseCode.SHUTDOWN): "interrupted",
    (State.CANCELLED, CauseCode.CANCELLED_BY_USER): "cancelled",
}


@pytest.mark.parametrize(("state", "code"), ENDS)
def test_an_instance_stands_where_its_task_does(state: State, code: CauseCode | None) -> None:
    task = Task(task_id="t", session_id="s", kind="shell", spec={}, state=state, created_at="")
    if code is not None:
        task = msgspec.structs.replace(task, cause=Cause(code=code, message=""))
    assert standing_of(task) == ENDS[state, code]
