"""Values as people read them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.cli import wording
from agentd.model.session import SessionUsage
from agentd.model.task import Cause, CauseCode, State, Task, Usage


def task(**changes: object) -> Task:
    fields = {
        "task_id": "0" * 14,
        "session_id": "s",
        "kind": "shell",
        "spec": {"command": "make"},
        "state": State.RUNNING,
        "created_at": "2026-01-01T00:00:00.000000Z",
    }
    return Task(**{**fields, **changes})  # type: ignore[arg-type]


@given(st.text())
def test_printable_text_is_one_line_that_steers_no_terminal(text: str) -> None:
    shown = wording.printable(text)
    assert shown.isprintable()
    assert text.isprintable() is (shown == text)


def test_an_escape_sequence_is_shown_as_what_it_is() -> None:
    assert wording.printable("\x1b[31mred\x07\n\u202egnp") == r"\x1b[31mred\x07\n\u202egnp"


@given(st.text(), st.integers(1, 40))
def test_shortened_text_fits(text: str, columns: int) -> None:
    assert wording.width(wording.shortened(text, columns)) <= max(columns, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (-1, "0ms"),
        (0.04, "40ms"),
        (0.9996, "1.0s"),
        (9.94, "9.9s"),
        (9.96, "9.9s"),
        (12.9, "12s"),
        (192, "3m12s"),
        (7500, "2h05m"),
        (273_600, "3d4h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert wording.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "now"), (-3, "now"), (59, "59s"), (3599, "59m"), (90_000, "1d")])
def test_ages_have_one_unit(seconds: float, text: str) -> None:
    assert wording.age(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(None, ""), (1023, "1023 B"), (1536, "1.5 KiB"), (20 << 30, "20 GiB")])
def test_sizes_are_binary(count: int | None, text: str) -> None:
    assert wording.size(count) == text


def test_an_argv_is_shown_as_one_would_type_it() -> None:
    assert wording.command(task(spec={"argv": ["sh", "-c", "a b"]})) == "sh -c 'a b'"
    assert wording.command(task(spec={"command": " make \n"})) == "make"
    assert wording.command(task(kind="docker", spec={"image": "x", "command": ["ls", "a b"]})) == "ls 'a b'"
    assert wording.command(task(kind="docker", spec={"image": "x"})) == "x"
    assert wording.command(task(kind="agent", spec={"agent": "claude", "prompt": "fix it"})) == "fix it"
    assert wording.command(task(kind="docker", spec={"operation": "stop"})) == "(docker)"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (None, ""),
        (Cause(code=CauseCode.OK, message="m"), ""),
        (Cause(code=CauseCode.EXIT_CODE, message="m", exit_code=2), "exit 2"),
        (Cause(code=CauseCode.SIGNAL, message="m", signal=9), "SIGKILL"),
        (Cause(code=CauseCode.SIGNAL, message="m", signal=99), "signal 99"),
        (Cause(code=CauseCode.WORKER_LOST, message="m"), "worker_lost"),
    ],
)
def test_a_cause_is_a_word_or_two(cause: Cause | None, text: str) -> None:
    assert wording.cause(task(cause=cause)) == text


def test_a_running_task_says_what_refines_its_state() -> None:
    assert wording.state(task()) == "running"
    assert wording.state(task(progress=40.4)) == "running 40%"
    assert [wording.bar(progress, 4) for progress in (0.0, 49.9, 50.0, 100.0)] == [
        "[----]",
        "[#---]",
        "[##--]",
        "[####]",
    ]
    assert wording.state(task(awaiting={"question": "?"})) == "running awaiting"
    assert wording.state(task(progress=40.4, cancel_requested_at="now")) == "running stopping"
    assert wording.state(task(state=State.QUEUED, progress=40.4)) == "queued"


def test_one_attempt_and_one_turn_are_one() -> None:
    assert wording.used(SessionUsage(attempts=1, wall_s=2, cpu_s=1)) == "1 attempt in 2.0s, 1.0s CPU"
    assert wording.used(SessionUsage(attempts=2, wall_s=2, cpu_s=1)).startswith("2 attempts in")
    assert wording.model(Usage(turns=1)) == "1 turn"
    assert wording.model(Usage(turns=2)) == "2 turns"
    assert wording.model(Usage()) == ""
