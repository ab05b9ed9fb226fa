"""A daemon to which the system gave control groups of its own holds tasks to their limits.

Where the kernel of this machine has no controllers, they are run by another: Debian's `user-mode-linux`, which is a
program, with this machine's files as its own, read-only.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.control_groups import HAS_CONTROLLERS, delegated, group, needs_controllers

from .harness import RealDaemon, until

__all__ = ["delegated", "group"]  # fixtures

MIB = 1 << 20
ROOT = Path(__file__).parents[2]


class DaemonOfGroup(RealDaemon):
    """A daemon that is started in a group, or where an earlier one has moved: a group with groups takes no process."""

    def __init__(self, data_dir: Path, group: Path) -> None:
        super().__init__(data_dir)
        self.group = group

    def command(self) -> list[str]:
        join = f"echo $$ >{self.group}/agentd/cgroup.procs || echo $$ >{self.group}/cgroup.procs"
        return ["/bin/sh", "-c", f"{{ {join}; }} 2>/dev/null; exec {shlex.join(super().command())}"]

    def tasks(self) -> list[str]:
        """The groups of tasks that are there."""
        return [path.name for path in self.group.glob("task-*")]

    def limited(self, command: str, **limits: float) -> str:
        """A task with limits; its id."""
        task_id: str = self.shell("s", "", spec={"command": command, "limits": limits})["task_id"]
        return task_id


@pytest.fixture
def daemon(tmp_path: Path, delegated: Path) -> Iterator[DaemonOfGroup]:
    daemon = DaemonOfGroup(tmp_path / "data", delegated)
    yield daemon.start()  # type: ignore[misc]
    daemon.end()


@needs_controllers
def test_a_task_that_takes_more_memory_than_it_may_is_ended_whole_and_says_so(daemon: DaemonOfGroup) -> None:
    hungry = f"sleep 600 & {sys.executable} -c 'bytearray(b\"x\") * {256 * MIB}'; wait"
    task = daemon.wait(daemon.limited(hungry, memory_bytes=64 * MIB))
    assert (task["state"], task["cause"]["code"]) == ("failed", "out_of_memory")
    assert daemon.tasks() == []
    assert daemon.wait(daemon.limited("echo on"))["state"] == "completed"


@needs_controllers
def test_a_task_has_the_processors_and_the_processes_that_it_may_have(daemon: DaemonOfGroup) -> None:
    told = "cd /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup) && cat cpu.max pids.max"
    task = daemon.wait(daemon.limited(told, cpus=0.25, processes=7))
    assert task["state"] == "completed"
    answer = daemon.request("GET", f"/tasks/{task['task_id']}/output")
    assert answer.body == b"25000 100000\n7\n"


@needs_controllers
def test_a_daemon_that_was_killed_with_its_workers_finds_no_group_that_it_left(daemon: DaemonOfGroup) -> None:
    task_id = daemon.limited("sleep 600", processes=7)
    daemon.state(task_id, "running")
    until(lambda: len(daemon.tasks()) == 1)
    workers = [worker["pid"] for worker in daemon.workers()]
    daemon.kill9()
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    daemon.start()
    assert daemon.task(task_id)["state"] != "running"
    assert daemon.tasks() == []


@pytest.mark.slow
@pytest.mark.skipif(HAS_CONTROLLERS, reason="this machine's kernel runs them")
def test_a_kernel_with_the_controllers_holds_tasks_to_their_limits(tmp_path: Path) -> None:
    linux = shutil.which("linux.uml")
    if linux is None:
        pytest.skip("no Linux to run; on Debian: apt install user-mode-linux")
    init = tmp_path / "init"
    tests = "tests/engines/test_limits.py tests/daemon/test_limits.py"
    init.write_text(
        "#!/bin/sh\n"
        "mount -t proc proc /proc && mount -t sysfs sys /sys && mount -t cgroup2 groups /sys/fs/cgroup\n"
        "mkdir -p /dev/pts /dev/shm && mount -t devpts pts /dev/pts && mount -t tmpfs shm /dev/shm\n"
        "mount -t tmpfs run /run && mount -t tmpfs scratch /media && ip link set lo up\n"
        "export TMPDIR=/media HOME=/media LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1\n"
        f"export PATH={shlex.quote(os.environ['PATH'])}\n"
        f"cd {shlex.quote(str(ROOT))}\n"
        f"setsid {sys.executable} -m pytest -q -p no:cacheprovider --color no -rs -m 'not slow' {tests} 2>&1\n"
        "halt -f\n"
    )
    init.chmod(0o755)
    machine = ["rootfstype=hostfs", "rootflags=/", "ro", "mem=1G", "con=null", "con0=fd:0,fd:1", "quiet"]
    env = {**os.environ, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}  # its memory and its files
    run = [linux, *machine, f"init={init}"]
    done = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=600)
    passed = re.search(r"^(\d+) passed, 1 skipped", done.stdout, re.MULTILINE)
    assert passed, done.stdout + done.stderr
    assert "the controllers are here" in done.stdout  # which is the one that was skipped
