"""How a task ends, and what it finds around it, with a real worker under it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .harness import RealDaemon


@pytest.mark.parametrize(
    ("command", "fields", "state", "cause"),
    [
        ("exit 7", {}, "failed", {"code": "exit_code", "exit_code": 7}),
        ("kill -9 $$", {}, "failed", {"code": "signal", "signal": 9}),
        ("yes", {"max_output_bytes": 1000}, "failed", {"code": "output_limit"}),
        ("sleep 3211", {"timeout_s": 0.1}, "timeout", {"code": "timeout"}),
    ],
)
def test_every_end_has_its_cause(
    daemon: RealDaemon, command: str, fields: dict[str, Any], state: str, cause: dict[str, Any]
) -> None:
    task = daemon.wait(daemon.shell("s", command, **fields)["task_id"])
    assert task["state"] == state
    assert {name: task["cause"].get(name) for name in cause} == cause
    assert task["cause"]["message"]
    assert task["transitions"][-1]["cause"] == task["attempts"][-1]["cause"] == task["cause"]


def test_output_stops_at_the_limit_that_the_task_asked_for(daemon: RealDaemon) -> None:
    task_id = daemon.wait(daemon.shell("s", "yes", max_output_bytes=1000)["task_id"])["task_id"]
    assert daemon.request("GET", f"/tasks/{task_id}/output").body == b"y\n" * 500


def test_a_task_knows_where_it_is_and_leaves_artifacts_and_a_result(daemon: RealDaemon) -> None:
    command = """
        echo "$AGENTD_SESSION_ID $AGENTD_TASK_ID $AGENTD_ATTEMPT $AGENTD_URL $PWD"
        echo made > "$AGENTD_ARTIFACTS/made.txt"
        echo '{"n": [1, 2]}' > "$AGENTD_RESULT"
        echo "$AGENTD_TOKEN" >&2
    """
    task = daemon.wait(daemon.shell("s", command)["task_id"])
    assert task["result"] == {"n": [1, 2]}
    said = daemon.request("GET", f"/tasks/{task['task_id']}/output?stream=out").body.decode().split()
    workspace = str(daemon.data_dir / "sessions" / "s" / "workspace")
    assert said == ["s", task["task_id"], "1", daemon.agent["url"], workspace]
    assert daemon.request("GET", "/sessions/s/artifacts/made.txt").body == b"made\n"
    token = daemon.request("GET", f"/tasks/{task['task_id']}/output?stream=err").body.decode().strip()
    assert token
    assert token != daemon.token
    assert daemon.request("GET", "/status", Authorization=f"Bearer {token}").status == 401, "it ends with the task"


def test_bytes_of_every_kind_are_on_disk_and_come_back_as_they_were(daemon: RealDaemon) -> None:
    python = r"""import sys; w = sys.stdout.buffer.write
w(b'\xff\xfe\x00 10%\r20%\r\n\x1b[31mred\x1b[0m\n'); w(b'x' * 10_000_000 + b'\n'); w(b'no line end')"""
    spec = {"argv": ["python3", "-c", python]}
    answer = daemon.request("POST", "/tasks", {"session_id": "s", "kind": "shell", "spec": spec})
    task_id = daemon.wait(answer.json["task_id"])["task_id"]
    wanted = b"\xff\xfe\x00 10%\r20%\r\n\x1b[31mred\x1b[0m\n" + b"x" * 10_000_000 + b"\nno line end"
    assert (daemon.data_dir / "sessions" / "s" / "output" / f"{task_id}.1.log").read_bytes() == wanted
    assert daemon.request("GET", f"/tasks/{task_id}/output").body == wanted
    index = (daemon.data_dir / "sessions" / "s" / "output" / f"{task_id}.1.idx").read_text().splitlines()
    assert sum(json.loads(line)["n"] for line in index) == len(wanted)
