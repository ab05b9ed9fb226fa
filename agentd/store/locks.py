"""The locks that make an owner: on the data directory and its sessions/ for a daemon's life, on a session in memory.

A lock sits on the directory itself (flock on its descriptor), so deleting a lock file cannot free it, and it goes
with the process however that ends.
"""

from __future__ import annotations

import os
from pathlib import Path

from filelock import lock_descriptor

from agentd.errors import StorageFailed


class DirectoryLock:
    """An exclusive lock on a directory, held until `release` or the end of the process."""

    def __init__(self, fd: int) -> None:
        self._fds = [fd]

    @classmethod
    def take(cls, path: Path) -> DirectoryLock | None:
        """Lock the directory; None when somebody else holds it.

        Raises:
            StorageFailed: it cannot be opened or locked at all.
        """
        fd = _locked(path)
        return None if fd is None else cls(fd)

    def also(self, path: Path) -> bool:
        """Hold another directory as well, as long as this one; False when somebody else holds it.

        Raises:
            StorageFailed: it cannot be opened or locked at all.
        """
        fd = _locked(path)
        if fd is not None:
            self._fds.append(fd)
        return fd is not None

    def release(self) -> None:
        """Let go; again is no error."""
        while self._fds:
            os.close(self._fds.pop())


def _locked(path: Path) -> int | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise StorageFailed(f"{path} cannot be opened: {error.strerror}") from error
    try:
        if lock_descriptor(fd, blocking=False):
            return fd
    except OSError as error:
        os.close(fd)
        raise StorageFailed(f"{path} cannot be locked: {error.strerror}") from error
    os.close(fd)
    return None
