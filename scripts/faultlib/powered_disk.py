"""The disk of the machine below some directory, with what the simulated one has for tests beside the protocol."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

from agentd.store.disk import Entry, RealDisk

Hook = Callable[["PoweredDisk", str, str], None]
_libc = ctypes.CDLL(None, use_errno=True)


class PoweredDisk(RealDisk):
    """Paths begin at `root`; `hook(disk, operation, path)` runs before each change and may raise, or cut the power."""

    def __init__(self, root: str, *, skip: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.skip = skip
        self.points: set[str] = set()
        self.hook: Hook | None = None
        self.on_unwatched: Callable[[], None] = lambda: None  #: told before a change while there is no hook
        self.short_write: int | None = None  #: a write that the hook fails has put so many bytes down
        self._paths: dict[int, str] = {}

    def _tick(self, operation: str, path: str) -> None:
        if self.hook is not None:
            self.hook(self, operation, path)
        else:
            self.on_unwatched()

    def _at(self, path: str) -> str:
        return self.root + path

    # ------------------------------------------------------------------ the protocol

    def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
        if write or append:
            self._tick("open", path)
        fd = super().open(self._at(path), write=write, append=append, truncate=truncate)
        self._paths[fd] = path
        return fd

    def write(self, fd: int, data: bytes) -> None:
        try:
            self._tick("write", self._paths[fd])
        except OSError:
            if self.short_write:
                super().write(fd, data[: self.short_write])
            raise
        super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        self._tick("truncate", self._paths[fd])
        super().truncate(fd, size)

    def fsync(self, fd: int, point: str) -> None:
        if self._is_synced("fsync", self._paths[fd], point):
            super().fsync(fd, point)

    def fdatasync(self, fd: int, point: str) -> None:
        if self._is_synced("fdatasync", self._paths[fd], point):
            super().fdatasync(fd, point)

    def fsync_dir(self, path: str, point: str = "") -> None:
        if self._is_synced("fsync_dir", path, point):
            super().fsync_dir(self._at(path), point)

    def _is_synced(self, operation: str, path: str, point: str) -> bool:
        self.points.add(point)
        self._tick(operation, path)
        return point not in self.skip

    def close(self, fd: int) -> None:
        super().close(fd)
        del self._paths[fd]

    def rename(self, source: str, target: str) -> None:
        self._tick("rename", target)
        super().rename(self._at(source), self._at(target))

    def exchange(self, one: str, other: str) -> bool:
        self._tick("exchange", other)
        return super().exchange(self._at(one), self._at(other))

    def unlink(self, path: str) -> None:
        self._tick("unlink", path)
        super().unlink(self._at(path))

    def mkdir(self, path: str) -> None:
        self._tick("mkdir", path)
        super().mkdir(self._at(path))

    def rmtree(self, path: str) -> None:
        for name in self.listdir(path):
            if self.entry(f"{path}/{name}").kind == "directory":
                self.rmtree(f"{path}/{name}")
            else:
                self.unlink(f"{path}/{name}")
        self._tick("rmdir", path)
        os.rmdir(self._at(path))

    def listdir(self, path: str) -> list[str]:
        return super().listdir(self._at(path))

    def exists(self, path: str) -> bool:
        return super().exists(self._at(path))

    def size(self, path: str) -> int:
        return super().size(self._at(path))

    def entry(self, path: str) -> Entry:
        return super().entry(self._at(path))

    def chmod(self, path: str, mode: int) -> None:
        super().chmod(self._at(path), mode)

    # ------------------------------------------------------------------ what tests do to it

    def put(self, path: str, data: bytes) -> None:
        """Bytes on the disk, durable, as nobody but a test or bit rot writes them."""
        self.on_unwatched()
        fd = os.open(self._at(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(fd, data)
        os.fsync(fd)
        os.close(fd)

    def settle(self) -> None:
        """Make everything durable, as time does."""
        fd = os.open(self.root, os.O_RDONLY)
        if _libc.syncfs(fd):
            raise OSError(ctypes.get_errno(), "syncfs", self.root)
        os.close(fd)

    def files(self, path: str = "") -> dict[str, bytes]:
        """Every file under the path and its bytes."""
        found: dict[str, bytes] = {}
        for directory, _, names in os.walk(self._at(path)):
            for name in names:
                full = f"{directory}/{name}"
                with open(full, "rb") as file:
                    found[full.removeprefix(self.root)] = file.read()
        return found
