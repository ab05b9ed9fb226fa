"""One directory has one daemon: who comes second is told who was first, whatever happened to the files between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, until

PATIENCE_S = 60.0


def refused(data_dir: Path) -> str:
    """What a daemon says that may not have the directory."""
    command = RealDaemon(data_dir).command()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_second_daemon_is_refused_and_told_who_holds_the_directory(daemon: RealDaemon) -> None:
    assert daemon.process is not None
    said = refused(daemon.data_dir)
    assert f"pid {daemon.process.pid}" in said
    assert daemon.agent["url"] in said
    assert "owned by a running daemon" in refused(daemon.data_dir / ".." / daemon.data_dir.name)
    assert daemon.request("GET", "/status").status == 200


@pytest.mark.parametrize("loss", ["nothing", "agent.json", "every file", "an agent.json of another"])
def test_what_happens_to_the_files_frees_no_directory(daemon: RealDaemon, loss: str) -> None:
    if loss == "agent.json":
        (daemon.data_dir / "agent.json").unlink()
    elif loss == "every file":
        for path in daemon.data_dir.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif loss == "an agent.json of another":
        other = {**daemon.agent, "pid": 1, "url": "http://127.0.0.1:1"}
        (daemon.data_dir / "agent.json").write_text(json.dumps(other))
    assert "owned by a running daemon" in refused(daemon.data_dir)
    assert not daemon.ended()


def test_an_agent_file_that_a_dead_daemon_left_holds_nothing_up(daemon: RealDaemon) -> None:
    left = (daemon.data_dir / "agent.json").read_text()
    daemon.kill9()
    stale = {**json.loads(left), "pid": os.getpid()}  # as if the pid had been given to somebody else
    (daemon.data_dir / "agent.json").write_text(json.dumps(stale))
    daemon.start()
    assert daemon.request("GET", "/status").json["agent_id"] == stale["agent_id"]


@pytest.mark.parametrize("before", ["new", "clean", "killed"])
def test_of_five_that_start_at_once_one_wins(tmp_path: Path, make_daemon: MakeDaemon, before: str) -> None:
    data_dir = tmp_path / "data"
    if before != "new":
        first = make_daemon().start()
        first.shell("s", "sleep 60")
        first.kill9() if before == "killed" else first.stop()
    many = [make_daemon() for _ in range(5)]
    logs = []
    for number, each in enumerate(many):
        logs.append(tmp_path / f"{number}.log")
        with open(logs[-1], "wb") as log:
            each.process = subprocess.Popen(each.command(), stdout=log, stderr=log)
    until(lambda: sum(each.ended() for each in many) == 4, PATIENCE_S)
    winner = next(each for each in many if not each.ended())
    assert winner.process is not None
    until(lambda: json.loads(winner.agent_text() or b'{"pid":0}')["pid"] == winner.process.pid, PATIENCE_S)  # type: ignore[union-attr]
    for each, place in zip(many, logs, strict=True):
        if each is not winner:
            assert each.process is not None
            assert each.process.returncode == 2
            assert "owned by a running daemon" in place.read_text()
            assert "Traceback" not in place.read_text()
    winner.agent = json.loads(winner.agent_text())
    winner.token = (data_dir / "token").read_text().strip()
    winner.connect()
    task = winner.shell("after", "true")
    assert winner.wait(task["task_id"], PATIENCE_S)["state"] == "completed"
    assert winner.stop(PATIENCE_S) == 0
