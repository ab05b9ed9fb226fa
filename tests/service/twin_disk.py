"""Real files, with a simulated disk beside them that knows which of their bytes would survive a power cut."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator
from pathlib import Path

from agentd.store.disk import RealDisk
from tests.store.simdisk import DirOp, SimDisk, _changed_names


class TwinDisk(RealDisk):
    """What the store writes under `root` is written twice; what it reads is the real thing. Real syncs are left out.

    `cut_in` operations from now the machine stops: `left` is the simulated disk of that moment, and nothing that
    happens later counts. While `trouble` is set, operations of that kind are refused with its errno.
    """

    def __init__(self, root: Path, twin: SimDisk) -> None:
        self.root = root
        self.twin = twin
        self.cut_in: int | None = None
        self.left: SimDisk | None = None
        self.trouble: tuple[frozenset[str], int] | None = None
        self.short = 0  #: bytes that a refused write puts down all the same
        #: When it stopped, a sync had just failed, and what it should have written was not taken back yet. The next
        #: process would find it in memory, and no sync of its own would write it: a second fault, within microseconds.
        self.left_in_doubt = False
        self._in_doubt: set[int] = set()
        self._twins: dict[int, int] = {}
        twin.hook = self._before

    def _before(self, twin: SimDisk, operation: str, path: str) -> None:
        if self.cut_in is not None and self.left is None:
            self.cut_in -= 1
            if self.cut_in <= 0:
                self.stop_here()
        if self.trouble is not None and operation in self.trouble[0]:
            twin.short_write = self.short
            raise OSError(self.trouble[1], "refused", path)

    def stop_here(self) -> None:
        """The machine stops now."""
        self.forget_what_is_gone()
        self.left = self.twin.fork()
        self.left_in_doubt = bool(self._in_doubt)

    def close_all(self) -> None:
        """Give back what a killed process held open."""
        for fd in list(self._twins):
            self.close(fd)

    def forget_what_is_gone(self) -> None:
        """Retention removes files, and syncs that, without this disk's help."""
        for path in self.twin.files():
            if not super().exists(f"{self.root}{path}") and not path.rsplit("/", 1)[1].startswith("."):
                directory, name = path.rsplit("/", 1)
                node = self.twin.nodes[self.twin._find(directory)]
                gone = DirOp("remove", name)
                node.names = _changed_names(node.names, gone)
                node.durable_names = _changed_names(node.durable_names, gone)
                node.dir_ops = [each for each in node.dir_ops if name not in (each.name, each.target)]

    def _at(self, path: str) -> str:
        return path.removeprefix(str(self.root)) or "/"

    def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
        if not (write or append):
            return super().open(path)
        twin_fd = self.twin.open(self._at(path), write=write, append=append, truncate=truncate)
        fd = super().open(path, write=write, append=append, truncate=truncate)
        self._twins[fd] = twin_fd
        return fd

    def write(self, fd: int, data: bytes) -> None:
        try:
            self.twin.write(self._twins[fd], data)
        except OSError:
            super().write(fd, data[: self.short])
            raise
        super().write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        self.twin.truncate(self._twins[fd], size)
        super().truncate(fd, size)
        self._in_doubt.discard(fd)

    def fsync(self, fd: int, point: str) -> None:
        self.twin.fsync(self._twins[fd], point)

    def fdatasync(self, fd: int, point: str) -> None:
        try:
            self.twin.fdatasync(self._twins[fd], point)
        except OSError:
            self._in_doubt.add(fd)
            raise

    def fsync_dir(self, path: str, point: str = "") -> None:
        self.twin.fsync_dir(self._at(path), point)

    def close(self, fd: int) -> None:
        if (twin_fd := self._twins.pop(fd, None)) is not None:
            self.twin.close(twin_fd)
        self._in_doubt.discard(fd)
        super().close(fd)

    def rename(self, source: str, target: str) -> None:
        self.twin.rename(self._at(source), self._at(target))
        super().rename(source, target)

    def exchange(self, one: str, other: str) -> bool:
        self.twin.exchange(self._at(one), self._at(other))
        return super().exchange(one, other)

    def unlink(self, path: str) -> None:
        self.twin.unlink(self._at(path))
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        self.twin.mkdir(self._at(path))
        super().mkdir(path)

    def rmtree(self, path: str) -> None:
        self.forget_what_is_gone()
        self.twin.rmtree(self._at(path))
        super().rmtree(path)


def put_down(twin: SimDisk, root: Path) -> None:
    """The simulated disk's files and directories as real ones under `root`."""
    for path, data in _walked(twin, 0, root):
        if data is None:
            path.mkdir(mode=0o700)
        else:
            path.write_bytes(data)
            path.chmod(0o600)


def _walked(twin: SimDisk, number: int, path: Path) -> Iterator[tuple[Path, bytes | None]]:
    node = twin.nodes[number]
    if not node.directory:
        yield path, node.data
        return
    yield path, None
    for name, below in node.names.items():
        yield from _walked(twin, below, path / name)


def after_the_cut(left: SimDisk, chance: random.Random) -> SimDisk:
    """A disk that a power cut at that moment may leave."""
    return next(iter(left.after_power_cut(1, chance)))


#: Kinds of trouble: what is refused, and how.
TROUBLES = {
    "full": (frozenset({"write", "open", "mkdir"}), errno.ENOSPC),
    "writes fail": (frozenset({"write"}), errno.EIO),
    "syncs fail": (frozenset({"fsync", "fdatasync", "fsync_dir"}), errno.EIO),
    "read-only": (frozenset({"write", "open", "mkdir", "rename", "unlink", "truncate", "rmdir"}), errno.EROFS),
}
