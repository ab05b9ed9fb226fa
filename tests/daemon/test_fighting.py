"""Tasks that fight the daemon itself: it answers all the while, and what it shows is so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchlib.processes import argv, marked, stat_of, tagged

from .conftest import MakeDaemon
from .harness import RealDaemon, until

ROOT = os.getuid() == 0


def answers(daemon: RealDaemon) -> bool:
    return daemon.request("GET", "/status").status == 200


def test_it_kills_daemon_and_worker_at_once_and_hides_from_both(make_daemon: MakeDaemon) -> None:
    """Neither tag, parent nor session leads to what it left; the brand does."""
    daemon = make_daemon().start()
    sleep = f"sleep 3091.{os.getpid()}"  # of this run of the tests alone
    hidden = f"env -i /usr/bin/setsid /bin/sh -c 'env -i /usr/bin/setsid /bin/{sleep} & /bin/{sleep}' & "
    assert daemon.process is not None
    command = f"{hidden} while ! test -e go; do sleep 0.01; done; kill -9 {daemon.process.pid} $PPID; {sleep}"
    task_id = daemon.shell("s", command)["task_id"]
    until(lambda: [argv(pid)[:1] for pid in marked(sleep)].count(["/bin/sleep"]) == 2)
    (daemon.data_dir / "sessions/s/workspace/go").touch()
    until(daemon.ended)
    daemon.kill9()
    daemon.start()
    assert marked(sleep) == []
    assert daemon.task(task_id)["cause"]["code"] == "interrupted"


def test_it_traces_its_worker_and_the_daemon_answers(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(workers={"heartbeat_s": 0.5}).start()
    program = "import ctypes, os, time; ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0); time.sleep(3092.5)"
    task_id = daemon.shell("s", f"exec python3 -c '{program}'", timeout_s=30)["task_id"]
    until(lambda: answers(daemon) and daemon.task(task_id)["state"] in ("failed", "timeout"))
    assert daemon.task(task_id)["cause"]["code"] in ("worker_lost", "timeout")  # a system may refuse it to trace
    assert marked("3092.5") == []
    again = {"max": 5, "on": ["worker_lost"], "backoff_s": 0}  # a busy machine may keep a worker silent for as long
    assert daemon.wait(daemon.shell("s", "true", retry=again)["task_id"])["state"] == "completed"


def test_it_writes_as_fast_as_it_can_and_the_daemon_answers(daemon: RealDaemon) -> None:
    for _ in range(10):  # a machine may give the daemon no time while one of them writes
        task_id = daemon.shell("s", "cat /dev/zero", max_output_bytes=300_000_000)["task_id"]
        asked = 0
        while daemon.task(task_id)["state"] in ("queued", "running"):
            assert answers(daemon)
            asked += 1
        task = daemon.task(task_id)
        assert (task["cause"]["code"], task["attempts"][0]["output_bytes"]) == ("output_limit", 300_000_000)
        (daemon.data_dir / "sessions" / "s" / "output" / f"{task_id}.1.log").unlink()
        if asked > 3:
            break
    assert asked > 3


@pytest.mark.parametrize("instead", ["mkfifo", "ln -s /dev/zero", "mkdir", "ln -s ../../../token"])
def test_it_replaces_its_log_and_the_daemon_answers(daemon: RealDaemon, instead: str) -> None:
    log = daemon.data_dir / "sessions" / "s" / "output"
    command = (
        f"echo before; L={log}/$AGENTD_TASK_ID.1.log; while [ ! -s $L ]; do :; done; rm $L; {instead} $L; echo after"
    )
    task_id = daemon.shell("s", command)["task_id"]
    assert daemon.wait(task_id)["state"] == "completed"
    for path in ("output", "output/lines", "output/search?q=x", "stream"):
        answer = daemon.request("GET", f"/tasks/{task_id}/{path}")
        assert daemon.token.encode() not in answer.body
        assert answer.status < 500 or answer.json["code"]
    assert answers(daemon)


def test_it_puts_a_pipe_in_the_place_of_the_metadata_and_the_daemon_answers(daemon: RealDaemon) -> None:
    task_id = daemon.shell("s", "rm ../metadata.json; mkfifo ../metadata.json; echo done")["task_id"]
    assert daemon.wait(task_id)["state"] == "completed"
    assert daemon.wait(daemon.shell("s", "true")["task_id"])["state"] == "completed"
    assert daemon.request("PATCH", "/sessions/s", {"title": "again"}).status == 200
    until(lambda: (daemon.data_dir / "sessions/s/metadata.json").is_file())


def test_it_removes_the_directories_it_was_given_and_the_next_task_finds_new_ones(daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("s", "rm -rf $PWD $AGENTD_ARTIFACTS")["task_id"])
    task = daemon.wait(daemon.shell("s", "echo here > file; echo there > $AGENTD_ARTIFACTS/file")["task_id"])
    assert task["state"] == "completed", task["cause"]
    session = daemon.data_dir / "sessions" / "s"
    assert {(session / name).stat().st_mode & 0o777 for name in ("workspace", "artifacts")} == {0o700}


def test_it_leaves_a_result_that_is_none(daemon: RealDaemon) -> None:
    for script, says in (
        ("mkfifo $AGENTD_RESULT", "not a regular file"),
        ("truncate -s 1G $AGENTD_RESULT", "larger than"),
        (f"ln -s {daemon.data_dir}/token $AGENTD_RESULT", "was not read"),
    ):
        task = daemon.wait(daemon.shell("s", script)["task_id"])
        assert (task["state"], task["result"], says in task["cause"]["message"]) == ("completed", None, True)


# ---------------------------------------------------------------------- file systems of its own

needs_root = pytest.mark.skipif(not ROOT, reason="mounts file systems, which needs root")


def run(*argv: object) -> None:
    subprocess.run([str(each) for each in argv], check=True, capture_output=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", place)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no tmpfs can be mounted here: {error.stderr!r}")
    yield place
    subprocess.run(["umount", "-l", place], check=False)


@needs_root
def test_it_fills_the_disk_and_its_end_is_written_when_there_is_room(make_daemon: MakeDaemon, small_disk: Path) -> None:
    daemon = make_daemon("small/data").start()
    task_id = daemon.shell("s", "dd if=/dev/zero of=full bs=64k; sleep 0.1; exit 7")["task_id"]
    until(lambda: daemon.request("POST", "/tasks", {"session_id": "s", "spec": {"command": "true"}}).status == 507, 30)
    assert answers(daemon)
    until(lambda: "dd" not in " ".join(commands(task_id)), 30)
    (daemon.data_dir / "sessions" / "s" / "workspace" / "full").unlink()
    task = daemon.wait(task_id)
    assert (task["cause"]["code"], task["cause"]["exit_code"]) == ("exit_code", 7)
    assert daemon.wait(daemon.shell("s", "true")["task_id"])["state"] == "completed"


def commands(task_id: str) -> list[str]:
    """Command lines of what carries the task's tag."""
    return [" ".join(argv(pid)) for pid in tagged(f"AGENTD_TASK_ID={task_id}")]


