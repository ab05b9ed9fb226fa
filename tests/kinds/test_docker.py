"""A docker spec in, a driver's launch out; a record and an exit in, a cause out."""

from __future__ import annotations

import sys
from typing import Any

import jsonschema  # type: ignore[import-untyped] # has no types
import msgspec
import pytest

from agentd.errors import Invalid
from agentd.http.shorthands import DockerTask
from agentd.kinds.containers import Assignment, Bind, Operation, Pull, Record
from agentd.kinds.docker import Docker, DockerSpec
from agentd.kinds.protocol import Place
from agentd.kinds.registry import kinds
from agentd.model.launch import EndedBy, Exit
from agentd.model.task import Cause, CauseCode, State, Task
from tests.kinds.test_shell import PLACE as SHELL_PLACE
from tests.kinds.test_shell import task as any_task

PLACE = msgspec.structs.replace(
    SHELL_PLACE, agent_id="agent", boot_id="boot", container_engine={"DOCKER_HOST": "unix:///engine"}
)
DOCKER = Docker()
SPEC = {"operation": "run", "image": "busybox:1.37"}
RECORD = Record(container_id="c-1", image="busybox:1.37", exit_code=0, started=True, gone=True)


def task(**fields: Any) -> Task:
    return any_task(**{"kind": "docker", "spec": SPEC, **fields})


def ended(record: Record | None = RECORD, **fields: Any) -> Exit:
    text = msgspec.json.encode(record).decode() if record is not None else None
    return Exit(**{"ended_by": EndedBy.EXIT, "exit_code": 0, "result": text, **fields})


def assigned(spec: dict[str, Any]) -> Assignment:
    launch = DOCKER.launch(task(spec=spec), PLACE)
    assert launch.stdin is not None
    return msgspec.json.decode(launch.stdin, type=Assignment)


def schema_takes(spec: dict[str, Any]) -> bool:
    [schema], components = msgspec.json.schema_components([DockerSpec], ref_template="#/components/{name}")
    components["DockerSpec"] |= DockerSpec.RULES
    validator = jsonschema.Draft202012Validator({**schema, "components": components})
    return bool(validator.is_valid(spec))


def test_containers_are_registered_by_their_name() -> None:
    assert isinstance(kinds()["docker"], Docker)
    assert DOCKER.exclusive(task()) is None


GOOD: list[dict[str, Any]] = [
    SPEC,
    {**SPEC, "image": "registry.example:5000/a/b@sha256:" + "a" * 64, "command": "make test"},
    {**SPEC, "command": ["make", ""], "env": {"A": "é"}, "network": "bridge", "user": "1000:staff", "workdir": "/w"},
    {**SPEC, "mounts": [{"source": "sub/../x", "target": "/x", "read_only": True}], "pull": "always", "tty": True},
    {**SPEC, "limits": {"memory_bytes": 6 << 20, "cpus": 0.5, "pids": 10}},
    {**SPEC, "limits": {"pids": 10}},
    {**SPEC, "hand_over": True, "mounts": [{"source": ".", "target": "/agentd2"}]},
    {"operation": "start", "id": "name_1.x"},
    {"operation": "stop", "id": "0123abcdef"},
    {"operation": "logs", "id": "x", "follow": True},
]


