"""An agent spec in, a driver's launch out; a record and an exit in, a cause out."""

from __future__ import annotations

import sys
from typing import Any

import msgspec
import pytest

from agentd.errors import Invalid
from agentd.kinds.agent import Agent, AgentSpec
from agentd.kinds.agents.protocol import Assignment, Permission, Record
from agentd.kinds.agents.steps import Detail
from agentd.kinds.registry import kinds
from agentd.model.facts import Facts
from agentd.model.launch import EndedBy, Exit, ResourceLimits
from agentd.model.task import Cause, CauseCode, State, Task
from tests.kinds.test_shell import PLACE as SHELL_PLACE
from tests.kinds.test_shell import task as any_task

PLACE = msgspec.structs.replace(SHELL_PLACE, home="/data/sessions/s/home", conversations={"claude": "c-0"})
AGENT = Agent({"mine": ("mine", "{prompt}")})
SPEC = {"agent": "claude", "prompt": "fix it"}
RECORD = Record(ok=True, text="done", num_turns=2, usage={"input_tokens": 5, "output_tokens": 6}, conversation_id="c-1")


def task(**fields: Any) -> Task:
    return any_task(**{"kind": "agent", "spec": SPEC, **fields})


def ended(record: Record | None = RECORD, **fields: Any) -> Exit:
    text = msgspec.json.encode(record).decode() if record is not None else None
    return Exit(**{"ended_by": EndedBy.EXIT, "exit_code": 0, "result": text, **fields})


def assigned(spec: dict[str, Any]) -> Assignment:
    launch = AGENT.launch(task(spec=spec), PLACE)
    assert launch.stdin is not None
    return msgspec.json.decode(launch.stdin, type=Assignment)


def test_the_agent_is_registered_by_its_name() -> None:
    assert isinstance(kinds()["agent"], Agent)


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        {
            **SPEC,
            "model": "m",
            "max_turns": 3,
            "allowed_tools": ["Bash(git *)"],
            "system_prompt": "short",
            "env": {"A": "1"},
        },
        {**SPEC, "resume": False, "permission": "deny", "stall_s": 60, "stall": "end", "cwd": "sub"},
        {"agent": "mine", "prompt": "p", "model": "m"},
        {**SPEC, "limits": {"cpu_s": 600, "files": 64}},
    ],
)
def test_good_specs_are_accepted(spec: dict[str, Any]) -> None:
    AGENT.check(spec)


