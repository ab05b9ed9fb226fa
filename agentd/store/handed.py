"""What an attempt hands on: the file AGENTD_OUTPUT of a workflow's step."""

from __future__ import annotations

import os
from pathlib import Path

from agentd.store import inside, layout
from agentd.store.disk import Disk


def read_handed(session: Path, task_id: str, attempt: int, most: int) -> bytes:
    """The first `most` bytes of the file; nothing where there is none. Blocking.

    Raises:
        OSError: it cannot be read.
    """
    name = layout.output_handed(task_id, attempt).rsplit("/", 1)[1]
    try:
        with inside.below(session, layout.OUTPUT) as directory:
            fd = inside.open_file(directory, name)
    except FileNotFoundError:
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(most)


def sync_handed(disk: Disk, session: Path, task_id: str, attempt: int) -> None:
    """Make the file durable, if there is one: the end of its attempt must not outlive it. Blocking.

    Raises:
        OSError: it may be lost when the power goes.
    """
    path = f"{session}/{layout.output_handed(task_id, attempt)}"
    if not disk.exists(path):
        return
    fd = disk.open(path, append=True)
    try:
        disk.fsync(fd, "handed.file")
    finally:
        disk.close(fd)
    disk.fsync_dir(layout.output_dir(str(session)), "handed.dir")