@pytest.mark.parametrize("spec", GOOD)
def test_good_specs_are_accepted_also_by_the_document(spec: dict[str, Any]) -> None:
    DOCKER.check(spec)
    assert schema_takes(spec)


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "spec.operation", "is required: one of run, start, stop, logs"),
    ({"operation": "kill", "id": "x"}, "spec.operation", "must be one of run, start, stop, logs, not 'kill'"),
    ({"operation": "run"}, "spec.image", "is required to run a container"),
    ({"operation": "stop"}, "spec.id", "is required to stop a container"),
    ({"operation": "logs"}, "spec.id", "is required to read a container's logs"),
    ({**SPEC, "id": "x"}, "spec.id", "is no field of operation run"),
    ({**SPEC, "follow": True}, "spec.follow", "is no field of operation run"),
    ({"operation": "start", "id": "x", "env": {}}, "spec.env", "is no field of operation start"),
    ({"operation": "stop", "id": "x", "image": "y"}, "spec.image", "is no field of operation stop"),
    ({**SPEC, "image": "-x"}, "spec.image", "must be an image's name"),
    ({**SPEC, "image": "a/../../containers"}, "spec.image", "must be an image's name"),
    ({**SPEC, "image": "a b"}, "spec.image", "must be an image's name"),
    ({"operation": "stop", "id": "a/b"}, "spec.id", "must be a container's id or name"),
    ({**SPEC, "command": " "}, "spec.command", "must not be empty"),
    ({**SPEC, "command": []}, "spec.command", "must not be empty"),
    ({**SPEC, "command": ["a\0"]}, "spec.command[0]", "NUL"),
    ({**SPEC, "command": 5}, "spec.command", "expected"),
    ({**SPEC, "env": {"AGENTD_TOKEN": "x"}}, "spec.env.AGENTD_TOKEN", "set by agentd"),
    ({**SPEC, "mounts": [{"source": "", "target": "/x"}]}, "spec.mounts[0].source", "must not be empty"),
    ({**SPEC, "mounts": [{"source": "x", "target": "x"}]}, "spec.mounts[0].target", "must be an absolute path"),
    ({**SPEC, "mounts": [{"source": "x"}]}, "spec.mounts[0].target", "is required"),
    ({**SPEC, "mounts": [{"source": "x", "target": "/x", "ro": True}]}, "spec.mounts[0].ro", "no such field"),
    ({**SPEC, "mounts": [{"source": "x", "target": "/agentd/x"}]}, "spec.mounts[0].target", "must not be /agentd"),
    ({"operation": "logs", "id": "x", "hand_over": True}, "spec.hand_over", "is no field of operation logs"),
    ({**SPEC, "network": "container:x"}, "spec.network", "must be none, bridge, host"),
    ({**SPEC, "limits": {"memory_bytes": 1}}, "spec.limits.memory_bytes", ">= 6291456"),
    ({**SPEC, "limits": {"cpus": 0}}, "spec.limits.cpus", ">= 0.01"),
    ({**SPEC, "limits": {"pids": 0}}, "spec.limits.pids", ">= 1"),
    ({**SPEC, "user": "a b"}, "spec.user", "must be a user"),
    ({**SPEC, "workdir": "w"}, "spec.workdir", "must be an absolute path"),
    ({**SPEC, "pull": "maybe"}, "spec.pull", "maybe"),
    ({**SPEC, "privileged": True}, "spec.privileged", "no such field"),
]


