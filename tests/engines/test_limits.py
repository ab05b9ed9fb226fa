"""Limits of a task: of each process, and of the whole tree where the system gives the daemon cgroups."""

# ruff: noqa: ASYNC240 - small files are read at once here

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local import cgroups
from agentd.errors import Invalid
from agentd.kinds.registry import kinds
from agentd.model.facts import Facts
from agentd.model.launch import EndedBy, ResourceLimits
from tests.control_groups import HAS_CONTROLLERS, delegated, group, needs_controllers, needs_groups

from .conftest import until

__all__ = ["delegated", "group"]  # fixtures


def members(group: Path) -> list[int]:
    return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]


# rlimits


async def test_processes_are_limited_in_each_of_them(lab: Any) -> None:
    _, output = await lab.run("grep 'Max processes' /proc/self/limits", limits=ResourceLimits(processes=123))
    assert output.split()[2:4] == [b"123", b"123"]


# real groups, without their limits


@needs_groups
async def test_the_whole_tree_is_in_the_group_and_the_group_goes_with_it(lab: Any, group: Path) -> None:
    launch = lab.launch(
        "setsid sleep 600 & cat /proc/self/cgroup; until [ -e go ]; do sleep 0.01; done", cgroup=str(group)
    )
    future = await lab.start(launch)
    own = group / f"task-{launch.attempt_id}"
    await until(lambda: own.exists() and len(members(own)) >= 2)
    (lab.directory / "go").touch()
    end = await future
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 0)
    assert not own.exists()
    assert f"/{group.name}/{own.name}\n" in Path(launch.log_path).read_text()


@needs_groups
async def test_a_lost_worker_leaves_no_group(lab: Any, group: Path) -> None:
    launch = lab.launch("sleep 600", cgroup=str(group))
    future = await lab.start(launch)
    own = group / f"task-{launch.attempt_id}"
    await until(lambda: own.exists() and members(own))
    os.kill(lab.worker_pid(launch.task_id), 9)
    assert (await future).ended_by is EndedBy.WORKER_LOST
    assert not own.exists()


@needs_groups
async def test_a_program_that_cannot_be_started_leaves_no_group(lab: Any, group: Path) -> None:
    end, _ = await lab.run("/no/such/program", "x", cgroup=str(group))
    assert end.ended_by is EndedBy.SPAWN_FAILED
    assert "does not exist" in end.message
    assert not list(group.glob("task-*"))


@needs_groups
@pytest.mark.skipif(HAS_CONTROLLERS, reason="the controllers are here")
async def test_a_limit_that_the_group_cannot_have_starts_nothing(lab: Any, group: Path) -> None:
    end, _ = await lab.run("true", cgroup=str(group), limits=ResourceLimits(cpus=0.5))
    assert end.ended_by is EndedBy.SPAWN_FAILED
    assert "cgroup" in end.message
    assert not list(group.glob("task-*"))


@needs_groups
async def test_other_limits_hold_in_a_group_too(lab: Any, group: Path) -> None:
    _, output = await lab.run("ulimit -n", cgroup=str(group), limits=ResourceLimits(files=50))
    assert output == b"50\n"


@needs_groups
def test_what_is_in_a_group_is_killed_with_it(group: Path) -> None:
    own = group / "task-x"
    cgroups.make(str(own), {})
    pid = os.fork()
    if pid == 0:
        cgroups.enter(str(own))
        os.execv("/bin/sleep", ["sleep", "600"])
    try:
        while not members(own):
            os.sched_yield()
        assert cgroups.remove(str(own))
    finally:
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -9
    assert not own.exists()


# real groups with their limits: where the controllers are


@pytest.fixture
def limited(delegated: Path) -> Path:
    """The group as a daemon that was started in it finds it, when it has moved down."""
    (delegated / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in cgroups.CONTROLLERS))
    return delegated


@needs_controllers
async def test_memory_of_the_whole_tree_is_bounded_and_its_end_told(lab: Any, limited: Path) -> None:
    script = f"{sys.executable} -c 'bytearray(b\"x\") * (128 << 20)'; sleep 600"
    end, _ = await lab.run(script, cgroup=str(limited), limits=ResourceLimits(memory_bytes=64 << 20))
    assert end.ended_by is EndedBy.OUT_OF_MEMORY


@needs_controllers
async def test_processes_of_the_whole_tree_are_bounded(lab: Any, limited: Path) -> None:
    script = "for i in 1 2 3 4 5 6; do sleep 600 & done; echo all"
    end, output = await lab.run(script, cgroup=str(limited), limits=ResourceLimits(processes=4))
    assert end.exit_code != 0
    assert b"all" not in output


