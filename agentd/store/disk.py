"""Every call the store makes to the operating system, so that a simulated disk can stand in for it.

A sync takes the name of its sync point, as docs/storage.md lists them: a disk that leaves one out is how the tests
prove that each is needed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import stat
from typing import NamedTuple, Protocol

from agentd.errors import StorageFailed, StorageFull

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # renameat2(2)
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class Entry(NamedTuple):
    """What a name stands for, links not followed; `kind` is file, directory, link or other."""

    kind: str
    mode: int
    size: int


class Disk(Protocol):
    """Files and directories by absolute path. Every method may raise OSError."""

    def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
        """A descriptor. `write` and `append` create the file if it is not there; a link as last part is refused."""

    def write(self, fd: int, data: bytes) -> None:
        """Write all of it, however short the single writes are."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""

    def truncate(self, fd: int, size: int) -> None:
        """Set the length of the file in bytes."""

    def fsync(self, fd: int, point: str) -> None:
        """Make the file durable."""

    def fdatasync(self, fd: int, point: str) -> None:
        """Make the file's bytes and length durable."""

    def fsync_dir(self, path: str, point: str = "") -> None:
        """Make the names in the directory durable."""

    def close(self, fd: int) -> None:
        """Give the descriptor back."""

    def read(self, path: str) -> bytes:
        """The whole file."""

    def rename(self, source: str, target: str) -> None:
        """Give the file or directory another name, replacing a file that has it."""

    def exchange(self, one: str, other: str) -> bool:
        """Let two files change names, in one step; False where the system cannot."""

    def unlink(self, path: str) -> None:
        """Remove the file."""

    def mkdir(self, path: str) -> None:
        """Make the directory, 0700."""

    def rmtree(self, path: str) -> None:
        """Remove the directory and all in it; links are removed, not followed."""

    def linked(self, fd: int) -> bool:
        """Whether the open file still has a name."""

    def listdir(self, path: str) -> list[str]:
        """The names in the directory, in no order."""

    def exists(self, path: str) -> bool:
        """Whether something has this name, links not followed."""

    def size(self, path: str) -> int:
        """The length of the file in bytes."""

    def entry(self, path: str) -> Entry:
        """What the name stands for."""

    def chmod(self, path: str, mode: int) -> None:
        """Set the permissions of a file or directory."""


class RealDisk:
    """The disk of the machine: descriptors are not inherited, files are 0600, directories 0700."""

    def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe put in a file's place must not hold us
        flags |= os.O_RDWR | os.O_CREAT if write or append else os.O_RDONLY
        flags |= os.O_APPEND if append else 0
        flags |= os.O_TRUNC if truncate else 0
        return os.open(path, flags, FILE_MODE)

    def write(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        data = os.pread(fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        done = len(data)
        while done < size and (data := os.pread(fd, size - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def truncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fsync(self, fd: int, point: str) -> None:
        os.fsync(fd)

    def fdatasync(self, fd: int, point: str) -> None:
        os.fdatasync(fd)

    def fsync_dir(self, path: str, point: str = "") -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, path: str) -> bytes:
        fd = self.open(path)
        try:
            return self.pread(fd, os.fstat(fd).st_size, 0)
        finally:
            os.close(fd)

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)

    def exchange(self, one: str, other: str) -> bool:
        if _renameat2 is None:
            return False
        if _renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
            return True
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            return False
        raise OSError(number, os.strerror(number), other)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        os.mkdir(path, DIRECTORY_MODE)

    def rmtree(self, path: str) -> None:
        shutil.rmtree(path)

    def linked(self, fd: int) -> bool:
        return os.fstat(fd).st_nlink > 0

    def listdir(self, path: str) -> list[str]:
        return os.listdir(path)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def size(self, path: str) -> int:
        return os.lstat(path).st_size

    def entry(self, path: str) -> Entry:
        found = os.lstat(path)
        kind = "other"
        if stat.S_ISREG(found.st_mode):
            kind = "file"
        elif stat.S_ISDIR(found.st_mode):
            kind = "directory"
        elif stat.S_ISLNK(found.st_mode):
            kind = "link"
        return Entry(kind, stat.S_IMODE(found.st_mode), found.st_size)

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(path, mode)


def replace_file(disk: Disk, path: str, data: bytes, point: str) -> None:
    """Replace the file as a whole: whoever opens it, before or after a crash, finds the old bytes or the new.

    The new name is durable only after an `fsync_dir` of the directory, where that matters.
    """
    disk.rename(write_beside(disk, path, data, point), path)


def write_beside(disk: Disk, path: str, data: bytes, point: str) -> str:
    """The path of a temporary file that has the data, durable, to take the place of the one at `path`."""
    directory, name = os.path.split(path)
    temporary = f"{directory}/.{name}.tmp"
    fd = disk.open(temporary, write=True, truncate=True)
    try:
        disk.write(fd, data)
        disk.fsync(fd, point)
    finally:
        disk.close(fd)
    return temporary


def is_full(error: OSError) -> bool:
    """Whether it says that there is no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def failure(error: OSError, what: str) -> StorageFailed:
    """The error to raise for a refused write; `what` begins the sentence, as in `session x: the journal`."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    if is_full(error):
        return StorageFull(f"{what} was not written: {reason}. Free space on the disk of the data directory.")
    return StorageFailed(f"{what} was not written: {reason}. See to the disk of the data directory.")
