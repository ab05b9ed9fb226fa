"""A shell spec in, a launch out; an exit in, a cause out."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.errors import Invalid
from agentd.kinds.protocol import Place
from agentd.kinds.registry import kinds
from agentd.kinds.shell import Shell
from agentd.model.launch import EndedBy, Exit, ResourceLimits
from agentd.model.task import Cause, CauseCode, State, Task

SHELL = Shell()
PLACE = Place(
    workspace="/data/sessions/s/workspace",
    artifacts="/data/sessions/s/artifacts",
    log_path="/data/sessions/s/output/t.2.log",
    index_path="/data/sessions/s/output/t.2.idx",
    result_path="/data/sessions/s/output/t.2.result",
    env={"PATH": "/bin", "AGENTD_TASK_ID": "t"},
    grace_s=3.0,
    max_output_bytes=1000,
    max_result_bytes=10,
)


def task(spec: dict[str, Any] | None = None, **fields: Any) -> Task:
    return Task(
        **{
            "task_id": "t",
            "session_id": "s",
            "kind": "shell",
            "spec": spec or {"command": "true"},
            "state": State.RUNNING,
            "attempt": 2,
            "created_at": "2026-01-01T00:00:00.000000Z",
            **fields,
        }
    )


def test_the_shell_is_registered_by_its_name() -> None:
    assert isinstance(kinds()["shell"], Shell)
    assert all(kind.name == name for name, kind in kinds().items())


@pytest.mark.parametrize(
    "spec",
    [
        {"command": "echo hello"},
        {"argv": ["echo", ""]},
        {"command": "x", "cwd": "sub/dir", "env": {"A_1": "é"}, "stdin": "a\0b", "tty": True},
        {"command": "x", "limits": {"memory_bytes": 1 << 30, "cpu_s": 1, "files": 64}},
    ],
)
def test_good_specs_are_accepted(spec: dict[str, Any]) -> None:
    SHELL.check(spec)


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({}, "spec.command", "exactly one of command and argv"),
        ({"command": "a", "argv": ["b"]}, "spec.command", "exactly one of command and argv"),
        ({"command": ""}, "spec.command", "must not be empty"),
        ({"command": " \n"}, "spec.command", "must not be empty"),
        ({"command": "a\0b"}, "spec.command", "NUL"),
        ({"command": "x" * (128 << 10)}, "spec.command", "longer"),
        ({"command": 7}, "spec.command", "expected `str"),
        ({"argv": []}, "spec.argv", "program"),
        ({"argv": [""]}, "spec.argv", "program"),
        ({"argv": ["a", "b\0"]}, "spec.argv[1]", "NUL"),
        ({"argv": ["a", 5]}, "spec.argv[1]", "expected `str`"),
        ({"argv": ["x" * 100_000] * 20}, "spec.argv", "in all"),
        ({"command": "x", "cwd": "a\0"}, "spec.cwd", "NUL"),
        ({"command": "x", "cwd": "x" * 5000}, "spec.cwd", "longer"),
        ({"command": "x", "env": {"1A": ""}}, "spec.env.1A", "letters"),
        ({"command": "x", "env": {"A=B": ""}}, "spec.env.A=B", "letters"),
        ({"command": "x", "env": {"AGENTD_TOKEN": ""}}, "spec.env.AGENTD_TOKEN", "set by agentd"),
        ({"command": "x", "env": {"A": "a\0"}}, "spec.env.A", "NUL"),
        (
            {"command": "x", "env": {"A": "x" * 100_000, **{f"B{n}": "x" * 100_000 for n in range(20)}}},
            "spec.env",
            "all",
        ),
        ({"command": "x", "stdin": "x" * ((1 << 20) + 1)}, "spec.stdin", "longer"),
        ({"command": "x", "stdin": "\ud800"}, "spec.stdin", "Unicode"),
        ({"command": "x", "limits": {"files": 1}}, "spec.limits.files", "expected `int` >= 3"),
        ({"command": "x", "sandbox": "bwrap"}, "spec.sandbox", "must be bubblewrap, not 'bwrap'"),
        ({"command": "x", "sandbox": {"type": "bwrap"}}, "spec.sandbox.type", "must be bubblewrap, not 'bwrap'"),
        ({"command": "x", "limits": {"gpus": 1}}, "spec.limits.gpus", "no such field"),
        ({"command": "x", "comand": "y"}, "spec.comand", "no such field; did you mean command?"),
        ({"command": "x", "limits": {"cpu": 1}}, "spec.limits.cpu", "no such field; did you mean cpus?"),
    ],
)
def test_a_bad_spec_is_refused_by_field(spec: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        SHELL.check(spec)
    [wrong] = caught.value.errors
    assert wrong.field == field
    assert message in wrong.message


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        SHELL.check({"command": "a\0", "cwd": "b\0", "env": {"-": ""}})
    assert [wrong.field for wrong in caught.value.errors] == ["spec.command", "spec.cwd", "spec.env.-"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["command", "argv", "cwd", "env", "stdin", "tty", "limits", "x"]), json_values))
def test_any_spec_is_launched_or_refused_with_a_field(spec: dict[str, Any]) -> None:
    try:
        SHELL.check(spec)
    except Invalid as error:
        assert all(wrong.field.startswith("spec") and wrong.message for wrong in error.errors)
        assert error.errors
    else:
        assert SHELL.launch(task(spec), PLACE).argv


def test_a_command_goes_to_sh() -> None:
    launch = SHELL.launch(task({"command": "echo $X | cat", "env": {"X": "1", "PATH": "/mine"}}), PLACE)
    assert launch.argv == ("/bin/sh", "-c", "echo $X | cat")
    assert launch.env == {"PATH": "/mine", "AGENTD_TASK_ID": "t", "X": "1"}
    assert launch.attempt_id == "t.2"
    assert (launch.cwd, launch.grace_s, launch.log_path) == (PLACE.workspace, 3.0, PLACE.log_path)


def test_arguments_stand_as_they_are() -> None:
    spec = {"argv": ["ls", "$X"], "tty": True, "stdin": "in", "limits": {"files": 9}}
    launch = SHELL.launch(task(spec, timeout_s=2.5), PLACE)
    assert launch.argv == ("ls", "$X")
    assert (launch.tty, launch.stdin, launch.timeout_s) == (True, "in", 2.5)
    assert launch.limits == ResourceLimits(files=9)


@pytest.mark.parametrize(
    ("cwd", "expected"), [("a/b", "/data/sessions/s/workspace/a/b"), ("/tmp", "/tmp"), ("", PLACE.workspace)]
)
def test_a_directory_is_relative_to_the_workspace(cwd: str, expected: str) -> None:
    assert SHELL.launch(task({"command": "x", "cwd": cwd}), PLACE).cwd == expected


@pytest.mark.parametrize(("asked", "given"), [(None, 1000), (10, 10), (5000, 1000)])
def test_the_output_limit_is_the_smaller_one(asked: int | None, given: int) -> None:
    assert SHELL.launch(task(max_output_bytes=asked), PLACE).max_output_bytes == given


OK = Exit(ended_by=EndedBy.EXIT, exit_code=0)


@pytest.mark.parametrize(
    ("exit", "state", "code", "message"),
    [
        (OK, State.COMPLETED, CauseCode.OK, "exited with code 0"),
        (msgspec.structs.replace(OK, leftovers=2), State.COMPLETED, CauseCode.OK, "2 processes"),
        (msgspec.structs.replace(OK, message="5 bytes were lost"), State.COMPLETED, CauseCode.OK, "5 bytes were lost"),
        (Exit(ended_by=EndedBy.EXIT, exit_code=7), State.FAILED, CauseCode.EXIT_CODE, "exited with code 7"),
        (Exit(ended_by=EndedBy.EXIT, signal=9), State.FAILED, CauseCode.SIGNAL, "signal 9 (SIGKILL)"),
        (Exit(ended_by=EndedBy.EXIT, signal=40), State.FAILED, CauseCode.SIGNAL, "signal 40"),
        (Exit(ended_by=EndedBy.TIMEOUT, signal=15), State.TIMEOUT, CauseCode.TIMEOUT, "ran longer"),
        (Exit(ended_by=EndedBy.TIMEOUT, exit_code=0), State.TIMEOUT, CauseCode.TIMEOUT, "ran longer"),
        (Exit(ended_by=EndedBy.OUTPUT_LIMIT, signal=15), State.FAILED, CauseCode.OUTPUT_LIMIT, "max_output_bytes"),
        (Exit(ended_by=EndedBy.OUT_OF_MEMORY, signal=9), State.FAILED, CauseCode.OUT_OF_MEMORY, "memory"),
        (Exit(ended_by=EndedBy.SPAWN_FAILED, message="cwd x"), State.FAILED, CauseCode.SPAWN_FAILED, "cwd x"),
        (Exit(ended_by=EndedBy.WORKER_LOST, message="w1"), State.FAILED, CauseCode.WORKER_LOST, "w1"),
        (Exit(ended_by=EndedBy.STOPPED, signal=15), State.FAILED, CauseCode.INTERRUPTED, "without a recorded reason"),
    ],
)
def test_each_exit_has_its_cause(exit: Exit, state: State, code: CauseCode, message: str) -> None:
    outcome = SHELL.outcome(task(), exit)
    assert (outcome.state, outcome.cause.code) == (state, code)
    assert message in outcome.cause.message
    assert (outcome.cause.exit_code, outcome.cause.signal) == (exit.exit_code, exit.signal)


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (CauseCode.CANCELLED_BY_USER, State.CANCELLED),
        (CauseCode.SESSION_CANCELLED, State.CANCELLED),
        (CauseCode.SESSION_TIMEOUT, State.TIMEOUT),
        (CauseCode.SHUTDOWN, State.FAILED),
    ],
)
@pytest.mark.parametrize(
    "exit",
    [OK, Exit(ended_by=EndedBy.STOPPED, signal=15), Exit(ended_by=EndedBy.WORKER_LOST), Exit(ended_by=EndedBy.TIMEOUT)],
)
def test_the_recorded_intent_decides_over_the_exit(code: CauseCode, state: State, exit: Exit) -> None:
    outcome = SHELL.outcome(task(stop_cause=Cause(code=code, message="because")), exit)
    assert (outcome.state, outcome.cause.code, outcome.cause.message) == (state, code, "because")
    assert (outcome.cause.exit_code, outcome.cause.signal) == (exit.exit_code, exit.signal)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (None, None),
        ("", None),
        ("\n", None),
        ('{"a": [1, null]}', {"a": [1, None]}),
        ("3\n", 3),
        ("all went well", {"text": "all went well"}),
        ('{"a":', {"text": '{"a":'}),
    ],
)
def test_the_result_is_what_was_written(text: str | None, result: Any) -> None:
    assert SHELL.outcome(task(), msgspec.structs.replace(OK, result=text)).result == result


@pytest.mark.parametrize("ended_by", EndedBy)
@pytest.mark.parametrize("stop", [None, Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled by a client")])
def test_what_was_lost_of_an_output_is_told_however_the_task_ended(ended_by: EndedBy, stop: Cause | None) -> None:
    outcome = SHELL.outcome(task(stop_cause=stop), Exit(ended_by=ended_by, signal=15, message="7 bytes were lost"))
    assert outcome.cause.message.count("7 bytes were lost") == 1
    assert outcome.cause.message != "7 bytes were lost" or ended_by in (EndedBy.SPAWN_FAILED, EndedBy.WORKER_LOST)
