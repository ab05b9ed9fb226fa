"""Files in places where a task may have put anything: written whole at every moment, read within bounds.

No link is followed at the name itself, so that what a task in a sandbox leaves there leads nobody out of it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

#: Bytes of a file that is read here.
READ_MOST = 1 << 20


def replace(path: Path, text: str) -> None:
    """Write a private file so that it is whole at every moment.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.unlink(missing_ok=True)  # of a process that had this id before
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def read(path: Path) -> bytes:
    """What a plain file holds.

    Raises:
        OSError: it is not there, is none, or holds more than READ_MOST bytes.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > READ_MOST:
            raise OSError(f"{path} is no file of at most {READ_MOST} bytes")
        return file.read(READ_MOST)
