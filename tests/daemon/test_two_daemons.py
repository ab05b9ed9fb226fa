"""One directory has one daemon: who comes second is told who was first, whatever happened to the files between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import MakeDaemon
from .harness import RealDaemon, until

PATIENCE_S = 60.0


def refused(data_dir: Path, *inside: str) -> str:
    """What a daemon says that may not have the directory; `inside` is what runs it."""
    command = [*inside, *RealDaemon(data_dir).command()]
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


def test_a_link_to_a_directory_is_the_directory(make_daemon: MakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    daemon = make_daemon("link").start()
    assert daemon.agent["data_dir"] == str(tmp_path / "real")
    assert daemon.wait(daemon.shell("s", "true")["task_id"])["state"] == "completed"
    for name in ("real", "link"):
        assert "owned by a running daemon" in refused(tmp_path / name)
    assert daemon.stop() == 0
    check = [sys.executable, "-m", "agentd.cli.main", "--data-dir", str(tmp_path / "link"), "check"]
    assert subprocess.run(check, check=False, capture_output=True, timeout=PATIENCE_S).returncode == 0


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[Path, Path], None]]:
    """Mounts one directory on another, for the time of the test."""
    places: list[Path] = []

    def mount(what: Path, where: Path) -> None:
        where.mkdir(parents=True, exist_ok=True)
        if subprocess.run(["mount", "--bind", what, where], check=False, capture_output=True).returncode:
            pytest.skip("mounting needs root")
        places.append(where)

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", place], check=True)


def test_neither_another_mount_nor_another_pid_namespace_makes_a_second_owner(
    daemon: RealDaemon, tmp_path: Path, mounted: Callable[[Path, Path], None]
) -> None:
    mounted(daemon.data_dir, tmp_path / "mounted")
    assert "owned by a running daemon" in refused(tmp_path / "mounted")
    assert "owned by a running daemon" in refused(daemon.data_dir, "unshare", "--pid", "--fork", "--mount-proc")


def test_two_data_directories_with_the_same_sessions_have_one_daemon(
    daemon: RealDaemon, tmp_path: Path, mounted: Callable[[Path, Path], None]
) -> None:
    task_id = daemon.shell("s", "sleep 3085")["task_id"]
    daemon.state(task_id, "running")
    mounted(daemon.data_dir / "sessions", tmp_path / "other" / "sessions")
    assert "mounted in another data directory" in refused(tmp_path / "other")
    assert daemon.task(task_id)["state"] == "running"
    assert daemon.leftovers()


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
