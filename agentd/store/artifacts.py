"""The artifacts of a session: files that its tasks and its clients put there. Blocking."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from agentd.clock import rfc3339
from agentd.errors import ArtifactNotFound, Conflict, StorageFailed, StorageFull, TooLarge
from agentd.model.requests import ArtifactView, Page
from agentd.store import inside, layout
from agentd.store.disk import is_full

_BLOCK = 256 << 10
#: Names looked at in one directory of a listing; more are not shown.
MAX_ENTRIES = 100_000

_NOT_A_PLACE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOTEMPTY, errno.EEXIST})


class OpenArtifact(NamedTuple):
    """An artifact opened for reading; the caller closes `file`, which has a descriptor for sendfile."""

    file: BinaryIO
    size: int
    modified_at: str

    def blocks(self) -> Iterator[bytes]:
        """Its first `size` bytes; fewer if it has become shorter."""
        left = self.size
        while left and (block := self.file.read(min(_BLOCK, left))):
            left -= len(block)
            yield block


class Artifacts:
    """A directory of a session: `artifacts/`, or another. Paths are relative, with `/`; symlinks are never followed."""

    def __init__(self, session_dir: Path, directory: str = layout.ARTIFACTS) -> None:
        self._session_dir = session_dir
        self._directory = directory

    def list(self, limit: int, cursor: str | None = None) -> Page[ArtifactView]:
        """At most `limit` files in the order of their paths, component by component; `cursor` is the last one seen.

        Only regular files whose path `inside.checked` accepts, at most 32 levels deep, are listed.

        Raises:
            Invalid: the cursor is not a path.
            StorageFailed: the directory cannot be read.
        """
        after = inside.checked(cursor, "cursor") if cursor else ()
        rows: list[ArtifactView] = []
        try:
            with self._top() as root:
                for row in _walk(root, (), after):
                    if len(rows) == limit:
                        return Page(data=tuple(rows), next=rows[-1].path if rows else None)
                    rows.append(row)
        except (FileNotFoundError, NotADirectoryError):
            pass  # a session that has none
        except OSError as error:
            raise StorageFailed(f"the artifacts cannot be listed: {error.strerror}") from error
        return Page(data=tuple(rows))

    def check(self) -> None:
        """See that all of them can be read, also those in directories that a listing passes over.

        Raises:
            StorageFailed: one cannot; it is named.
        """
        try:
            with self._top() as root:
                _check(root, ())
        except (FileNotFoundError, NotADirectoryError):
            pass  # a session that has none
        except OSError as error:
            raise StorageFailed(f"the artifacts cannot be read: {error.strerror}") from error

    def open(self, path: str) -> OpenArtifact:
        """The file, for reading.

        Raises:
            Invalid: not an acceptable path.
            ArtifactNotFound: no regular file is there.
        """
        names = inside.checked(path)
        try:
            with (
                inside.below(self._session_dir, self._directory) as root,
                inside.parent(root, names) as (parent, name),
            ):
                fd = inside.open_file(parent, name)
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(path) from None
        except OSError as error:
            raise _refused(path, error) from error
        found = os.fstat(fd)
        return OpenArtifact(os.fdopen(fd, "rb", buffering=0), found.st_size, rfc3339(found.st_mtime))

    def write(self, path: str, max_bytes: int) -> ArtifactWriter:
        """A writer that puts a new file at the path, or replaces the one there, when it is committed.

        Raises:
            Invalid: not an acceptable path.
            Conflict: a component of the path is a file or a symlink, or the path is a directory, or it was removed
                meanwhile.
            StorageFull, StorageFailed
        """
        return ArtifactWriter(self._session_dir, path, max_bytes)

    def delete(self, path: str) -> None:
        """Remove the file, and the directories that are empty then.

        Raises:
            Invalid: not an acceptable path.
            ArtifactNotFound: no regular file is there.
            StorageFailed
        """
        names = inside.checked(path)
        try:
            with self._top() as root:
                with inside.parent(root, names) as (parent, name):
                    if not inside.remove_file(parent, name):
                        raise _missing(path)
                _remove_empty(root, names[:-1])
        except (FileNotFoundError, NotADirectoryError):
            raise _missing(path) from None
        except OSError as error:
            raise _refused(path, error) from error

    def _top(self) -> AbstractContextManager[int]:
        return inside.below(self._session_dir, self._directory)

    def sweep(self) -> int:
        """Remove what writers left that were killed; how many files. Only when nothing writes here."""
        removed = 0
        root = self._session_dir / self._directory
        for place, directories, files, fd in os.fwalk(root, follow_symlinks=False):
            if len(Path(place).relative_to(root).parts) >= inside.MAX_DEPTH:
                directories.clear()  # no writer goes deeper
            for name in files:
                if name.startswith(inside.TEMPORARY):
                    removed += inside.remove_file(fd, name)
        return removed


class ArtifactWriter:
    """One file being written. Leaving the `with` block without `commit` removes what was written.

    It may be closed while another thread is in `write`, as when a client leaves: that is waited for.
    """

    def __init__(self, session_dir: Path, path: str, max_bytes: int) -> None:
        names = inside.checked(path)
        self._path = path
        self._max_bytes = max_bytes
        self._size = 0
        self._lock = Lock()
        self._stack = ExitStack()
        try:
            fd = self._stack.enter_context(inside.below(session_dir, layout.ARTIFACTS, make=True))
            self._parent, self._name = self._stack.enter_context(inside.parent(fd, names, make=True))
            self._fd, self._temporary = inside.create_temporary(self._parent)
        except OSError as error:
            self._stack.close()
            raise _refused(path, error) from error

    def write(self, chunk: bytes) -> None:
        """Append the chunk.

        Raises:
            TooLarge: the file would be larger than it may.
            StorageFull, StorageFailed
        """
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise TooLarge(f"artifact {self._path} is larger than {self._max_bytes} bytes (limits.artifact_bytes)")
        rest = memoryview(chunk)
        try:
            with self._lock:
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise _refused(self._path, error) from error

    def commit(self) -> ArtifactView:
        """Sync the file and put it in its place: after this it survives a power loss.

        Raises:
            Conflict: the path is a directory, or it was removed meanwhile.
            StorageFull, StorageFailed
        """
        try:
            with self._lock:
                os.fsync(self._fd)
                found = os.fstat(self._fd)
                os.rename(self._temporary, self._name, src_dir_fd=self._parent, dst_dir_fd=self._parent)
                self._temporary = ""
                os.fsync(self._parent)
        except OSError as error:
            raise _refused(self._path, error) from error
        return ArtifactView(path=self._path, size=found.st_size, modified_at=rfc3339(found.st_mtime))

    def close(self) -> None:
        """Remove what was not committed and let go of the descriptors. Again: no effect."""
        with self._lock:
            if self._fd < 0:
                return
            os.close(self._fd)
            self._fd = -1
            with self._stack, contextlib.suppress(OSError):  # the next recovery of the session sweeps it
                if self._temporary:
                    inside.remove_file(self._parent, self._temporary)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _walk(fd: int, above: tuple[str, ...], after: tuple[str, ...]) -> Iterator[ArtifactView]:
    """The files beneath a directory whose components come after `after`, in order."""
    depth = len(above)
    first = after[depth] if after[:depth] == above and len(after) > depth else ""
    for entry in sorted(inside.entries(fd, MAX_ENTRIES)):
        if entry.name < first:
            continue
        names = (*above, entry.name)
        if not entry.is_directory:
            found = inside.stat_file(fd, entry.name)
            path = "/".join(names)
            if names > after and found is not None and len(path.encode()) <= inside.MAX_PATH_BYTES:
                yield ArtifactView(path=path, size=found.st_size, modified_at=rfc3339(found.st_mtime))
        elif depth + 1 < inside.MAX_DEPTH:
            try:
                with inside.directory(entry.name, dir_fd=fd) as below:
                    yield from _walk(below, names, after)
            except (FileNotFoundError, NotADirectoryError, PermissionError):
                continue  # gone, replaced or closed to us meanwhile


def _check(fd: int, above: tuple[str, ...]) -> None:
    for entry in inside.entries(fd, MAX_ENTRIES):
        try:
            if not entry.is_directory:
                os.close(inside.open_file(fd, entry.name))
            elif len(above) + 1 < inside.MAX_DEPTH:
                with inside.directory(entry.name, dir_fd=fd) as below:
                    _check(below, (*above, entry.name))
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone or replaced meanwhile
        except OSError as error:
            path = "/".join((*above, entry.name))
            raise StorageFailed(f"artifact {path} cannot be read: {error.strerror}") from error


def _remove_empty(root: int, names: tuple[str, ...]) -> None:
    while names:
        with inside.parent(root, names) as (parent, name):
            try:
                os.rmdir(name, dir_fd=parent)
            except OSError:
                return  # not empty, or gone
        names = names[:-1]


def _missing(path: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"the session has no artifact {path}")


def _refused(path: str, error: OSError) -> StorageFailed | Conflict:
    if is_full(error):
        return StorageFull(f"no room for artifact {path}: {error.strerror}; free some space and send it again")
    if error.errno == errno.ENOENT:
        return Conflict(f"artifact {path}: its place was removed meanwhile, maybe with its session; nothing was kept")
    if error.errno in _NOT_A_PLACE:
        return Conflict(
            f"artifact {path}: a part of the path is a file, a directory or a link already; use another path"
        )
    return StorageFailed(f"artifact {path}: {error.strerror}")