# a scripted group: what is written where


@pytest.fixture
def scripted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plain files with the names of a group's; a new directory gets them as the kernel gives them."""
    make_directory, remove_directory = os.mkdir, os.rmdir
    names = "cgroup.procs", "cgroup.kill", "memory.max", "memory.oom.group", "cpu.max", "pids.max", "memory.events"

    def mkdir(path: str, mode: int = 0o777) -> None:
        make_directory(path, mode)
        for name in names:
            Path(path, name).touch()

    def rmdir(path: str) -> None:
        for name in names:
            Path(path, name).unlink(missing_ok=True)
        remove_directory(path)

    root = tmp_path / "cgroup"
    (root / "unit").mkdir(parents=True)
    for where in (root, root / "unit"):
        (where / "cgroup.controllers").write_text("cpuset cpu io memory pids\n")
        (where / "cgroup.subtree_control").touch()
        (where / "cgroup.procs").touch()
    (tmp_path / "membership").write_text("0::/unit\n")
    monkeypatch.setattr(os, "mkdir", mkdir)
    monkeypatch.setattr(os, "rmdir", rmdir)
    return root


def asked(root: Path) -> tuple[str, str]:
    return cgroups.delegated(str(root), str(root.parent / "membership"))


def test_a_delegated_group_is_taken_and_what_an_earlier_daemon_left_removed(scripted: Path) -> None:
    unit = scripted / "unit"
    os.mkdir(f"{unit}/task-left.1")
    assert asked(scripted) == (str(unit), "")
    assert (unit / "agentd" / "cgroup.procs").read_text() == str(os.getpid())
    assert (unit / "cgroup.subtree_control").read_text() == "+memory +cpu +pids"
    assert not (unit / "task-left.1").exists()


def test_a_daemon_that_has_moved_already_finds_the_group_above(scripted: Path) -> None:
    (scripted.parent / "membership").write_text("12:pids:/x\n0::/unit/agentd\n")
    (scripted / "unit" / "cgroup.subtree_control").write_text("cpu memory pids\n")
    assert asked(scripted) == (f"{scripted}/unit", "")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: (root / "unit" / "cgroup.controllers").write_text("cpu memory\n"), "has no pids"),
        (lambda root: (root / "cgroup.controllers").unlink(), "no cgroup v2"),
        (lambda root: (root.parent / "membership").write_text("3:cpu:/\n"), "no cgroup v2"),
        (lambda root: (root / "unit" / "cgroup.subtree_control").unlink(), "Delegate=yes"),
        (lambda root: (root.parent / "membership").unlink(), "Delegate=yes"),
    ],
)
def test_what_is_not_delegated_says_why(scripted: Path, spoil: Any, says: str) -> None:
    spoil(scripted)
    group, problem = asked(scripted)
    assert group == ""
    assert says in problem


def test_limits_are_written_as_the_kernel_reads_them(scripted: Path) -> None:
    group = scripted / "unit" / "task-a.1"
    cgroups.make(str(group), {"memory_bytes": 1 << 30, "cpus": 1.5, "processes": 64})
    found = {name: (group / name).read_text() for name in ("memory.max", "memory.oom.group", "cpu.max", "pids.max")}
    assert found == {
        "memory.max": "1073741824",
        "memory.oom.group": "1",
        "cpu.max": "150000 100000",
        "pids.max": "64",
    }


def test_an_end_for_lack_of_memory_is_read_from_the_events_of_the_group(tmp_path: Path) -> None:
    assert cgroups.oom_kills(str(tmp_path)) == 0
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert cgroups.oom_kills(str(tmp_path)) == 2


# at submission


def test_processors_are_refused_where_nothing_can_hold_them_to_it() -> None:
    spec = {"command": "true", "limits": {"cpus": 2}}
    with pytest.raises(Invalid, match="Delegate=yes") as refused:
        kinds(None, Facts(cgroup_problem="not delegated (systemd: Delegate=yes)"))["shell"].check(spec)
    assert refused.value.errors[0].field == "spec.limits.cpus"
    kinds(None, Facts(cgroup="/sys/fs/cgroup/unit"))["shell"].check(spec)
    kinds()["shell"].check({"command": "true", "limits": {"processes": 9, "memory_bytes": 1 << 30}})


@pytest.mark.parametrize("limits", [{"cpus": 0}, {"cpus": -1}, {"processes": 0}, {"cpus": "two"}, {"threads": 1}])
def test_limits_that_are_none_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        kinds(None, Facts(cgroup="/x"))["shell"].check({"command": "true", "limits": limits})
