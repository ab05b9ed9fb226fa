"""What containers hand on, with a real engine: values, a result, artifacts; and what an engine elsewhere cannot."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.kinds.containers import LEFT, Handed
from benchlib.processes import PATIENCE_S, free_port, until
from tests.container_engine import IMAGE, ContainerEngine
from tests.daemon.conftest import MakeDaemon
from tests.daemon.harness import RealDaemon
from tests.drivers.test_container import Driver
from tests.drivers.test_container_daemon import submit

STEPS = f"""
name: hand
steps:
  - id: inside
    docker:
      operation: run
      image: {IMAGE}
      user: "%s"
      command: |
        echo word=fern >> $AGENTD_OUTPUT
        echo '{{"found": [1, 2]}}' > $AGENTD_RESULT
        echo made %s
    outputs: [word]
  - id: outside
    needs: [inside]
    run: echo "$WORD"; ls "$AGENTD_ARTIFACTS"
    env: {{WORD: "${{{{ steps.inside.outputs.word }}}}"}}
"""


@pytest.fixture
def daemon(make_daemon: MakeDaemon, engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch) -> RealDaemon:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return make_daemon().start()


def run(daemon: RealDaemon, source: str) -> list[dict[str, Any]]:
    """Run a workflow to its end; its tasks, in order."""
    assert daemon.request("POST", "/sessions", {"session_id": "s"}).status == 201
    answer = daemon.request("POST", "/sessions/s/workflow", {"source": source})
    assert answer.status == 201, answer.body
    path = f"/sessions/s/workflows/{answer.json['run_id']}"
    until(lambda: daemon.get(path)["state"] not in ("running", "waiting", "queued"), PATIENCE_S)
    tasks: list[dict[str, Any]] = daemon.get("/sessions/s/tasks")["data"]
    return sorted(tasks, key=lambda task: str(task["created_at"]))


def test_a_step_in_a_container_hands_on_a_value_a_result_and_files(daemon: RealDaemon) -> None:
    inside, outside = run(daemon, STEPS % ("0", "> $AGENTD_ARTIFACTS/file"))
    assert (inside["state"], outside["state"]) == ("completed", "completed"), inside["cause"]
    assert inside["result"]["value"] == {"found": [1, 2]}
    assert daemon.request("GET", f"/tasks/{outside['task_id']}/output").body == b"fern\nfile\n"
    left = [path.name for path in (daemon.data_dir / "sessions/s/output").iterdir()]
    assert not [name for name in left if name.endswith(LEFT)]


@pytest.mark.slow
def test_a_user_of_the_container_s_own_hands_on_values_too(daemon: RealDaemon) -> None:
    inside, outside = run(daemon, STEPS % ("1234", ""))
    assert (inside["state"], outside["state"]) == ("completed", "completed"), inside["cause"]
    assert daemon.request("GET", f"/tasks/{outside['task_id']}/output").body == b"fern\n"


@pytest.mark.slow
def test_other_tasks_hand_over_when_they_ask_for_it(daemon: RealDaemon) -> None:
    show = "echo ${AGENTD_OUTPUT-none} ${AGENTD_RESULT-none} ${AGENTD_ARTIFACTS-none} ${AGENTD_TOKEN-none}"
    task = daemon.wait(submit(daemon, ["sh", "-c", show]))
    assert daemon.request("GET", f"/tasks/{task['task_id']}/output").body == b"none none none none\n"
    large = "dd if=/dev/zero bs=300000 count=1 2>/dev/null | tr '\\0' x > $AGENTD_RESULT"
    task = daemon.wait(submit(daemon, ["sh", "-c", f"{show}; {large}"], spec={"hand_over": True}))
    output = daemon.request("GET", f"/tasks/{task['task_id']}/output").body
    assert output.startswith(b"none /agentd/result /agentd/artifacts none\n")
    assert output.count(b"larger than 262144 bytes") == 1
    assert task["state"] == "completed"
    assert "value" not in task["result"]


@pytest.fixture
def elsewhere(engine: ContainerEngine, tmp_path: Path) -> Iterator[Driver]:
    """A driver that reaches the engine by TCP."""
    host = f"tcp://127.0.0.1:{free_port()}"
    with open(tmp_path / "log", "ab") as log:
        command = ["podman", "--runtime=runc", "system", "service", "--time=0", host]
        service = subprocess.Popen(command, env=engine.env, stdout=log, stderr=log)
    driver = Driver(tmp_path, host)
    try:
        until(lambda: not driver.reap("--agent", "nobody").problem)
        yield driver
    finally:
        driver.end()
        service.kill()
        service.wait()


@pytest.mark.slow
def test_an_engine_elsewhere_is_refused_what_must_be_handed_over_and_else_runs_without(elsewhere: Driver) -> None:
    handed = (Handed(variable="AGENTD_OUTPUT", source=str(elsewhere.result.parent / "output")),)
    command = ("sh", "-c", "echo ${AGENTD_OUTPUT-none}")
    ended = elsewhere.run(command=command, handed=handed)
    assert (ended.code, ended.out) == (0, b"none\n")
    assert b"cannot be handed on" in ended.err
    ended = elsewhere.run(command=command, handed=handed, must_hand_over=True)
    assert (ended.code, ended.out) == (125, b"")
    assert "hand_over needs an engine" in ended.record.problem
