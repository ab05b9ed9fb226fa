"""A disk in memory that knows what is durable, and which states a power cut may leave.

After the model of ALICE (Pillai et al., OSDI 2014): of what was not synced, any part may have reached the disk. Names
in a directory: any subset of the changes. Bytes of a file: any prefix of the writes, the last of them whole, torn in
the middle, replaced by zeros, or with a hole. A failed sync forgets what it should have written, as Linux does.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

from agentd.store.disk import Entry

SUBSETS_UP_TO = 4


class DirOp(NamedTuple):
    """A change of a directory that is not synced: add, remove, rename or exchange."""

    kind: str
    name: str
    node: int = 0
    target: str = ""


class FileOp(NamedTuple):
    """A change of a file that is not synced: bytes at an offset, or (`data` None) a new length."""

    at: int
    data: bytes | None


class Node:
    """A file or directory: as programs see it, as the disk has it, and the changes between the two."""

    def __init__(self, directory: bool) -> None:
        self.directory = directory
        self.mode = 0o700 if directory else 0o600
        self.link = False
        self.names: dict[str, int] = {}
        self.durable_names: dict[str, int] = {}
        self.dir_ops: list[DirOp] = []
        self.data = b""
        self.durable = b""
        self.file_ops: list[FileOp] = []

    @property
    def dirty(self) -> bool:
        return bool(self.dir_ops or self.file_ops)

    def copy(self) -> Node:
        node = Node(self.directory)
        node.mode, node.link = self.mode, self.link
        node.names, node.durable_names, node.dir_ops = dict(self.names), dict(self.durable_names), list(self.dir_ops)
        node.data, node.durable, node.file_ops = self.data, self.durable, list(self.file_ops)
        return node


def _changed_names(names: dict[str, int], op: DirOp) -> dict[str, int]:
    names = dict(names)
    match op.kind:
        case "add":
            names[op.name] = op.node
        case "remove":
            names.pop(op.name, None)
        case "rename":
            if op.name in names:
                names[op.target] = names.pop(op.name)
        case "exchange":
            if op.name in names and op.target in names:
                names[op.name], names[op.target] = names[op.target], names[op.name]
    return names


def _changed_data(data: bytes, op: FileOp, how: str = "whole") -> bytes:
    data = data.ljust(op.at, b"\0")
    if op.data is None:
        return data[: op.at]
    new, half = op.data, len(op.data) // 2
    match how:
        case "torn":
            new = new[:half]
        case "zeros":
            new = bytes(len(new))
        case "hole":
            new = bytes(half) + new[half:]
        case "late hole":
            new = new[:half] + bytes(len(new) - half)
    return data[: op.at] + new + data[op.at + len(new) :]


class PowerCut(Exception):
    """The machine stopped here."""


Hook = Callable[["SimDisk", str, str], None]


class SimDisk:
    """The Disk protocol in memory. `hook(disk, operation, path)` runs before each change and may raise."""

    def __init__(self, *, skip: frozenset[str] = frozenset()) -> None:
        self.nodes: dict[int, Node] = {0: Node(True)}
        self.skip = skip
        self.points: set[str] = set()
        self.hook: Hook | None = None
        self.operations = 0
        self.short_write: int | None = None  #: a write that the hook fails has put so many bytes down
        self._next = 1
        self._fds: dict[int, tuple[int, bool, str]] = {}
        self._next_fd = 100

    def fork(self) -> SimDisk:
        """The same disk in a world of its own; nobody has a file open."""
        other = SimDisk(skip=self.skip)
        other.nodes = {number: node.copy() for number, node in self.nodes.items()}
        other._next = self._next
        return other

    # ------------------------------------------------------------------ inside

    def _tick(self, operation: str, path: str) -> None:
        self.operations += 1
        if self.hook is not None:
            self.hook(self, operation, path)

    def _find(self, path: str) -> int:
        number = 0
        for part in path.strip("/").split("/") if path.strip("/") else []:
            node = self.nodes[number]
            if not node.directory:
                raise NotADirectoryError(errno.ENOTDIR, "Not a directory", path)
            if part not in node.names:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            number = node.names[part]
        return number

    def _parent(self, path: str) -> tuple[Node, str]:
        directory, name = os.path.split(path)
        return self.nodes[self._find(directory)], name

    def _new(self, directory: bool) -> int:
        self.nodes[self._next] = Node(directory)
        self._next += 1
        return self._next - 1

    @staticmethod
    def _change_names(node: Node, op: DirOp) -> None:
        node.names = _changed_names(node.names, op)
        node.dir_ops.append(op)

    @staticmethod
    def _change_data(node: Node, op: FileOp) -> None:
        node.data = _changed_data(node.data, op)
        node.file_ops.append(op)

    def _sync(self, number: int, operation: str, point: str, path: str) -> None:
        self.points.add(point)
        try:
            self._tick(operation, path)
        except OSError:
            node = self.nodes[number]
            node.file_ops.clear()  # the pages count as clean from now on, and the disk never got them
            raise
        if point in self.skip:
            return
        node = self.nodes[number]
        for dir_op in node.dir_ops:
            node.durable_names = _changed_names(node.durable_names, dir_op)
        for file_op in node.file_ops:
            node.durable = _changed_data(node.durable, file_op)
        node.dir_ops.clear()
        node.file_ops.clear()

    # ------------------------------------------------------------------ the protocol

    def open(self, path: str, *, write: bool = False, append: bool = False, truncate: bool = False) -> int:
        parent, name = self._parent(path)
        if write or append:
            self._tick("open", path)
        if name not in parent.names:
            if not (write or append):
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)
            self._change_names(parent, DirOp("add", name, self._new(False)))
        number = parent.names[name]
        if self.nodes[number].link:
            raise OSError(errno.ELOOP, "Too many levels of symbolic links", path)
        if truncate and self.nodes[number].data:
            self._change_data(self.nodes[number], FileOp(0, None))
        self._next_fd += 1
        self._fds[self._next_fd] = (number, append, path)
        return self._next_fd

    def write(self, fd: int, data: bytes) -> None:
        number, append, path = self._fds[fd]
        node = self.nodes[number]
        at = len(node.data) if append else 0
        try:
            self._tick("write", path)
        except OSError:
            if self.short_write:
                self._change_data(node, FileOp(at, data[: self.short_write]))
            raise
        self._change_data(node, FileOp(at, bytes(data)))

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return self.nodes[self._fds[fd][0]].data[offset : offset + size]

    def truncate(self, fd: int, size: int) -> None:
        number, _, path = self._fds[fd]
        self._tick("truncate", path)
        self._change_data(self.nodes[number], FileOp(size, None))

    def fsync(self, fd: int, point: str) -> None:
        number, _, path = self._fds[fd]
        self._sync(number, "fsync", point, path)

    def fdatasync(self, fd: int, point: str) -> None:
        number, _, path = self._fds[fd]
        self._sync(number, "fdatasync", point, path)

    def fsync_dir(self, path: str, point: str = "") -> None:
        self._sync(self._find(path), "fsync_dir", point, path)

    def close(self, fd: int) -> None:
        del self._fds[fd]

    @property
    def open_files(self) -> int:
        return len(self._fds)

    def read(self, path: str) -> bytes:
        node = self.nodes[self._find(path)]
        if node.link:
            raise OSError(errno.ELOOP, "Too many levels of symbolic links", path)
        if node.directory:
            raise IsADirectoryError(errno.EISDIR, "Is a directory", path)
        return node.data

    def rename(self, source: str, target: str) -> None:
        (old, name), (new, new_name) = self._parent(source), self._parent(target)
        number = self._find(source)
        self._tick("rename", target)
        if old is new:
            self._change_names(old, DirOp("rename", name, target=new_name))
        else:
            self._change_names(new, DirOp("add", new_name, number))
            self._change_names(old, DirOp("remove", name))

    def exchange(self, one: str, other: str) -> bool:
        (parent, name), (_, other_name) = self._parent(one), self._parent(other)
        self._find(one), self._find(other)
        self._tick("rename", other)
        self._change_names(parent, DirOp("exchange", name, target=other_name))
        return True

    def unlink(self, path: str) -> None:
        parent, name = self._parent(path)
        self._find(path)
        self._tick("unlink", path)
        self._change_names(parent, DirOp("remove", name))

    def mkdir(self, path: str) -> None:
        parent, name = self._parent(path)
        if name in parent.names:
            raise FileExistsError(errno.EEXIST, "File exists", path)
        self._tick("mkdir", path)
        self._change_names(parent, DirOp("add", name, self._new(True)))

    def rmtree(self, path: str) -> None:
        for name, number in list(self.nodes[self._find(path)].names.items()):
            if self.nodes[number].directory:
                self.rmtree(f"{path}/{name}")
            else:
                self.unlink(f"{path}/{name}")
        parent, name = self._parent(path)
        self._tick("rmdir", path)
        self._change_names(parent, DirOp("remove", name))

    def listdir(self, path: str) -> list[str]:
        return list(self.nodes[self._find(path)].names)

    def exists(self, path: str) -> bool:
        try:
            self._find(path)
        except OSError:
            return False
        return True

    def linked(self, fd: int) -> bool:
        return True  # nobody but the store removes anything here

    def size(self, path: str) -> int:
        return len(self.nodes[self._find(path)].data)

    def entry(self, path: str) -> Entry:
        node = self.nodes[self._find(path)]
        kind = "link" if node.link else "directory" if node.directory else "file"
        return Entry(kind, node.mode, len(node.data))

    def chmod(self, path: str, mode: int) -> None:
        self.nodes[self._find(path)].mode = mode

    # ------------------------------------------------------------------ what tests do to it

    def put(self, path: str, data: bytes) -> None:
        """Bytes on the disk, durable, as nobody but a test or bit rot writes them."""
        parent, name = self._parent(path)
        if name not in parent.names:
            number = self._new(False)
            parent.names[name] = parent.durable_names[name] = number
        node = self.nodes[parent.names[name]]
        node.data = node.durable = data

    def settle(self) -> None:
        """Make everything durable, as time does."""
        self.nodes = {number: _settled(node, node.names, node.data) for number, node in self.nodes.items()}

    def files(self, path: str = "") -> dict[str, bytes]:
        """Every file under the path and its bytes."""
        found: dict[str, bytes] = {}
        for name, number in self.nodes[self._find(path)].names.items():
            node = self.nodes[number]
            if node.directory:
                found |= self.files(f"{path}/{name}")
            else:
                found[f"{path}/{name}"] = node.data
        return found

    # ------------------------------------------------------------------ power cuts

    def after_power_cut(self, cap: int, rng: random.Random) -> Iterator[SimDisk]:
        """Disks that a power cut may leave now: all if there are at most `cap`, else as many at random."""
        dirty = [number for number, node in self.nodes.items() if node.dirty]
        choices = [_outcomes(self.nodes[number]) for number in dirty]
        total = 1
        for each in choices:
            total *= len(each)
        picks: Iterator[tuple[Node, ...]]
        if total <= cap:
            picks = itertools.product(*choices)
        else:
            picks = (tuple(rng.choice(each) for each in choices) for _ in range(cap))
        for picked in picks:
            disk = SimDisk(skip=self.skip)
            disk._next = self._next
            fixed = dict(zip(dirty, picked, strict=True))
            disk.nodes = {
                number: fixed[number] if number in fixed else _settled(node, node.durable_names, node.durable)
                for number, node in self.nodes.items()
            }
            disk.nodes = {number: node.copy() for number, node in disk.nodes.items()}
            yield disk


def _settled(node: Node, names: dict[str, int], data: bytes) -> Node:
    after = Node(node.directory)
    after.mode, after.link = node.mode, node.link
    after.names = after.durable_names = names
    after.data = after.durable = data
    return after


def _outcomes(node: Node) -> list[Node]:
    """The node as a power cut may leave it."""
    if node.directory:
        ops = node.dir_ops
        if len(ops) <= SUBSETS_UP_TO:
            chosen = [c for n in range(len(ops) + 1) for c in itertools.combinations(ops, n)]
        else:
            chosen = [tuple(ops[:n]) for n in range(len(ops) + 1)]
            chosen += [tuple(ops[:n] + ops[n + 1 :]) for n in range(len(ops))]
        every: list[dict[str, int]] = []
        for subset in chosen:
            names = node.durable_names
            for op in subset:
                names = _changed_names(names, op)
            if names not in every:
                every.append(names)
        return [_settled(node, names, b"") for names in every]
    contents = [node.durable]
    data = node.durable
    for write in node.file_ops:
        for how in ("torn", "zeros", "hole", "late hole") if write.data else ():
            contents.append(_changed_data(data, write, how))
        data = _changed_data(data, write)
        contents.append(data)
    return [_settled(node, {}, content) for content in dict.fromkeys(contents)]
