"""File systems in images of their own, mounted where nobody else sees them, whose power can be cut.

Whatever uses them runs inside namespaces of mounts and processes (`inside`): when that ends, however it ends, the
kernel ends every process in them, unmounts, and frees the loop devices.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Set
from functools import cache
from pathlib import Path
from typing import Any

_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_SHUTDOWN = 0x8004587D  #: FS_IOC_SHUTDOWN of ext4 and XFS

#: How the power is cut: with nothing more written, or after the file system wrote its log, though not the data.
NOTHING_MORE, LOG_WRITTEN = 2, 1

#: The file systems: how they are made, the size of their image in bytes, and how they are mounted.
KINDS = {
    "ext4": (("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,nodiscard", "-J", "size=4"), 24 << 20, "loop"),
    "xfs": (("mkfs.xfs", "-q", "-f", "-K"), 300 << 20, "loop,nouuid"),
}

#: The sync that short forms leave out, and those whose absence the long forms of all layers must show.
QUICK_POINTS = frozenset({"append.journal"})
SHOWN = QUICK_POINTS | {
    "create.journal",
    "create.metadata",
    "create.tasks",
    "open.journal",
    "prepare.format",
    "quarantine.file",
    "remove.sessions_dir",
    "segment.journal",
    "view.record",
    "view.tasks",
}


def unnoticed(expected: Set[str], shown: Set[str], quick: bool) -> list[str]:
    """What to report of the syncs whose absence should have been noticed, and was on no file system."""
    missed = sorted((QUICK_POINTS if quick else expected) - shown)
    return [f"without the sync {point} no file system loses anything" for point in missed]


def kinds() -> list[str]:
    """The file systems that can be made and mounted here."""
    return [kind for kind in KINDS if _refused(kind) is None]


def missing() -> str | None:
    """Why no file system can be mounted here; None when one can."""
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root and unshare"
    reasons = [f"{kind}: {why}" for kind in KINDS if (why := _refused(kind)) is not None]
    return "; ".join(reasons) if len(reasons) == len(KINDS) else None


@cache
def _refused(kind: str) -> str | None:
    """Why it cannot be made, mounted and cut here; None when it can. A device may be there and be of no use: tried."""
    program = KINDS[kind][0][0]
    if not shutil.which(program, path=_path()):
        return f"needs {program}"
    return refused("faultlib.images", kind)


def refused(module: str, *arguments: str) -> str | None:
    """The last that a module's program complains of, given a directory and the arguments; None when it succeeds."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            inside(module, directory, *arguments)
        except RuntimeError as error:
            return str(error).strip().splitlines()[-1]
    return None


def inside(module: str, *arguments: str) -> Any:
    """What a module's program prints as JSON, run in namespaces of its own.

    Raises:
        RuntimeError: it failed; with what it wrote to stderr.
    """
    argv = [*_NAMESPACES, sys.executable, "-m", module, *arguments]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each), "PATH": _path()}
    done = subprocess.run(argv, capture_output=True, env=environ, text=True)
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {done.stderr[-3000:]}")
    return json.loads(done.stdout)


def memory(directory: Path) -> Path:
    """The directory with a disk in memory over it: fast, and gone with the namespace. Only `inside`."""
    directory.mkdir(parents=True, exist_ok=True)
    run("mount", "-t", "tmpfs", "-o", "mode=0700", "tmpfs", str(directory))
    return directory


class Image:
    """One file system in a file, mounted at `root`. Only `inside`."""

    def __init__(self, kind: str, directory: Path, source: Path | None = None, *, made: bool = False) -> None:
        """Make and mount it, in a new file or in `source`: a file or device of the right size, or one `made` before."""
        make, size, self._options = KINDS[kind]
        self.root = directory / "root"
        self.root.mkdir(parents=True)
        self.source = source or directory / "image"
        if source is None:
            with self.source.open("wb") as file:
                file.truncate(size)
        if not made:
            run(*make, str(self.source))
            self.mount()

    def mount(self) -> None:
        """Mount it; the file system replays its log. Raises subprocess.CalledProcessError when it cannot."""
        run("mount", "-o", self._options, str(self.source), str(self.root))

    def mount_or_mend(self) -> bool:
        """Mount it, after a check by the file system's own program if it cannot be mounted; whether that was needed.

        A superblock of ext4 is two sectors, written in place: torn between them it is found again in its copies.
        Raises subprocess.CalledProcessError when it cannot be mounted even so.
        """
        try:
            self.mount()
            return False
        except subprocess.CalledProcessError:
            subprocess.run(
                ["e2fsck", "-fy", str(self.source)], capture_output=True, env={**os.environ, "PATH": _path()}
            )
            self.mount()
            return True

    def unmount(self) -> None:
        """Unmount it. Nobody has a file of it open."""
        run("umount", str(self.root))

    def cut(self, how: int) -> None:
        """Cut the power: from here on every write fails, and what the disk lacks is lost."""
        cut(str(self.root), how)

    def remount(self) -> None:
        """The power is back."""
        self.unmount()
        self.mount()


def cut(root: str, how: int) -> None:
    """Cut the power of the file system mounted there."""
    fd = os.open(root, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(fd)


def run(*argv: str) -> str:
    """What a program of the system prints. Raises subprocess.CalledProcessError, with what it complained of."""
    done = subprocess.run(argv, capture_output=True, text=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, " ".join(argv), done.stdout, done.stderr)
    return done.stdout.strip()


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"


if __name__ == "__main__":
    tried = Image(sys.argv[2], memory(Path(sys.argv[1])))
    tried.cut(NOTHING_MORE)
    tried.unmount()
    print("null")
