"""Files beneath a directory that names from outside may choose but never leave.

Every path is taken apart and opened one component at a time, relative to a directory descriptor and with O_NOFOLLOW,
so neither `..`, an absolute path nor a symlink (also one that is swapped in meanwhile) leads out. Only regular files
are opened. Nothing is ever written in place: a file is made under a temporary name and renamed, so a hard link to a
file elsewhere is replaced, not written through.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from agentd.errors import Invalid

MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_DEPTH = 32

#: Files of ours that are not complete yet; a name from outside may not begin so.
TEMPORARY = ".agentd-tmp-"

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: O_NONBLOCK: opening a fifo must not wait for its other end; it has no effect on regular files.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """One name in a directory."""

    name: str
    is_directory: bool


def checked(path: str, field: str = "path") -> tuple[str, ...]:
    """The components of a relative path.

    Raises:
        Invalid: empty, absolute, too long or too deep, or a component that is empty, `.`, `..`, has a control
            character, is not text, or begins like a temporary file of ours.
    """
    if path.startswith("/"):
        raise Invalid.field(field, "is absolute; use a path like reports/one.txt")
    names = tuple(path.split("/"))
    if len(names) > MAX_DEPTH:
        raise Invalid.field(field, f"has more than {MAX_DEPTH} components")
    for name in names:
        if problem := _problem(name):
            raise Invalid.field(field, f"component {name[:40]!r} {problem}")
    if len(path.encode()) > MAX_PATH_BYTES:
        raise Invalid.field(field, f"is longer than {MAX_PATH_BYTES} bytes")
    return names


def _problem(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "is not a name; use a path like reports/one.txt"
    if name.startswith(TEMPORARY):
        return f"begins with {TEMPORARY}, which is reserved"
    if "/" in name or any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in name):
        return "has a control character or a slash"
    try:
        if len(name.encode()) > MAX_NAME_BYTES:
            return f"is longer than {MAX_NAME_BYTES} bytes"
    except UnicodeEncodeError:
        return "is not valid text"
    return None


@contextmanager
def directory(path: Path | str, *, dir_fd: int | None = None) -> Iterator[int]:
    """A descriptor of a directory that is not a symlink.

    Raises:
        FileNotFoundError, NotADirectoryError, OSError
    """
    fd = os.open(path, _DIRECTORY, dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def below(path: Path, name: str, *, make: bool = False) -> Iterator[int]:
    """A descriptor of the directory `name` in another, neither of which is a symlink; `make` creates the first.

    Raises:
        FileNotFoundError, NotADirectoryError, OSError
    """
    with directory(path) as outer:
        inner = _descend(outer, name, make)
    try:
        yield inner
    finally:
        os.close(inner)


@contextmanager
def parent(root: int, names: tuple[str, ...], *, make: bool = False) -> Iterator[tuple[int, str]]:
    """The descriptor of the directory that holds the last of `names`, and that name; `make` creates what is missing.

    Raises:
        FileNotFoundError, NotADirectoryError: a component is missing, a file, or a symlink.
        OSError: anything else the disk refuses.
    """
    fd = os.dup(root)
    try:
        for name in names[:-1]:
            below = _descend(fd, name, make)
            os.close(fd)
            fd = below
        yield fd, names[-1]
    finally:
        os.close(fd)


def _descend(fd: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    try:
        os.mkdir(name, 0o700, dir_fd=fd)
        os.fsync(fd)
    except FileExistsError:
        pass  # made meanwhile by another
    return os.open(name, _DIRECTORY, dir_fd=fd)


def open_file(dir_fd: int, name: str) -> int:
    """A descriptor to read the regular file `name`; the caller closes it.

    Raises:
        FileNotFoundError: no such name, or it is a symlink, a directory, a fifo, a socket or a device.
        OSError: anything else the disk refuses.
    """
    try:
        fd = os.open(name, _READ, dir_fd=dir_fd)
    except OSError as error:
        # ELOOP: a symlink; ENXIO: a socket or a device without a driver.
        if not isinstance(error, FileNotFoundError | PermissionError) and stat_file(dir_fd, name) is None:
            raise FileNotFoundError(error.errno, "not a regular file", name) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(f"{name} is not a regular file")
    return fd


def stat_file(dir_fd: int, name: str) -> os.stat_result | None:
    """The stat of a regular file; None for everything else, a symlink among it."""
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def entries(dir_fd: int, limit: int) -> list[Entry]:
    """The regular files and directories in a directory, unsorted; at most `limit` names are looked at.

    Names that `checked` refuses, and temporary files, are passed over.
    """
    found: list[Entry] = []
    with os.scandir(dir_fd) as scan:
        for n, entry in enumerate(scan):
            if n >= limit:
                break
            if _problem(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                found.append(Entry(entry.name, True))
            elif entry.is_file(follow_symlinks=False):
                found.append(Entry(entry.name, False))
    return found


def create_temporary(dir_fd: int) -> tuple[int, str]:
    """A new empty file (0600) in the directory, to be written, synced and renamed; descriptor and name."""
    name = TEMPORARY + secrets.token_hex(8)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600, dir_fd=dir_fd), name


def remove_file(dir_fd: int, name: str) -> bool:
    """Remove a regular file; False when there is none.

    A symlink or a directory of that name is left alone.
    """
    if stat_file(dir_fd, name) is None:
        return False
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    return True
