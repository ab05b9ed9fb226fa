"""What processes use, read from /proc."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep

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


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid in every_pid():
        if fields := stat_of(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


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


def tagged(variable: str) -> list[int]:
    """Living processes whose environment has `NAME=value`."""
    wanted = variable.encode()
    found = []
    for pid in every_pid():
        try:
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue  # gone, or not ours
    return found


def until(done: Callable[[], object], timeout_s: float, step_s: float = 0.002) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come.
    """
    end = monotonic() + timeout_s
    while not done():
        if monotonic() > end:
            raise TimeoutError(f"not reached within {timeout_s} s")
        sleep(step_s)


def shared_mib(pids: Sequence[int]) -> float:
    """Resident memory of processes together, in MiB; what they share is counted once (the sum of Pss, proc(5))."""
    total = 0
    for pid in pids:
        try:
            total += _status(f"/proc/{pid}/smaps_rollup", "Pss")
        except OSError:
            continue  # it has gone
    return total / 1024
