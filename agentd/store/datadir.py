"""The data directory itself: made, told its format, and swept of what a crash left half done."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import msgspec

from agentd.errors import FormatTooNew, StorageFailed
from agentd.model.reading import read
from agentd.model.task import Value
from agentd.store import layout
from agentd.store.disk import Disk, failure, is_full, replace_file

#: With less room than this, no task can be taken: its event, its snapshot and its record.
PROBE_BYTES = 16 << 10


class _Format(Value, frozen=True, kw_only=True):
    format: int


def make_private(data_dir: Path) -> None:
    """Make the directory if need be, and keep others out, whoever made it: a checkout brings one that all may read.

    Raises:
        StorageFailed: it cannot be made, or belongs to another user, who could take it back.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(f"data_dir {data_dir} cannot be made: {error.strerror}") from error
    found = data_dir.stat()
    if found.st_uid != os.geteuid() and os.geteuid() != 0:
        raise StorageFailed(f"data_dir {data_dir} belongs to user {found.st_uid}; use a directory of your own")
    if found.st_mode & 0o077:
        data_dir.chmod(stat.S_IMODE(found.st_mode) & 0o700)


def prepare(disk: Disk, data_dir: str) -> None:
    """Make what is missing of DATA, DATA/sessions, DATA/quarantine and format.json. DATA's parent is there.

    Raises:
        FormatTooNew: a newer agentd wrote it; nothing was touched.
        StorageFailed: it cannot be made or read.
    """
    known = read_format(disk, data_dir)
    try:
        for directory in (data_dir, layout.sessions_dir(data_dir), layout.quarantine_dir(data_dir)):
            if not disk.exists(directory):
                disk.mkdir(directory)
        if known is None:
            write_format(disk, data_dir)
        # Always: who made them may have died before the sync.
        disk.fsync_dir(data_dir, "prepare.data_dir")
        with contextlib.suppress(PermissionError):  # a parent that we may not read is not ours to sync
            disk.fsync_dir(os.path.dirname(data_dir) or ".", "prepare.parent")
    except OSError as error:
        raise failure(error, f"the data directory {data_dir}") from error


def has_room(disk: Disk, data_dir: str) -> bool:
    """Find out now, not at the next task, whether the directory takes files; False when it is full.

    Raises:
        StorageFailed: it takes none for another reason.
    """
    path = f"{data_dir}/.probe"
    try:
        fd = disk.open(path, write=True)
        try:
            disk.write(fd, bytes(PROBE_BYTES))
        finally:
            disk.close(fd)
            disk.unlink(path)
    except OSError as error:
        if is_full(error):
            return False
        raise failure(error, f"the data directory {data_dir}") from error
    return True


def read_format(disk: Disk, data_dir: str) -> int | None:
    """The format of the data directory; None if it has none yet.

    Raises:
        FormatTooNew: this agentd is too old for it.
        StorageFailed: format.json cannot be read.
    """
    path = layout.format_path(data_dir)
    try:
        if not disk.exists(path):
            return None
        found = read(disk.read(path), _Format).format
    except OSError as error:
        raise StorageFailed(f"{path} cannot be read: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise StorageFailed(f'{path} is not {{"format": {layout.FORMAT}}}: {error}. Put it back.') from error
    if found < 1:
        raise StorageFailed(f'{path} is not {{"format": {layout.FORMAT}}}, but says format {found}. Put it back.')
    if found > layout.FORMAT:
        raise FormatTooNew(
            f"{data_dir} has format {found}, this agentd reads up to {layout.FORMAT}: use a newer agentd, "
            "or another data directory"
        )
    return found


def write_format(disk: Disk, data_dir: str) -> None:
    """Say which format the data directory has; durable after an `fsync_dir` of it. Raises OSError."""
    replace_file(disk, layout.format_path(data_dir), b'{"format": %d}\n' % layout.FORMAT, "prepare.format")


def sweep(disk: Disk, sessions_dir: str) -> list[str]:
    """Remove sessions that were never whole or are half deleted; their names.

    What is found is durable afterwards: a session whose creator died before its last sync is acknowledged from here on.

    Raises:
        StorageFailed: the disk refused.
    """
    try:
        left = [
            name for name in disk.listdir(sessions_dir) if name.startswith((layout.NEW_PREFIX, layout.DELETED_PREFIX))
        ]
        for name in left:
            try:
                _remove(disk, f"{sessions_dir}/{name}")
            except OSError:
                continue  # it is no session and hides none: not a reason not to start; `check` names it
        disk.fsync_dir(sessions_dir, "sweep.sessions_dir")
    except OSError as error:
        raise failure(error, f"the sweep of {sessions_dir}") from error
    return left


def remove_session(disk: Disk, sessions_dir: str, session_id: str) -> None:
    """Remove a session's directory. A crash half way leaves a name that the next start sweeps, not half a session.

    Raises:
        StorageFailed: the disk refused.
    """
    path, gone = f"{sessions_dir}/{session_id}", f"{sessions_dir}/{layout.DELETED_PREFIX}{session_id}"
    try:
        if disk.exists(gone):
            _remove(disk, gone)
        disk.rename(path, gone)
        try:
            disk.fsync_dir(sessions_dir, "remove.sessions_dir")
        except OSError:
            disk.rename(gone, path)  # refused, so it must be there after all
            raise
    except OSError as error:
        raise failure(error, f"session {session_id}") from error
    with contextlib.suppress(OSError):  # it is gone: what is left of it hides nothing
        _remove(disk, gone)


def _remove(disk: Disk, path: str) -> None:
    """Whatever has this name: somebody may have put a file or a link where a directory was."""
    if disk.entry(path).kind == "directory":
        disk.rmtree(path)
    else:
        disk.unlink(path)
