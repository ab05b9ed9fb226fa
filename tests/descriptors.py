"""What this process has open, for tests that let everything go."""

from __future__ import annotations

import os
from contextlib import suppress


def open_files() -> set[tuple[int, int, int]]:
    """Every descriptor, with the device and inode behind it.

    Held against an earlier set with `<=`, it tells what was left open, whatever garbage of other tests went meanwhile.
    """
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # that of the listing itself
            behind = os.fstat(fd)
            found.add((fd, behind.st_dev, behind.st_ino))
    return found