@pytest.mark.parametrize(("spec", "field", "message"), BAD)
def test_a_wrong_field_is_named_and_not_in_the_document(spec: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        DOCKER.check(spec)
    assert [error.field for error in caught.value.errors] == [field]
    assert message in caught.value.errors[0].message
    assert not schema_takes(spec)


def test_every_wrong_field_is_named_at_once() -> None:
    with pytest.raises(Invalid) as caught:
        DOCKER.check({"operation": "run", "id": "x", "network": "-", "workdir": ""})
    fields = {error.field for error in caught.value.errors}
    assert fields == {"spec.image", "spec.id", "spec.network", "spec.workdir"}


def test_the_driver_is_launched_and_told_on_its_input_alone() -> None:
    launch = DOCKER.launch(task(spec={**SPEC, "env": {"A": "1"}}), PLACE)
    assert launch.argv == (sys.executable, "-P", "-m", "agentd.drivers.container")
    assert launch.env == {**PLACE.env, "DOCKER_HOST": "unix:///engine"}
    assert (launch.cwd, launch.attempt_id, launch.may_leave_container) == (PLACE.workspace, "t.2", True)
    assert not DOCKER.launch(task(spec={"operation": "logs", "id": "x"}), PLACE).may_leave_container


def test_what_it_is_told_has_no_network_and_paths_of_the_workspace() -> None:
    told = assigned({**SPEC, "command": "make", "mounts": [{"source": ".", "target": "/w/"}, GOOD[3]["mounts"][0]]})
    assert (told.operation, told.image, told.pull, told.network) == (
        Operation.RUN,
        "busybox:1.37",
        Pull.MISSING,
        "none",
    )
    assert told.command == ("sh", "-c", "make")
    assert told.mounts == (
        Bind(source=PLACE.workspace, target="/w"),
        Bind(source=f"{PLACE.workspace}/x", target="/x", read_only=True),
    )
    assert (told.agent_id, told.boot_id, told.task_id, told.attempt_id) == ("agent", "boot", "t", "t.2")
    assert told.grace_s == PLACE.grace_s
    told = assigned({**SPEC, "command": ["a", "b"], "mounts": [{"source": "/etc", "target": "/etc"}]})
    assert (told.command, told.mounts) == (("a", "b"), (Bind(source="/etc", target="/etc"),))


def test_its_exit_code_is_that_of_the_container() -> None:
    outcome = DOCKER.outcome(task(), ended())
    assert (outcome.state, outcome.cause.code) == (State.COMPLETED, CauseCode.OK)
    assert outcome.result == {"container_id": "c-1", "exit_code": 0, "image": "busybox:1.37"}
    failed = msgspec.structs.replace(RECORD, exit_code=137)
    outcome = DOCKER.outcome(task(), ended(failed, exit_code=137))
    assert (outcome.state, outcome.cause.code, outcome.cause.exit_code) == (State.FAILED, CauseCode.EXIT_CODE, 137)
    killed = msgspec.structs.replace(failed, out_of_memory=True)
    assert DOCKER.outcome(task(), ended(killed, exit_code=137)).cause.code is CauseCode.OUT_OF_MEMORY


@pytest.mark.parametrize(("started", "code"), [(False, CauseCode.SPAWN_FAILED), (True, CauseCode.INTERRUPTED)])
def test_a_problem_is_its_cause(started: bool, code: CauseCode) -> None:
    record = Record(problem="no engine; start it", started=started)
    outcome = DOCKER.outcome(task(), ended(record, exit_code=125, message="its container may be left"))
    assert (outcome.state, outcome.cause.code, outcome.result) == (State.FAILED, code, None)
    assert outcome.cause.message == "no engine; start it; its container may be left"


@pytest.mark.parametrize(
    ("record", "how", "code"),
    [
        (RECORD, {"exit_code": None, "signal": 9}, CauseCode.SIGNAL),
        (None, {"exit_code": 1}, CauseCode.EXIT_CODE),
        (RECORD, {"ended_by": EndedBy.TIMEOUT}, CauseCode.TIMEOUT),
        (RECORD, {"ended_by": EndedBy.WORKER_LOST}, CauseCode.WORKER_LOST),
    ],
)
def test_what_ended_the_driver_comes_first(record: Record | None, how: dict[str, Any], code: CauseCode) -> None:
    outcome = DOCKER.outcome(task(), ended(record, **how))
    assert outcome.state is not State.COMPLETED
    assert outcome.cause.code is code


def test_a_recorded_stop_decides_over_its_exit_code() -> None:
    stop = Cause(code=CauseCode.CANCELLED_BY_USER, message="cancelled")
    outcome = DOCKER.outcome(task(stop_cause=stop), ended())
    assert (outcome.state, outcome.cause.code) == (State.CANCELLED, CauseCode.CANCELLED_BY_USER)


@pytest.mark.parametrize("spec", GOOD)
def test_the_flat_body_means_the_spec(spec: dict[str, Any]) -> None:
    flat = msgspec.convert({**spec, "name": "n"}, DockerTask).task()
    assert (flat.spec, flat.kind, flat.name) == (spec, "docker", "n")
    DOCKER.check(flat.spec)
    assert msgspec.convert({"spec": spec}, DockerTask).task().spec == spec


def test_a_flat_body_beside_a_spec_and_an_empty_one_are_refused() -> None:
    for body, field in (({**SPEC, "spec": SPEC}, "spec"), ({}, "operation")):
        with pytest.raises(Invalid) as caught:
            msgspec.convert(body, DockerTask).task()
        assert [error.field for error in caught.value.errors] == [field]


def test_the_flat_body_has_every_field_of_the_spec() -> None:
    assert set(DockerSpec.__struct_fields__) <= set(DockerTask.__struct_fields__)


def test_a_step_of_a_workflow_hands_over_unless_told_not_to_and_other_tasks_when_told_to() -> None:
    output = "/data/sessions/s/output/t.1.handed"
    step = msgspec.structs.replace(PLACE, env={**PLACE.env, "AGENTD_OUTPUT": output})
    left = f"{PLACE.result_path}.left"
    cases: list[tuple[Place, dict[str, bool], list[str]]] = [
        (step, {}, [left, PLACE.artifacts, output]),
        (step, {"hand_over": False}, []),
        (PLACE, {}, []),
        (PLACE, {"hand_over": True}, [left, PLACE.artifacts]),
    ]
    for place, said, sources in cases:
        launch = DOCKER.launch(task(spec={**SPEC, **said}), place)
        told = msgspec.json.decode(launch.stdin or "", type=Assignment)
        assert [each.source for each in told.handed] == sources
        assert list(launch.premade) == [each for each in sources if each != PLACE.artifacts]
        assert told.must_hand_over == said.get("hand_over", False)
    assert [each.target for each in told.handed] == ["/agentd/result", "/agentd/artifacts"]


@pytest.mark.parametrize(("left", "value"), [('{"a": 1}', {"a": 1}), ("no json", {"text": "no json"}), (" ", None)])
def test_what_the_container_left_is_the_value_of_its_result(left: str, value: Any) -> None:
    outcome = DOCKER.outcome(task(), ended(msgspec.structs.replace(RECORD, left=left)))
    assert outcome.result == {"container_id": "c-1", "exit_code": 0, "image": "busybox:1.37", "value": value}
