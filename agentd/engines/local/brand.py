"""A mark that a process does not lose with its session, its parents or its environment.

It is a limit, RLIMIT_LOCKS of setrlimit(2), which the kernel has not looked at since 2.4.25: it passes through every
fork and exec, /proc/PID/limits shows it to everybody, and only root can raise it again. Workers are given it, and so
all that they start has it.
"""

from __future__ import annotations

import hashlib
import resource

_RLIMIT_LOCKS = 10
_LINE = b"\nMax file locks "


def brand_of(agent_id: str) -> int:
    """The number that stands for an agent."""
    return int.from_bytes(hashlib.sha256(agent_id.encode()).digest()[:7]) | 1 << 56


def put(pid: int, brand: int) -> bool:
    """Mark a process and all that it will start; False where it has a lower limit already, as under another agent."""
    try:
        resource.prlimit(pid, _RLIMIT_LOCKS, (brand, brand))
    except (OSError, ValueError):
        return False
    return True


def brand_on(pid: int) -> int | None:
    """The mark of a process; None when it has none, or is gone."""
    try:
        with open(f"/proc/{pid}/limits", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    soft = text[text.find(_LINE) + len(_LINE) :].split(None, 1)[0] if _LINE in text else b""
    return int(soft) if soft.isdigit() else None
