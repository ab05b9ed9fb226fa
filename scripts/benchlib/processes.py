"""Processes: which there are, what they use (read from /proc), what they are started with, and waiting for them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

T = TypeVar("T")
#: How long anything may take on a busy machine; nothing takes as long unless it fails.
PATIENCE_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on (proc(5)); None when it has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def every_pid() -> list[int]:
    """All processes there are now."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    fields = stat_of(pid)
    return fields is not None and fields[0] not in "ZX"


def children() -> dict[int, list[int]]:
    """Of every process that has any."""
    found: dict[int, list[int]] = {}
    for pid in every_pid():
        if fields := stat_of(pid):
            found.setdefault(int(fields[1]), []).append(pid)
    return found


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    below = children()
    found = [root]
    for pid in found:
        found += below.get(pid, [])
    return found


def argv(pid: int) -> list[str]:
    """Its command line; empty for a zombie, and when it has gone."""
    line = os.fsdecode(_read(pid, "cmdline")).rstrip("\0")
    return line.split("\0") if line else []


def environ(pid: int) -> bytes:
    """Its environment when it began, NUL between the variables; empty as `argv` is, and when it is not ours."""
    return _read(pid, "environ")


def marked(mark: str) -> list[int]:
    """Living processes, but this one, that have the text in their command line."""
    return [pid for pid in every_pid() if pid != os.getpid() and mark in " ".join(argv(pid))]


def tagged(variable: str) -> list[int]:
    """Living processes whose environment has `NAME=value`."""
    wanted = variable.encode()
    return [pid for pid in every_pid() if wanted in environ(pid).split(b"\0")]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def descriptors(pid: int) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_s(root: int) -> float:
    """Processor seconds of a tree: its living processes and every child that they have waited for."""
    return sum(sum(map(int, fields[11:15])) for pid in tree(root) if (fields := stat_of(pid))) / TICKS


def exact_cpu_s(pid: int) -> float:
    """Processor seconds of one process, its threads together, to the nanosecond; its children are not in it."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{thread}/schedstat").read_text().split()[0])
    return total / 1e9


def rss_mib(pid: int) -> float:
    """Resident memory, in MiB."""
    return _status(f"/proc/{pid}/status", "VmRSS") / 1024


def peak_mib(pid: int) -> float:
    """The most resident memory that it ever had, in MiB."""
    return _status(f"/proc/{pid}/status", "VmHWM") / 1024


def wakeups(pid: int) -> int:
    """How often a thread of the process went to sleep and was woken, so far."""
    return sum(
        _status(f"/proc/{pid}/task/{n}/status", "voluntary_ctxt_switches") for n in os.listdir(f"/proc/{pid}/task")
    )


def _status(path: str, field: str) -> int:
    for line in Path(path).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)


def without_settings() -> dict[str, str]:
    """The environment of this process, but for settings of agentd."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AGENTD_")}


def free_port() -> int:
    """A port of the loopback that nobody listens on, for whoever takes it at once."""
    with held_port() as held:
        return int(held.getsockname()[1])


def held_port() -> socket.socket:
    """A port of the loopback that nobody else is given until this is closed; who knows it may listen there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def until(condition: Callable[[], T | None], within_s: float = PATIENCE_S, step_s: float = 0.002) -> T:
    """What the condition gives, once that is true.

    Raises:
        TimeoutError: it did not become true.
    """
    end = monotonic() + within_s
    while not (value := condition()):
        if monotonic() > end:
            raise TimeoutError(f"not so within {within_s} s: {condition}")
        sleep(step_s)
    return value


def shared_mib(pids: Sequence[int]) -> float:
    """Resident memory of processes together, in MiB; what they share is counted once (the sum of Pss, proc(5))."""
    total = 0
    for pid in pids:
        try:
            total += _status(f"/proc/{pid}/smaps_rollup", "Pss")
        except OSError:
            continue  # it has gone
    return total / 1024
