"""Containers as tasks of a real daemon, with a real engine: whatever dies, no container is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.container_engine import IMAGE, ContainerEngine
from tests.daemon.conftest import MakeDaemon
from tests.daemon.harness import RealDaemon, until

STUBBORN = ["sh", "-c", "trap '' TERM; echo runs; while :; do sleep 0.1; done"]


@pytest.fixture
def daemon(make_daemon: MakeDaemon, engine: ContainerEngine, monkeypatch: pytest.MonkeyPatch) -> RealDaemon:
    """A daemon with the engine."""
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return make_daemon(workers={"grace_s": 2.0}).start()


def submit(daemon: RealDaemon, command: list[str], **fields: Any) -> str:
    spec = {"operation": "run", "image": IMAGE, "command": command, **fields.pop("spec", {})}
    answer = daemon.request("POST", "/sessions/s/task", {"kind": "docker", "spec": spec, **fields})
    if answer.status == 404:
        assert daemon.request("POST", "/sessions", {"session_id": "s"}).status == 201
        answer = daemon.request("POST", "/sessions/s/task", {"kind": "docker", "spec": spec, **fields})
    assert answer.status == 201, answer.body
    return str(answer.json["task_id"])


def stubborn(daemon: RealDaemon, engine: ContainerEngine, **fields: Any) -> str:
    """A task whose container runs, and does not care about SIGTERM."""
    task_id = submit(daemon, STUBBORN, **fields)
    until(lambda: daemon.request("GET", f"/tasks/{task_id}/output").body == b"runs\n")
    assert len(engine.running()) == 1
    return task_id


def driver_of(daemon: RealDaemon, task_id: str) -> int:
    pid = until(lambda: daemon.task(task_id)["attempts"][-1]["pid"])
    assert isinstance(pid, int)
    return pid


def mark(daemon: RealDaemon) -> Path:
    return daemon.data_dir / "containers"


def test_a_container_runs_in_the_workspace_and_its_streams_are_output(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    script = "echo out; echo err >&2; echo made > /work/file; exit 3"
    task_id = submit(daemon, ["sh", "-c", script], spec={"mounts": [{"source": ".", "target": "/work"}]})
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"], task["cause"]["exit_code"]) == ("failed", "exit_code", 3)
    assert (task["result"]["exit_code"], task["result"]["image"]) == (3, IMAGE)
    assert daemon.request("GET", f"/tasks/{task_id}/output?stream=out").body == b"out\n"
    assert daemon.request("GET", f"/tasks/{task_id}/output?stream=err").body == b"err\n"
    assert (daemon.data_dir / "sessions/s/workspace/file").read_text() == "made\n"
    assert engine.containers() == []
    until(lambda: not mark(daemon).exists())


@pytest.mark.slow
def test_the_shorthand_takes_the_spec_flat(daemon: RealDaemon, engine: ContainerEngine) -> None:
    flat = {"operation": "run", "image": IMAGE, "command": "echo $A", "env": {"A": "b"}, "session_id": "s"}
    answer = daemon.request("POST", "/tasks/docker", flat)
    assert answer.status == 201, answer.body
    assert daemon.wait(answer.json["task_id"])["state"] == "completed"
    assert daemon.request("GET", f"/tasks/{answer.json['task_id']}/output").body == b"b\n"


@pytest.mark.slow
def test_a_cancelled_one_and_one_that_takes_too_long_leave_no_container(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    task_id = stubborn(daemon, engine)
    assert daemon.request("POST", f"/tasks/{task_id}/cancel").status == 202
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "cancelled_by_user")
    assert engine.containers() == []
    task = daemon.wait(submit(daemon, STUBBORN, timeout_s=3))
    assert (task["state"], task["cause"]["code"]) == ("timeout", "timeout")
    assert engine.containers() == []


def test_a_killed_driver_leaves_no_container_when_its_task_has_ended(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    task_id = stubborn(daemon, engine)
    os.kill(driver_of(daemon, task_id), signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"], task["cause"]["signal"]) == ("failed", "signal", 9)
    assert task["cause"]["message"] == "ended by signal 9 (SIGKILL)"
    assert engine.containers() == []


@pytest.mark.slow
def test_a_killed_worker_leaves_no_container_when_its_task_has_ended(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    task_id = stubborn(daemon, engine)
    [worker] = [each for each in daemon.workers() if each["task_id"] == task_id]
    os.kill(worker["pid"], signal.SIGKILL)
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"]) == ("failed", "worker_lost")
    assert engine.containers() == []


def test_a_killed_daemon_leaves_no_container_once_another_answers(daemon: RealDaemon, engine: ContainerEngine) -> None:
    task_id = stubborn(daemon, engine)
    driver = driver_of(daemon, task_id)
    [worker] = [each for each in daemon.workers() if each["task_id"] == task_id]
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGSTOP)  # nobody shall remove the container
    for pid in (worker["pid"], driver):
        os.kill(pid, signal.SIGKILL)
    daemon.kill9()
    assert len(engine.running()) == 1
    assert mark(daemon).exists()
    daemon.start()
    assert engine.containers() == []
    task = daemon.wait(task_id)
    assert (task["state"], task["cause"]["code"]) == ("failed", "interrupted")
    assert not mark(daemon).exists()


@pytest.mark.slow
def test_a_killed_daemon_takes_its_containers_along_before_another_starts(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    stubborn(daemon, engine)
    daemon.kill9()
    until(lambda: engine.containers() == [])


@pytest.mark.slow
def test_a_daemon_that_stops_leaves_no_container(daemon: RealDaemon, engine: ContainerEngine) -> None:
    daemon.stop()
    daemon.settings["drain_s"] = 0
    daemon.start()
    task_id = stubborn(daemon, engine)
    assert daemon.stop() == 0
    assert engine.containers() == []
    daemon.start()
    assert daemon.wait(task_id)["cause"]["code"] == "shutdown"


@pytest.mark.slow
def test_without_an_engine_the_cause_says_what_is_left_and_it_is_removed_later(
    daemon: RealDaemon, engine: ContainerEngine
) -> None:
    task_id = stubborn(daemon, engine)
    [container_id] = engine.running()
    engine.stop()
    os.kill(driver_of(daemon, task_id), signal.SIGKILL)
    task = daemon.wait(task_id)
    assert f"its container {container_id} may be left" in task["cause"]["message"]
    assert f"label=agentd.attempt={task_id}.1" in task["cause"]["message"]
    assert engine.running() == [container_id]
    daemon.stop()
    assert mark(daemon).exists()
    daemon.start()  # still no engine: it serves all the same
    assert mark(daemon).exists()
    daemon.stop()
    engine.start()
    daemon.start()
    assert engine.containers() == []
    assert not mark(daemon).exists()


@pytest.mark.slow
def test_what_could_not_be_removed_is_once_the_engine_is_back(daemon: RealDaemon, engine: ContainerEngine) -> None:
    task_id = stubborn(daemon, engine)
    engine.stop()
    os.kill(driver_of(daemon, task_id), signal.SIGKILL)
    assert "may be left" in daemon.wait(task_id)["cause"]["message"]
    engine.start()
    until(lambda: not mark(daemon).exists())
    assert engine.containers() == []


@pytest.mark.slow
def test_no_engine_and_no_image_fail_with_a_sentence(daemon: RealDaemon, engine: ContainerEngine) -> None:
    task = daemon.wait(submit(daemon, ["true"], spec={"image": "absent:1", "pull": "never"}))
    assert (task["state"], task["cause"]["code"]) == ("failed", "spawn_failed")
    assert "there is no image 'absent:1' here" in task["cause"]["message"]
    engine.stop()
    task = daemon.wait(submit(daemon, ["true"]))
    assert (task["state"], task["cause"]["code"]) == ("failed", "spawn_failed")
    assert engine.host in task["cause"]["message"]
    assert "may be left" not in task["cause"]["message"]
