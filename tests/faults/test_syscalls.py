"""Kills and errors at system calls of real daemons and workers: the short form of `scripts/faults kills errors`."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from pathlib import Path

import pytest

from faultlib import errors, kills, trap
from faultlib.injection import Call, Point, Verdict, Watched, unavailable
from faultlib.rig import SETTINGS, Rig

#: Calls that name or use a file and change none.
HARMLESS = {
    "access", "chdir", "close", "dup", "dup2", "execve", "epoll_ctl", "faccessat", "faccessat2", "fadvise64", "fcntl",
    "flock", "fstat", "fstatfs", "getcwd", "getdents64", "getxattr", "inotify_add_watch", "ioctl", "lseek", "lstat",
    "mmap", "newfstatat", "poll", "pread64", "read", "readlink", "readlinkat", "stat", "statfs", "statx",
}  # fmt: skip
STRACED = re.compile(r"(\d+) +(?:(\w+)\((.*)|<\.\.\. \w+ resumed>.*)")


@pytest.fixture(autouse=True)
def _supervised() -> None:
    if (reason := unavailable()) is not None:
        pytest.skip(reason)


def test_kills_at_system_calls_break_no_promise(tmp_path: Path) -> None:
    assert not kills.run(tmp_path, quick=True).wrong


def test_errors_at_system_calls_break_no_promise(tmp_path: Path) -> None:
    assert not errors.run(tmp_path, quick=True).wrong


def test_a_kill_strikes_before_the_call_that_it_is_aimed_at_or_half_way_through_it(tmp_path: Path) -> None:
    """The harness itself: what it says was written is what was."""
    for half in (False, True):
        gun = kills.Gun(kills.Aim("daemon", Point("write .format.json.tmp", 1), half))
        directory = tmp_path / f"half-{half}"
        told = kills.lived(directory, gun.judge)
        assert gun.struck is not None
        assert told.rig.process is not None
        assert told.rig.process.returncode == -9
        assert (directory / "data" / ".format.json.tmp").read_bytes() == (b'{"forma' if half else b"")


def test_no_call_that_changes_a_file_goes_unseen(tmp_path: Path) -> None:
    """strace sees the same calls, and none that the harness would not have stopped."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not here to compare with")
    rig = Rig(tmp_path / "data", **SETTINGS)
    seen: Counter[str] = Counter()

    def note(call: Call, point: Point) -> Verdict:
        seen[call.name] += 1
        return None

    straced = tmp_path / "straced"
    strace = ["strace", "-f", "-y", "-qq", "-o", str(straced), "-e", "trace=%file,%desc"]
    before = rig.agent_text()
    watched = Watched([shutil.which("strace") or "", *strace[1:], *rig.command()], rig.data_dir, note, rig.log_path)
    rig.process = watched.process
    try:
        rig.answered(before)
        rig.wait(rig.shell("s", "echo out; echo err >&2")["task_id"])
        assert rig.request("PUT", "/sessions/s/artifacts/a/b", b"content").status == 201
        assert rig.request("POST", "/shutdown").status < 300
        watched.process.wait(60)
    finally:
        rig.end()
    watched.join()
    lines = _changing(straced.read_text(errors="replace"), rig.data_dir)
    assert Counter(name for name, _ in lines) == seen, "\n".join(line for _, line in lines)


def _changing(straced: str, directory: Path) -> list[tuple[str, str]]:
    """The calls by which something beneath the directory was changed: name and line, in order."""
    inside = re.compile(re.escape(str(directory)) + r'[/">]')
    found: list[tuple[str, str]] = []
    unfinished: dict[str, tuple[str, str]] = {}  # by thread
    for line in straced.splitlines():
        if (match := STRACED.match(line)) is None:
            continue
        tid, name, arguments = match.groups()
        if name is None:
            call = unfinished.pop(tid, None)
        else:
            reads = name in trap.FLAGS_AT and not re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments)
            changes = name not in HARMLESS and not reads and inside.search(_subject(name, arguments))
            call = (name, line) if changes else None
            if call is not None:
                found.append(call)
                if line.endswith("<unfinished ...>"):
                    unfinished[tid] = call
        if call is not None and "ERESTART" in line:  # a signal came before its verdict: it is made once more
            found.remove(call)
    return found


def _subject(name: str, arguments: str) -> str:
    """Where the changed file stands among the arguments: bytes that are written may name one too."""
    return arguments.partition(", ")[0] if name.startswith(("write", "pwrite")) else arguments
