"""Processes as /proc shows them: who descends from whom, who carries a tag, and signals that cannot hit a stranger.

Imported by the worker too, so it needs nothing but the standard library. The kernels it must run on may lack
`/proc/<pid>/task/*/children`, so a tree is found by reading every `/proc/<pid>/stat` once.
"""

from __future__ import annotations

import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

PR_SET_CHILD_SUBREAPER = 36
#: Between two looks; a process that is just being executed shows no environment for a moment.
SECOND_LOOK_S = 0.002


class Process:
    """One process at one moment. `pid` and `started_at` (clock ticks since boot) together are its identity.

    `zombie`: it has ended, every thread of it, and waits to be collected.
    """

    __slots__ = ("group", "parent", "pid", "session", "started_at", "zombie")

    def __init__(self, pid: int, parent: int, group: int, session: int, started_at: int, zombie: bool) -> None:
        self.pid = pid
        self.parent = parent
        self.group = group
        self.session = session
        self.started_at = started_at
        self.zombie = zombie


def become_subreaper() -> None:
    """Make this process the parent of every descendant whose own parent dies (prctl(2)).

    Raises:
        OSError: the kernel refuses.
    """
    import ctypes  # slow to import, and wanted once

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def read_process(pid: int) -> Process | None:
    """The process, or None when there is none of that number."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(1024)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None  # gone, or kept from us by the way /proc is mounted: then it is nobody of ours
    return parsed(pid, text)


def parsed(pid: int, text: bytes) -> Process:
    """The process that a /proc/PID/stat tells of (proc(5)): its name may hold anything, the fields behind it do not."""
    fields = text[text.rindex(b")") + 2 :].split()
    # One whose first thread has left is shown as a zombie, too, while its others run.
    over = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]), over)


def started_at(pid: int) -> int | None:
    """Clock ticks since boot at which the process started (field 22 of proc(5) stat)."""
    process = read_process(pid)
    return process.started_at if process is not None else None


def snapshot() -> dict[int, Process]:
    """Every process, zombies included, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = read_process(int(name))
            if process is not None:
                found[process.pid] = process
    return found


def descendants(processes: Mapping[int, Process], roots: Collection[int]) -> list[Process]:
    """All processes below the roots, parents before children."""
    children: dict[int, list[Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    seen = set(roots)
    todo = list(roots)
    while todo:
        for child in children.get(todo.pop(), ()):
            if child.pid not in seen:
                seen.add(child.pid)
                found.append(child)
                todo.append(child.pid)
    return found


def ancestors(processes: Mapping[int, Process], pid: int) -> set[int]:
    """The process itself and all above it."""
    found: set[int] = set()
    while pid and pid not in found:
        found.add(pid)
        process = processes.get(pid)
        pid = process.parent if process is not None else 0
    return found


def tag(pid: int, name: bytes) -> str | None:
    """The value that the process was given for an environment variable when it was executed.

    None also for a process that is gone or belongs to another user.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            text = file.readall()
    except OSError:
        return None
    return value_in(text, name)


def value_in(text: bytes, name: bytes) -> str | None:
    """The value of a variable in a /proc/PID/environ, which the process may have written over since."""
    start = (b"\0" + text).find(b"\0" + name + b"=")
    return os.fsdecode(text[start + len(name) + 1 :].split(b"\0", 1)[0]) if start >= 0 else None


def open_handle(process: Process) -> int | None:
    """A pidfd of exactly this process; None when it is gone, even if its number was given to another."""
    try:
        handle = os.pidfd_open(process.pid)
    except OSError:
        return None
    if started_at(process.pid) == process.started_at:
        return handle
    os.close(handle)
    return None


def send(process: Process, number: int) -> bool:
    """Signal exactly this process; False when it is gone or not ours to signal."""
    handle = open_handle(process)
    if handle is None:
        return False
    try:
        signal.pidfd_send_signal(handle, number)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def kill_trees(processes: Iterable[Process]) -> int:
    """SIGKILL processes and the groups they are in; returns how many lived until then.

    A group is killed at one stroke, which also stops what is forking faster than /proc can be read. A group of
    the caller's own session is never touched as a group.
    """
    own = os.getsid(0)
    killed = 0
    groups = set()
    for process in processes:
        if process.zombie or not send(process, signal.SIGKILL):
            continue
        killed += 1
        if process.session != own and process.group > 1:
            groups.add(process.group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # all of it is gone already, or changed its user
    return killed


def wait_gone(processes: Iterable[Process], timeout_s: float) -> bool:
    """Wait until every process has ended (a zombie has); False when the time was not enough."""
    deadline = time.monotonic() + timeout_s
    poller = select.poll()
    open_handles = set()
    for process in processes:
        handle = open_handle(process)
        if handle is not None:
            open_handles.add(handle)
            poller.register(handle, select.POLLIN)
    try:
        while open_handles:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for handle, _ in poller.poll(left * 1000):
                poller.unregister(handle)
                open_handles.remove(handle)
                os.close(handle)
        return True
    finally:
        for handle in open_handles:
            os.close(handle)


def kill_all(look: Callable[[], list[Process]], timeout_s: float) -> tuple[int, bool]:
    """SIGKILL what `look` finds, again until it finds nothing, and reap what is a child of ours.

    Two looks in a row must find nothing, as one look is not a single moment. Returns how many were killed, and
    whether all are gone.
    """
    deadline = time.monotonic() + timeout_s
    killed: set[tuple[int, int]] = set()
    clean = 0
    pause_s = 0.005
    while True:
        targets = look()
        for process in targets:
            if process.zombie and process.parent == os.getpid():
                reap(process.pid)
        living = [process for process in targets if not process.zombie]
        clean = 0 if living else clean + 1
        if clean == 2:
            return len(killed), True
        if not living:
            time.sleep(SECOND_LOOK_S)
        else:
            kill_trees(living)
            killed.update((process.pid, process.started_at) for process in living)
            if time.monotonic() > deadline:
                return len(killed), False
            wait_gone(living, min(pause_s, max(0.0, deadline - time.monotonic())))
            pause_s = min(pause_s * 2, 0.2)


def reap(pid: int) -> None:
    """Collect a child that has ended; nothing happens if it lives or is none of ours."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass  # somebody else's child, or collected before
