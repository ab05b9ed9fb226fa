"""An open log, read by offset."""

from __future__ import annotations

import os
from collections.abc import Generator
from types import TracebackType
from typing import Self

#: Offsets and lengths in the file.
Spans = Generator[tuple[int, int], None, None]


class LogFile:
    """An open log: its descriptor, and size and identity as they were when it was opened."""

    def __init__(self, fd: int) -> None:
        found = os.fstat(fd)
        self.fd = fd
        self.size = found.st_size
        self.identity = (found.st_dev, found.st_ino)

    def read(self, n: int, offset: int) -> bytes:
        """At most `n` bytes from the offset on; fewer only where it ends or was cut."""
        return os.pread(self.fd, n, offset)

    def spans(self, offset: int) -> Spans:
        """Where the bytes from the offset on lie in the file."""
        yield offset, self.size - offset

    def close(self) -> None:
        """Let go of the file. Again: no effect."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
