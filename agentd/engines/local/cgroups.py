"""Control groups (cgroup v2) of attempts, where the system gave the daemon some of its own: limits of a whole tree.

Imported by the worker too: standard library only. Everything is a file: a directory is a group, what is written into
its files are its limits and its members (Documentation/admin-guide/cgroup-v2.rst of the kernel).
"""

from __future__ import annotations

import errno
import os
import time

#: What is a limit of the group, not of each of its processes.
LIMITS = ("memory_bytes", "cpus", "processes")
CONTROLLERS = ("memory", "cpu", "pids")
#: Where the daemon itself goes: a group with limits for groups within must have no process of its own.
OWN = "agentd"
#: The beginning of the names of attempts' groups.
ATTEMPT = "task-"
#: Microseconds over which processor time is shared out.
CPU_PERIOD_US = 100_000
#: How long a group whose processes have ended is tried to be removed, in seconds.
REMOVE_S = 1.0


def delegated(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> tuple[str, str]:
    """The directory for attempts' groups, with memory, cpu and pids enabled in it, and why there is none.

    It moves this process one group down, into `agentd`, and removes groups that an earlier daemon left.
    """
    try:
        with open(membership) as file:
            path = next((line.rstrip("\n")[3:] for line in file if line.startswith("0::")), None)
        if path is None or not os.path.exists(f"{root}/cgroup.controllers"):
            return "", "this system has no cgroup v2 (mounted at /sys/fs/cgroup)"
        group = f"{root}{path}".rstrip("/")
        if os.path.basename(group) == OWN:  # this process replaced one that had moved
            group = os.path.dirname(group)
        there = _read(f"{group}/cgroup.controllers").split()
        missing = [name for name in CONTROLLERS if name not in there]
        if missing:
            return "", f"the cgroup of the daemon, {group}, has no {', '.join(missing)}"
        _enable(group)
    except OSError as error:
        return "", f"the cgroup of the daemon is not delegated to it (systemd: Delegate=yes): {error}"
    for name in os.listdir(group):
        if name.startswith(ATTEMPT):
            remove(f"{group}/{name}")
    return group, ""


def _enable(group: str) -> None:
    if all(name in _read(f"{group}/cgroup.subtree_control").split() for name in CONTROLLERS):
        return
    own = f"{group}/{OWN}"
    os.makedirs(own, exist_ok=True)
    _write(f"{own}/cgroup.procs", str(os.getpid()))
    try:
        _write(f"{group}/cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))
    except OSError:  # others are in there, who are not ours to move
        _write(f"{group}/cgroup.procs", str(os.getpid()))
        os.rmdir(own)
        raise


def group_of(parent: str, attempt_id: str) -> str:
    """The group of an attempt."""
    return f"{parent}/{ATTEMPT}{attempt_id}"


def make(group: str, limits: dict[str, float]) -> None:
    """Make an attempt's group and set its limits: `memory_bytes`, `cpus`, `processes`.

    Raises:
        OSError: it cannot be made; nothing of it is left.
    """
    os.mkdir(group)
    try:
        if "memory_bytes" in limits:
            _write(f"{group}/memory.max", str(int(limits["memory_bytes"])))
            _write(f"{group}/memory.oom.group", "1")
        if "cpus" in limits:
            _write(f"{group}/cpu.max", f"{max(1000, round(limits['cpus'] * CPU_PERIOD_US))} {CPU_PERIOD_US}")
        if "processes" in limits:
            _write(f"{group}/pids.max", str(int(limits["processes"])))
    except OSError:
        os.rmdir(group)
        raise


def enter(group: str) -> None:
    """Put this process into it, and so all that it will start."""
    _write(f"{group}/cgroup.procs", "0")


def oom_kills(group: str) -> int:
    """How many of its processes the kernel has ended for lack of memory."""
    try:
        words = _read(f"{group}/memory.events").split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def kill(group: str) -> None:
    """SIGKILL all that is in it, at one stroke; no effect where the kernel (before 5.14) cannot."""
    try:
        _write(f"{group}/cgroup.kill", "1")
    except OSError:
        pass


def remove(group: str) -> bool:
    """End what is in it, and remove it; False when that was not possible."""
    deadline = time.monotonic() + REMOVE_S
    while True:
        try:
            os.rmdir(group)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                return False
        kill(group)
        time.sleep(0.01)


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