@pytest.mark.parametrize(
    ("more", "field", "message"),
    [
        ({"agent": "nobody"}, "spec.agent", "claude, codex, mine, opencode"),
        ({"prompt": " "}, "spec.prompt", "must not be empty"),
        ({"prompt": "a\0"}, "spec.prompt", "NUL"),
        ({"prompt": "x" * (1 << 20)}, "spec.prompt", "longer"),
        ({"model": "--flag"}, "spec.model", "must begin with"),
        ({"agent": "codex", "max_turns": 1}, "spec.max_turns", "codex has no such setting"),
        ({"agent": "opencode", "allowed_tools": ["x"]}, "spec.allowed_tools", "opencode has no such setting"),
        ({"allowed_tools": ["Bash", "-x"]}, "spec.allowed_tools[1]", "must begin with"),
        ({"max_turns": 0}, "spec.max_turns", ">= 1"),
        ({"permission": "maybe"}, "spec.permission", "maybe"),
        ({"limits": {"files": 63}}, "spec.limits.files", ">= 64"),
        ({"limits": {"memory_bytes": 1 << 30}}, "spec.limits.memory_bytes", "Delegate=yes"),
        ({"limits": {"processes": 100}}, "spec.limits.processes", "cannot be held here"),
        ({"limits": {"cpus": 1.5}}, "spec.limits.cpus", "no delegated cgroup was looked for"),
        ({"limits": {"gpus": 1}}, "spec.limits.gpus", "no such field"),
        ({"stall": "shout"}, "spec.stall", "warn|end"),
        ({"env": {"AGENTD_TOKEN": "x"}}, "spec.env.AGENTD_TOKEN", "set by agentd"),
        ({"unknown": 1}, "spec.unknown", "no such field"),
    ],
)
def test_a_wrong_field_is_named(more: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        AGENT.check({**SPEC, **more})
    assert [error.field for error in caught.value.errors] == [field]
    assert message in caught.value.errors[0].message


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        AGENT.check({"agent": "nobody", "prompt": "", "model": "-"})
    assert [error.field for error in caught.value.errors] == ["spec.agent", "spec.prompt", "spec.model"]


def test_the_driver_is_launched_and_told_on_its_input_alone() -> None:
    launch = AGENT.launch(task(spec={**SPEC, "env": {"A": "1"}, "cwd": "sub"}), PLACE)
    assert launch.argv == (sys.executable, "-P", "-m", "agentd.drivers.agent")
    assert launch.env == PLACE.env
    assert launch.cwd == "/data/sessions/s/workspace/sub"
    assert launch.attempt_id == "t.2"
    told = assigned({**SPEC, "env": {"A": "1"}, "permission": "deny", "stall_s": 5, "stall": "end"})
    assert told.home == "/data/sessions/s/home/claude"
    assert (told.prompt, told.env, told.permission) == ("fix it", {"A": "1"}, Permission.DENY)
    assert (told.stall_s, told.stall_ends, told.max_result_bytes) == (5, True, PLACE.max_result_bytes)
    assert told.conversation == "c-0"
    assert assigned({**SPEC, "resume": False}).conversation is None
    assert assigned({"agent": "mine", "prompt": "p"}).conversation is None
    assert assigned({"agent": "mine", "prompt": "p"}).template == ("mine", "{prompt}")


def test_its_own_success_and_exit_code_0_complete_it() -> None:
    outcome = AGENT.outcome(task(), ended())
    assert (outcome.state, outcome.cause.code) == (State.COMPLETED, CauseCode.OK)
    assert outcome.result == {
        "text": "done",
        "num_turns": 2,
        "usage": {"input_tokens": 5, "output_tokens": 6},
        "cost_usd": None,
        "conversation_id": "c-1",
    }


@pytest.mark.parametrize("result", [None, "", "no json", '{"ok": "yes"}', "[]"])
def test_exit_code_0_without_a_record_is_no_result(result: str | None) -> None:
    outcome = AGENT.outcome(task(), ended(None, result=result))
    assert (outcome.state, outcome.cause.code) == (State.FAILED, CauseCode.NO_RESULT)
    assert outcome.result is None


@pytest.mark.parametrize("detail", [detail for detail in Detail if detail is not Detail.NOT_FOUND])
@pytest.mark.parametrize("how", [{"exit_code": 0}, {"exit_code": 1}, {"exit_code": None, "signal": 15}])
def test_a_failure_that_it_reports_is_an_agent_error_however_it_exits(detail: Detail, how: dict[str, Any]) -> None:
    record = Record(ok=False, text="partly", detail=detail, message="it broke", retry_at="2027-01-01T00:00:00.000000Z")
    outcome = AGENT.outcome(task(), ended(record, **how))
    assert (outcome.state, outcome.cause.code) == (State.FAILED, CauseCode.AGENT_ERROR)
    assert "it broke" in outcome.cause.message
    assert (outcome.cause.detail, outcome.cause.retry_at) == (detail.value, "2027-01-01T00:00:00.000000Z")
    assert outcome.result["text"] == "partly"


@pytest.mark.parametrize(
    ("record", "how", "code"),
    [
        (RECORD, {"exit_code": 1}, CauseCode.EXIT_CODE),
        (RECORD, {"exit_code": None, "signal": 9}, CauseCode.SIGNAL),
        (None, {"exit_code": 7}, CauseCode.EXIT_CODE),
        (None, {"exit_code": None, "signal": 11}, CauseCode.SIGNAL),
        (RECORD, {"ended_by": EndedBy.WORKER_LOST}, CauseCode.WORKER_LOST),
        (RECORD, {"ended_by": EndedBy.TIMEOUT}, CauseCode.TIMEOUT),
    ],
)
def test_success_that_did_not_end_well_is_none(record: Record | None, how: dict[str, Any], code: CauseCode) -> None:
    outcome = AGENT.outcome(task(), ended(record, **how))
    assert outcome.state is not State.COMPLETED
    assert outcome.cause.code is code


def test_a_recorded_stop_decides_over_its_success() -> None:
    stop = Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled")
    outcome = AGENT.outcome(task(stop_cause=stop), ended())
    assert (outcome.state, outcome.cause.code) == (State.CANCELLED, CauseCode.CANCELLED_BY_USER)
    assert outcome.result["text"] == "done"


def test_a_cli_that_is_not_there_could_not_be_started() -> None:
    record = Record(ok=False, detail=Detail.NOT_FOUND, message="'claude' was not found; npm install")
    outcome = AGENT.outcome(task(), ended(record, exit_code=127))
    assert (outcome.state, outcome.cause.code) == (State.FAILED, CauseCode.SPAWN_FAILED)
    assert "npm install" in outcome.cause.message
    assert outcome.result is None


def test_the_shape_of_a_spec_is_that_of_the_document() -> None:
    schema = msgspec.json.schema(AgentSpec)["$defs"]["AgentSpec"]
    assert schema["required"] == ["agent", "prompt"]


def test_turns_of_one_conversation_exclude_each_other() -> None:
    assert AGENT.exclusive(task()) == AGENT.exclusive(task(spec={**SPEC, "prompt": "more"})) == "agent:claude"
    assert AGENT.exclusive(task(spec={"agent": "codex", "prompt": "p"})) == "agent:codex"
    assert AGENT.exclusive(task(spec={**SPEC, "resume": False})) is None


def test_what_was_delegated_has_a_conversation_of_its_own_and_waits_for_nobody() -> None:
    child = task(parent_id="parent")
    assert AGENT.exclusive(child) is None
    told = AGENT.launch(child, PLACE).stdin
    assert told is not None
    assert msgspec.json.decode(told, type=Assignment).conversation is None


def test_limits_are_of_the_driver_and_all_below_it() -> None:
    spec = {**SPEC, "limits": {"cpu_s": 600, "files": 64}}
    launch = AGENT.launch(task(spec=spec), PLACE)
    assert (launch.limits, launch.cgroup) == (ResourceLimits(cpu_s=600, files=64), None)


def test_limits_of_the_whole_task_need_a_cgroup_and_get_it() -> None:
    limits: dict[str, Any] = {"memory_bytes": 1 << 30, "processes": 100, "cpus": 1.5}
    agent = Agent(facts=Facts(cgroup="/sys/fs/cgroup/agentd"))
    agent.check({**SPEC, "limits": limits})
    launch = agent.launch(task(spec={**SPEC, "limits": limits}), PLACE)
    assert (launch.limits, launch.cgroup) == (ResourceLimits(**limits), "/sys/fs/cgroup/agentd")
    assert agent.launch(task(), PLACE).cgroup is None