class FrozenDisk:
    """A file system that can be frozen: whoever writes to it then sleeps, and no signal wakes it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.frozen = False
        self._begun = place.with_name("begun")

    def freeze(self) -> None:
        run("fsfreeze", "-f", self.place)
        self.frozen = True

    def thaw(self) -> None:
        if self.frozen:
            run("fsfreeze", "-u", self.place)
            self.frozen = False

    def writer(self, mark: str) -> str:
        """A command with the mark that writes to it, having begun."""
        program = f"open('{self._begun}', 'w').close(); open('{self.place}/x', 'w').write('{mark}')"
        return f'exec python3 -c "{program}"'

    def asleep(self, mark: str) -> list[int]:
        """Processes with the mark that sleep in their writing, uninterruptibly; before it any disk may, briefly."""
        if not self._begun.exists():
            return []
        return [pid for pid in marked(mark) if (stat_of(pid) or "?")[0] == "D"]


@pytest.fixture
def frozen_disk(tmp_path: Path) -> Iterator[FrozenDisk]:
    """Not frozen yet."""
    image, place = tmp_path / "image", tmp_path / "frozen"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(16 << 20)
    try:
        run("mkfs.ext4", "-q", image)
        run("mount", "-o", "loop", image, place)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop device here: {error}")
    disk = FrozenDisk(place)
    yield disk
    disk.thaw()
    until(lambda: subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0, 30)


@needs_root
def test_it_sleeps_uninterruptibly_and_is_shown_running_until_it_is_gone(
    make_daemon: MakeDaemon, frozen_disk: FrozenDisk
) -> None:
    daemon = make_daemon(workers={"grace_s": 0.1}).start()
    frozen_disk.freeze()
    task_id = daemon.shell("s", frozen_disk.writer("3093.5"))["task_id"]
    until(lambda: frozen_disk.asleep("3093.5"), 30)
    assert daemon.request("POST", f"/tasks/{task_id}/cancel").status == 202
    until(lambda: _pending_kill(frozen_disk.asleep("3093.5")), 30)
    task = daemon.task(task_id)  # it was killed, and lives
    assert (task["state"], task["cancel_requested_at"] is not None) == ("running", True)
    assert answers(daemon)
    frozen_disk.thaw()
    assert daemon.wait(task_id)["cause"]["code"] == "cancelled_by_user"
    assert marked("3093.5") == []


@needs_root
def test_a_stop_of_the_daemon_does_not_wait_for_what_sleeps_uninterruptibly(
    make_daemon: MakeDaemon, frozen_disk: FrozenDisk
) -> None:
    daemon = make_daemon(drain_s=0.1, workers={"grace_s": 0.1}).start()
    frozen_disk.freeze()
    task_id = daemon.shell("s", frozen_disk.writer("3094.5"))["task_id"]
    until(lambda: frozen_disk.asleep("3094.5"), 30)
    assert daemon.stop(within_s=90) == 0
    assert frozen_disk.asleep("3094.5")
    shown = json.loads((daemon.data_dir / "sessions" / "s" / "tasks.json").read_text())["tasks"][0]
    assert shown["state"] == "running"  # it was, when the daemon left
    frozen_disk.thaw()
    until(lambda: not marked("3094.5"), 30)
    daemon.start()
    assert daemon.task(task_id)["cause"]["code"] == "shutdown"


def _pending_kill(pids: list[int]) -> bool:
    """Whether SIGKILL waits for one of them to wake."""
    for pid in pids:
        status = Path(f"/proc/{pid}/status").read_text()
        for line in status.splitlines():
            if line.startswith(("SigPnd:", "ShdPnd:")) and int(line.split()[1], 16) & 1 << (signal.SIGKILL - 1):
                return True
    return False
