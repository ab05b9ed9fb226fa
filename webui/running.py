"""Where the viewer of a secret runs: a note beside the secret, by which `agentd-web link` finds its address."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from agentd.client import UNREADABLE


class _Note(msgspec.Struct, frozen=True):
    pid: int
    url: str


@contextlib.contextmanager
def noted(secret_file: Path, url: str) -> Iterator[None]:
    """Leave the note while the viewer runs; where it cannot be written, only `link` misses it."""
    path = _path(secret_file)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        beside.write_bytes(msgspec.json.encode(_Note(os.getpid(), url)))
        os.replace(beside, path)
    try:
        yield
    finally:
        note = _read(path)
        if note is not None and note.pid == os.getpid():  # one that started later has its own there
            path.unlink(missing_ok=True)


def address(secret_file: Path) -> str | None:
    """The address of the viewer that runs by this secret; None when none does."""
    note = _read(_path(secret_file))
    return note.url if note is not None and _alive(note.pid) else None


def _path(secret_file: Path) -> Path:
    return secret_file.with_name(secret_file.name + ".running")


def _read(path: Path) -> _Note | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Note)
    except (OSError, *UNREADABLE):
        return None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
