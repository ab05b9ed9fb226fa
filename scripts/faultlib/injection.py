"""Decides over each system call by which a program under `trap` changes files of one directory: let it, fail it, kill.

strace can do that too, but counts for each thread by itself: which of forty threads makes the third fsync differs
from run to run. Here the calls of all threads and processes come through one place, in one order, each with the file
that it is about; so a point is named by what happens (`fdatasync sessions/a/history/events-000001.jsonl`, the 3rd
time), not by a number.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from faultlib import trap

_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_CONTINUE = 1
_AT_CWD = -100
#: Where the path stands in the calls that name one, and the descriptor it is relative to; of two, the new name.
_PATH_AT: dict[str, tuple[int | None, int]] = {
    "open": (None, 0), "creat": (None, 0), "truncate": (None, 0), "mkdir": (None, 0), "rmdir": (None, 0),
    "unlink": (None, 0), "chmod": (None, 0), "utimes": (None, 0), "rename": (None, 1), "link": (None, 1),
    "symlink": (None, 1), "openat": (0, 1), "mkdirat": (0, 1), "unlinkat": (0, 1), "fchmodat": (0, 1),
    "utimensat": (0, 1), "renameat": (2, 3), "renameat2": (2, 3), "linkat": (2, 3), "symlinkat": (1, 2),
}  # fmt: skip
#: Where the descriptor of the changed file stands in the others, when not first.
_FD_AT = {"splice": 2, "copy_file_range": 2}
_NEVER_THE_SAME = (
    (re.compile(r"\b[0-9]{6}(?=-(completed|failed|cancelled|timeout)-)"), "N"),
    (re.compile(r"\b[0-9a-hjkmnp-tv-z]{14}\b"), "T"),  # a task id
    (re.compile(r"(?<=refused-).*"), "TIME"),
    (re.compile(r"(?<=\.agentd-tmp-).*|(?<=\.token\.).*"), "X"),
    (re.compile(r"(?<=\.)[0-9]+\.[0-9a-f]{12}\b"), "X"),  # offset and hash of what is in quarantine
)


class Call(NamedTuple):
    """A call that waits for its verdict."""

    name: str
    path: str  #: relative to the directory
    pid: int  #: of the process
    tid: int
    args: tuple[int, ...]
    absolute: str

    @property
    def what(self) -> str:
        """The call and its file, without what differs from run to run."""
        path = self.path
        for pattern, name in _NEVER_THE_SAME:
            path = pattern.sub(name, path)
        return f"{self.name} {path}"

    @property
    def by(self) -> str:
        """Who makes it: `daemon`, `worker`, or `task` for anything else."""
        try:
            command = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return "task"
        if b"local/worker.py" in command:
            return "worker"
        return "daemon" if b"agentd.cli.main" in command else "task"

    def makes(self) -> bool:
        """Whether it needs room on the disk: bytes or a name."""
        if self.name in ("open", "openat"):
            return bool(self.args[trap.FLAGS_AT[self.name]] & os.O_CREAT) and not os.path.exists(self.absolute)
        if self.name == "write":
            return not self._within()
        return self.name not in ("fsync", "fdatasync", "ftruncate", "unlink", "unlinkat", "rmdir", "chmod", "fchmod")

    def _within(self) -> bool:
        """Whether a write goes over bytes of the file alone, as no disk without room refuses."""
        fd, _, size = self.args[:3]
        text = Path(f"/proc/{self.tid}/fdinfo/{fd}").read_text()
        at, flags = (int(re.search(rf"{field}:\s+(\d+)", text)[1], base) for field, base in (("pos", 10), ("flags", 8)))  # type: ignore[index]
        found = os.stat(f"/proc/{self.tid}/fd/{fd}")
        return not flags & os.O_APPEND and at + size <= found.st_blocks * 512

    def write_half(self) -> int:
        """Do the first half of a `write` in its place; how many bytes that is."""
        fd, address, size = self.args[:3]
        with open(f"/proc/{self.tid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            data = memory.read(size // 2)
        with open(f"/proc/{self.tid}/fd/{fd}", "ab", buffering=0) as file:
            return file.write(data)


class Point(NamedTuple):
    """A call, and the how manieth of its kind."""

    what: str
    n: int

    def __str__(self) -> str:
        return f"{self.what} #{self.n}"


#: What becomes of a call: None lets it through; a number is what it returns, negative the errno it fails with.
Verdict = int | None
Judge = Callable[[Call, Point], Verdict]


class Watched:
    """A program under supervision.

    `judge` is asked, in a thread, for every call of the program and its children that changes something beneath
    `directory`. What it kills with `kill` never makes its call.

    Raises:
        OSError: system calls cannot be supervised here; the text says why.
    """

    def __init__(self, command: Sequence[str], directory: Path, judge: Judge, log: Path) -> None:
        self.seen: list[tuple[Point, str]] = []  #: every call so far, and who made it
        self._directory = str(directory)
        self._judge = judge
        self._counts: Counter[str] = Counter()
        self._memory: dict[int, int] = {}
        ours, theirs = socket.socketpair()
        with ours, theirs:
            with open(log, "ab") as out:
                self.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", str(Path(trap.__file__)), str(theirs.fileno()), *command],
                    stdout=out,
                    stderr=out,
                    pass_fds=(theirs.fileno(),),
                )
            theirs.close()
            said, listeners, _, _ = socket.recv_fds(ours, 256, 1)
        if not listeners:
            self.process.wait()
            raise OSError(errno.ENOSYS, said.decode() or "the launcher died")
        self._listener = listeners[0]
        self._thread = threading.Thread(target=self._supervise, name="verdicts", daemon=True)
        self._thread.start()

    def kill(self, pid: int | None = None) -> None:
        """SIGKILL the program, or a process of it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid or self.process.pid, signal.SIGKILL)

    def join(self, within_s: float = 30) -> None:
        """Wait until every process with the filter is gone; the calls of what is left then fail with ENOSYS."""
        self._thread.join(within_s)

    def _supervise(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        try:
            while True:
                _, events = poller.poll()[0]
                if not events & select.POLLIN:  # nobody has the filter any more
                    return
                self._answer_one()
        finally:
            os.close(self._listener)
            for fd in self._memory.values():
                os.close(fd)

    def _answer_one(self) -> None:
        asked = bytearray(80)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, asked)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):  # it died, or was interrupted and asks again
                return
            raise
        identity, tid, _, number, _, _, *args = struct.unpack("QIIiIQ6Q", asked)
        try:
            call = self._call(number, tid, tuple(args))
            verdict = self._verdict(call) if call is not None else None
        except (OSError, ValueError):  # the process is gone: nobody waits for the answer
            verdict = None
        if verdict is None:
            answer = struct.pack("QqiI", identity, 0, 0, _CONTINUE)
        else:
            answer = struct.pack("QqiI", identity, max(0, verdict), min(0, verdict), 0)
        try:
            fcntl.ioctl(self._listener, _SEND, answer)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise

    def _verdict(self, call: Call) -> Verdict:
        self._counts[call.what] += 1
        point = Point(call.what, self._counts[call.what])
        self.seen.append((point, call.by))
        return self._judge(call, point)

    def _call(self, number: int, tid: int, args: tuple[int, ...]) -> Call | None:
        """The call, if it is about a file beneath the directory."""
        name = _NAMES[number]
        if name in _PATH_AT:
            at, where = _PATH_AT[name]
            path = os.fsdecode(self._text(tid, args[where]))
            if not path.startswith("/"):
                fd = ctypes.c_int(args[at]).value if at is not None else _AT_CWD
                base = os.readlink(f"/proc/{tid}/cwd" if fd == _AT_CWD else f"/proc/{tid}/fd/{fd}")
                path = f"{base}/{path}"
        else:
            path = os.readlink(f"/proc/{tid}/fd/{args[_FD_AT.get(name, 0)]}")
        if path != self._directory and not path.startswith(self._directory + "/"):
            return None
        return Call(name, path[len(self._directory) + 1 :] or ".", _process_of(tid), tid, args, path)

    def _text(self, tid: int, address: int) -> bytes:
        with open(f"/proc/{tid}/mem", "rb", buffering=0) as memory:
            text = b""
            while b"\0" not in text:  # to the end of the page each time: what follows may not be there
                memory.seek(address + len(text))
                text += memory.read(4096 - (address + len(text)) % 4096)
        return text.split(b"\0", 1)[0]


def _process_of(tid: int) -> int:
    with open(f"/proc/{tid}/status", "rb") as status:
        return int(re.search(rb"^Tgid:\s+(\d+)", status.read(), re.MULTILINE)[1])  # type: ignore[index]


_NAMES = {number: name for name, number in trap.NUMBERS.get(trap.machine() or "", {}).items()}


def unavailable() -> str | None:
    """Why system calls cannot be supervised here; None when they can."""
    try:
        watched = Watched(["/bin/true"], Path("/nowhere"), lambda call, point: None, Path(os.devnull))
    except OSError as error:
        return f"system calls cannot be supervised here: {error.strerror}"
    watched.process.wait()
    watched.join()
    return None
