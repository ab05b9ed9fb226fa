"""The transition table: every pair of states, legal or not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from agentd.errors import InvalidTransition
from agentd.model.task import TERMINAL, Cause, CauseCode, State, Task
from agentd.model.transitions import INITIAL, TRANSITIONS, moved

AT = "2026-01-02T03:04:05.000006Z"
TASK = Task(task_id="t", session_id="s", kind="shell", spec={}, state=State.QUEUED, created_at=AT)

#: The picture in the design, written down a second time on purpose.
LEGAL = {
    ("waiting", "queued"), ("waiting", "cancelled"), ("waiting", "failed"),
    ("queued", "running"), ("queued", "cancelled"), ("queued", "failed"),
    ("running", "completed"), ("running", "failed"), ("running", "timeout"), ("running", "cancelled"),
    ("running", "queued"),
}  # fmt: skip


@pytest.mark.parametrize("to", State)
@pytest.mark.parametrize("frm", State)
def test_every_pair_of_states_is_legal_or_refused(frm: State, to: State) -> None:
    task = replace(TASK, state=frm)
    cause = Cause(code=CauseCode.OK, message="for the test")
    if (frm.value, to.value) not in LEGAL:
        with pytest.raises(InvalidTransition, match=f"is {frm}; it cannot become {to}"):
            moved(task, to, at=AT, cause=cause)
        return
    after = moved(task, to, at=AT, cause=cause, attempt=3)
    assert (after.state, after.cause, after.attempt) == (to, cause, 3)
    assert [(step.state, step.at, step.attempt, step.cause) for step in after.transitions] == [(to, AT, 3, cause)]
    assert task == replace(TASK, state=frm)


def test_the_table_names_every_state_and_nothing_follows_an_end() -> None:
    assert set(TRANSITIONS) == set(State)
    assert {state for state, after in TRANSITIONS.items() if not after} == TERMINAL
    assert not INITIAL & TERMINAL


def test_every_state_can_be_reached() -> None:
    assert set(INITIAL).union(*TRANSITIONS.values()) == set(State)
