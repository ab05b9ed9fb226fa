"""What is cut or found damaged is kept first: DATA/quarantine, named by source, offset and content. Never deleted."""

from __future__ import annotations

import hashlib

from agentd.store import layout
from agentd.store.disk import Disk, replace_file


def keep(disk: Disk, session_dir: str, file: str, offset: int, data: bytes) -> str:
    """Copy the bytes to quarantine; they are durable when it returns the name of the copy.

    Again with the same bytes is no second copy. Raises OSError.
    """
    data_dir = layout.data_dir_of(session_dir)
    directory = layout.quarantine_dir(data_dir)
    if not disk.exists(directory):
        disk.mkdir(directory)
        disk.fsync_dir(data_dir, "quarantine.parent")
    source = f"{session_dir.rsplit('/', 1)[1]}.{file}"
    name = layout.quarantine_name(source, offset, hashlib.sha256(data).hexdigest())
    replace_file(disk, f"{directory}/{name}", data, "quarantine.file")
    disk.fsync_dir(directory, "quarantine.dir")
    return name
