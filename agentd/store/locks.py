"""The two locks that make an owner: on the data directory for a daemon's life, on a session while it is resident.

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
        self._fd: int | None = fd

    @classmethod
    def take(cls, path: Path) -> DirectoryLock | None:
        """Lock the directory; None when somebody else holds it.

        Raises:
            StorageFailed: it cannot be opened or locked at all.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StorageFailed(f"{path} cannot be opened: {error.strerror}") from error
        try:
            if lock_descriptor(fd, blocking=False):
                return cls(fd)
        except OSError as error:
            os.close(fd)
            raise StorageFailed(f"{path} cannot be locked: {error.strerror}") from error
        os.close(fd)
        return None

    def release(self) -> None:
        """Let go; again is no error."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
