"""A block device that remembers every write and every flush, in order: a loop device on a file served over FUSE.

The kernel's side of FUSE is spoken directly (fuse(4), include/uapi/linux/fuse.h): one directory with two files, `disk`
for the blocks, and `mark`, whose writes put marks into the log. Only inside namespaces (`faultlib.images`).
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

from faultlib import images

BLOCK = 4096
SECTOR = 512

_MAX_WRITE = 1 << 20
_ROOT, _DISK, _MARK = 1, 2, 3
_NAMES = {b"disk": _DISK, b"mark": _MARK}
_BASE, _DUMP = b"base", b"dump"
_IN = struct.Struct("<IIQQIIII")
_INIT, _DESTROY = 26, 38
_LOOKUP, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE = 1, 3, 4, 14, 15, 16
_DONE = {18, 20, 25, 27, 29}  #: release, fsync, flush, opendir, releasedir
_FSYNC, _FALLOCATE = 20, 43
_NO_ANSWER = {2, 36, 42}  #: forget, interrupt, batch forget
_DIRECT_IO = 1


class Write(NamedTuple):
    """Bytes that went to the device."""

    at: int
    data: bytes


class Flush(NamedTuple):
    """All before it is on the disk."""


class Mark(NamedTuple):
    """A moment that the writer wanted to remember."""

    number: int


class Recording(NamedTuple):
    """What a device held when the recording began, by block (others are zeros), and what came then."""

    base: dict[int, bytes]
    log: list[Write | Flush | Mark]


class RecordingDevice:
    """The device; `source` is the path of the loop device that a file system can be made on."""

    def __init__(self, directory: Path, size: int) -> None:
        served = directory / "served"
        served.mkdir()
        self._dump = directory / "recording"
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"blocks", os.fsencode(served), b"fuse", 0, options.encode()):
            raise OSError(ctypes.get_errno(), "mount of a FUSE file system", str(served))
        if os.fork() == 0:
            try:
                _Server(fuse, size, self._dump).serve()
            finally:
                os._exit(0)
        os.close(fuse)
        self.source = Path(images.run("losetup", "--find", "--show", str(served / "disk")))
        # Detached as soon as nobody has it open: with this process at the latest, however it ends.
        self._held = os.open(self.source, os.O_RDONLY | os.O_CLOEXEC)
        images.run("losetup", "--detach", str(self.source))
        self._mark = os.open(served / "mark", os.O_WRONLY)

    def begin(self) -> None:
        """What the device holds now is where a recording begins."""
        os.write(self._mark, _BASE)

    def mark(self, number: int) -> None:
        """Put a mark into the log, behind every write that has come by now."""
        os.write(self._mark, b"%d" % number)

    def recording(self) -> Recording:
        """All since `begin`."""
        os.write(self._mark, _DUMP)
        with self._dump.open("rb") as file:
            recording: Recording = pickle.load(file)
        return recording

    def close(self) -> None:
        """Let the loop device go; the rest goes with the namespace."""
        os.close(self._mark)
        os.close(self._held)


class _Server:
    """Answers the kernel, one request after the other: the order of the log is the order in which they came."""

    def __init__(self, fuse: int, size: int, dump: Path) -> None:
        self._fuse = fuse
        self._size = size
        self._dump = dump
        self._blocks = bytearray(size)
        self._written: set[int] = set()
        self._recording = Recording({}, [])

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self._fuse, _MAX_WRITE + (1 << 14))
            except OSError as error:
                if error.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                return  # unmounted
            _, opcode, unique, node, *_ = _IN.unpack_from(request)
            if opcode in _NO_ANSWER:
                continue
            try:
                error_number, answer = 0, self._answer(opcode, node, memoryview(request)[_IN.size :])
            except OSError as error:
                error_number, answer = -(error.errno or errno.EIO), b""
            os.write(self._fuse, struct.pack("<IiQ", 16 + len(answer), error_number, unique) + answer)
            if opcode == _DESTROY:
                return

    def _answer(self, opcode: int, node: int, body: memoryview) -> bytes:
        if opcode == _INIT:
            big_writes, max_pages = 1 << 5, 1 << 22
            pages = _MAX_WRITE // BLOCK
            return struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, big_writes | max_pages, 16, 12, _MAX_WRITE, 1, pages, 0, 0)
        if opcode == _LOOKUP:
            found = _NAMES.get(bytes(body[:-1]))
            if found is None:
                raise OSError(errno.ENOENT, "")
            return struct.pack("<QQQQII", found, 0, 3600, 3600, 0, 0) + self._attributes(found)
        if opcode in (_GETATTR, _SETATTR):
            return struct.pack("<QII", 3600, 0, 0) + self._attributes(node)
        if opcode == _OPEN:
            return struct.pack("<QII", 0, _DIRECT_IO, 0)
        if opcode == _READ:
            _, at, size = struct.unpack_from("<QQI", body)
            return bytes(self._blocks[at : at + size])
        if opcode == _WRITE:
            _, at, size = struct.unpack_from("<QQI", body)
            self._take(node, at, bytes(body[40 : 40 + size]))
            return struct.pack("<II", size, 0)
        if opcode in _DONE:
            if opcode == _FSYNC and node == _DISK:
                self._recording.log.append(Flush())
            return b"" if opcode != 27 else struct.pack("<QII", 0, 0, 0)
        raise OSError(errno.EOPNOTSUPP if opcode == _FALLOCATE else errno.ENOSYS, "")

    def _attributes(self, node: int) -> bytes:
        mode = 0o40700 if node == _ROOT else 0o100600
        size = self._size if node == _DISK else 0
        now = int(time.time())
        return struct.pack("<QQQQQQIIIIIIIIII", node, size, size // 512, now, now, now, *(0, 0, 0), mode, 1, *(0,) * 5)

    def _take(self, node: int, at: int, data: bytes) -> None:
        if node == _DISK:
            self._blocks[at : at + len(data)] = data
            self._written.update(range(at // BLOCK, (at + len(data) - 1) // BLOCK + 1))
            self._recording.log.append(Write(at, data))
        elif data == _BASE:
            blocks = {each: bytes(self._blocks[each * BLOCK : (each + 1) * BLOCK]) for each in self._written}
            self._recording = Recording({each: block for each, block in blocks.items() if any(block)}, [])
        elif data == _DUMP:
            with self._dump.open("wb") as file:
                pickle.dump(self._recording, file)
        else:
            self._recording.log.append(Mark(int(data)))


if __name__ == "__main__":  # whether one can be made here
    RecordingDevice(images.memory(Path(sys.argv[1])), 1 << 20).close()
    print("null")
