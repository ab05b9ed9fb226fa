"""What is found when an attempt has ended: the result it left, and whether the system was out of memory.

Runs in the worker: standard library only.
"""

from __future__ import annotations

import os
import stat


def result(path: str, most: int) -> tuple[str | None, str]:
    """The text that the task left as its result, and what is wrong with it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"the result file was not read: {error.strerror}"
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None, "the result file was not read: it is not a regular file"
        data = b""
        while len(data) <= most and (more := os.read(fd, most + 1 - len(data))):
            data += more
    except OSError as error:
        return None, f"the result file was not read: {error.strerror}"
    finally:
        os.close(fd)
    if len(data) > most:
        return None, f"the result file was not kept: it is larger than {most} bytes"
    return data.decode(errors="replace"), ""


def remove_empty(path: str) -> None:
    """Take away a file that was made beforehand and in which nothing was left."""
    try:
        if stat.S_ISREG(os.lstat(path).st_mode) and os.lstat(path).st_size == 0:
            os.unlink(path)
    except OSError:
        pass  # it is gone, or stays: an empty file tells nothing


def oom_kills() -> int | None:
    """How many processes the kernel has ended for lack of memory; None when it does not say."""
    try:
        with open("/proc/vmstat", "rb", buffering=0) as file:
            text = file.read(1 << 16)
    except OSError:
        return None
    at = text.find(b"\noom_kill ")
    return int(text[at + 10 :].split(None, 1)[0]) if at >= 0 else None
