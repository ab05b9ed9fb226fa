"""agent.json: who serves a data directory, and where; how clients on the same machine find the daemon."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agentd.model import reading
from agentd.model.task import Value
from agentd.store import layout
from agentd.store.disk import Disk, failure, is_full


class AgentFile(Value, frozen=True, kw_only=True):
    """The daemon that last served the directory. It runs if its pid does and was started at `pid_started_at`."""

    agent_id: str
    boot_id: str
    pid: int
    pid_started_at: int  #: clock ticks since boot, field 22 of proc(5) stat
    url: str
    socket: str | None = None
    data_dir: str = ""
    version: str
    started_at: str


def read(data_dir: str) -> AgentFile | None:
    """agent.json, if it is there and readable."""
    try:
        return reading.read(Path(layout.agent_path(data_dir)).read_bytes(), AgentFile)
    except (OSError, msgspec.MsgspecError):
        return None


def write(disk: Disk, agent: AgentFile) -> None:
    """Replace agent.json whole. It is not synced: after a power loss no daemon runs that it could name.

    Where there is no room for another file the one that is there is written over: who wants to free some finds the
    daemon by it.

    Raises:
        StorageFailed: the disk refused.
    """
    path = layout.agent_path(agent.data_dir)
    temporary = f"{agent.data_dir}/.{layout.AGENT_FILE}.tmp"
    data = msgspec.json.format(msgspec.json.encode(agent)) + b"\n"
    try:
        try:
            _put(disk, temporary, data)
            disk.rename(temporary, path)
        except OSError as error:
            if not is_full(error) or not disk.exists(path):
                raise
            _put(disk, path, data)
    except OSError as error:
        raise failure(error, path) from error


def _put(disk: Disk, path: str, data: bytes) -> None:
    """The bytes, from the first on, in the blocks that the file has."""
    fd = disk.open(path, write=True)
    try:
        disk.write(fd, data)
        disk.truncate(fd, len(data))
    finally:
        disk.close(fd)


def is_copy(previous: AgentFile, data_dir: str) -> bool:
    """Whether the directory is a copy of another that is still there, rather than the same one, or moved."""
    original = Path(previous.data_dir)
    return bool(previous.data_dir) and original.is_dir() and not original.samefile(data_dir)
