"""The output of one attempt on disk: raw bytes in arrival order, and beside them an index of who wrote what when.

The log is exactly what a terminal would have shown. The index has one JSON line per chunk,
`{"o":offset,"n":length,"s":"out"|"err","t":"…Z"}`, and `{"lost":n,"t":"…Z"}` where a full disk cost n bytes.
Runs in the worker: standard library only.
"""

from __future__ import annotations

import errno
import os
import stat
import time

#: Chunks of one stream that follow each other this closely, in seconds, share an index line.
COALESCE_S = 0.005
#: An index line covers at most so many bytes.
CHUNK_BYTES = 1 << 20
#: Index lines kept in memory while the disk takes none; later ones are dropped, the log is not affected.
PENDING_BYTES = 64 << 10

#: O_NONBLOCK: a pipe that the task put in the file's place must not hold us; it has no effect on regular files.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_REPLACED = "a link, or something that is no file, is in the place of the output"


class Recorder:
    """Writes the log and its index, each created when there is something to write, or by `create`.

    To create a file can cost more than all else that a short command needs (ext4 looks for an inode that was not
    deleted lately), and most short commands are silent. Errors of the disk never raise: what cannot be written is
    counted, and the next write tries again.
    """

    def __init__(self, log_path: str, index_path: str, limit: int | None) -> None:
        self._log_path = log_path
        self._log = -1
        self._index_path = index_path
        self._index = -1
        self._limit = limit
        self.written = 0
        self.lost = 0  #: bytes that the disk refused, in all
        self.error = ""  #: what it said, the last time
        self.flush_at: float | None = None  #: monotonic; when `flush` is due
        self._unreported = 0
        self._pending = bytearray()
        self._of_pending: list[int] = []  #: how many bytes each of its lines tells of
        self._untold = 0  #: bytes of the log whose lines were dropped
        self._stream = ""
        self._offset = 0
        self._length = 0
        self._time = ""

    @property
    def taken(self) -> int:
        """Bytes that it was given to keep, the lost ones included."""
        return self.written + self.lost

    def write(self, stream: str, data: memoryview, now: float) -> bool:
        """Append a chunk; False when it passed the limit (the log then holds exactly the limit)."""
        within = True
        if self._limit is not None and self.taken + len(data) > self._limit:
            data = data[: max(0, self._limit - self.taken)]
            within = False
        start = self.written
        try:
            if self._log < 0:
                self._open_log()
            while data:
                count = os.write(self._log, data)
                self.written += count
                data = data[count:]
        except OSError as error:
            self.lost += len(data)
            self._unreported += len(data)
            self.error = error.strerror or str(error)
        if self.written > start:
            self._note(stream, start, self.written - start, now)
        return within

    def create(self) -> None:
        """Make the log, if it is not there, for whoever looks at it before the first byte."""
        if self._log < 0:
            try:
                self._open_log()
            except OSError as error:
                self.error = error.strerror or str(error)

    def flush(self) -> None:
        """Write the index line that was held back for more of the same."""
        self.flush_at = None
        if self._length:
            line = f'{{"o":{self._offset},"n":{self._length},"s":"{self._stream}","t":"{self._time}"}}\n'
            length, self._length = self._length, 0
            self._append(line, length)

    def close(self) -> None:
        """Finish the index and close what is open."""
        self.flush()
        if self._unreported:
            self._report_lost()
        if self._pending:
            self._drain()
        for fd in (self._log, self._index):
            if fd >= 0:
                os.close(fd)

    def problems(self) -> list[str]:
        """What is missing, and why. Once it is closed."""
        unlisted = self._untold + sum(self._of_pending)
        found = {
            f"{self.lost} bytes of output were lost": self.lost,
            f"the stream of {unlisted} bytes of output is not known": unlisted,
        }
        return [f"{what}: {self.error}" for what, count in found.items() if count]

    def _open_log(self) -> None:
        self._log = _opened(self._log_path)
        self.written += os.fstat(self._log).st_size  # offsets are those of the file, whoever began it

    def _note(self, stream: str, offset: int, length: int, now: float) -> None:
        if self._unreported:  # the disk takes bytes again: say what is missing before what follows
            self.flush()
            self._report_lost()
        elif self._length and (
            stream != self._stream
            or self._length + length > CHUNK_BYTES
            or (self.flush_at is not None and now >= self.flush_at)
        ):
            self.flush()
        if self._length:
            self._length += length
            return
        self._stream, self._offset, self._length, self._time = stream, offset, length, _utc_now()
        self.flush_at = now + COALESCE_S

    def _report_lost(self) -> None:
        lost, self._unreported = self._unreported, 0
        self._append(f'{{"lost":{lost},"t":"{_utc_now()}"}}\n', 0)

    def _append(self, line: str, length: int) -> None:
        if len(self._pending) < PENDING_BYTES:
            self._pending += line.encode()
            self._of_pending.append(length)
        else:
            self._untold += length
        self._drain()

    def _drain(self) -> None:
        try:
            if self._index < 0:
                self._index = _opened(self._index_path)
            while self._pending:
                count = os.write(self._index, self._pending)
                del self._of_pending[: self._pending.count(b"\n", 0, count)]
                del self._pending[:count]
        except OSError as error:
            self.error = error.strerror or str(error)


def _opened(path: str) -> int:
    try:
        fd = os.open(path, _FLAGS, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe that nobody reads
            raise OSError(error.errno, _REPLACED) from None
        raise
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, _REPLACED)
    return fd


def _utc_now() -> str:
    now = time.time()
    t = time.gmtime(now)
    micros = int(now % 1 * 1_000_000)
    return f"{t.tm_year:04}-{t.tm_mon:02}-{t.tm_mday:02}T{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}.{micros:06}Z"
