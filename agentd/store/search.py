"""Search in a log: literal text, over all of it, in blocks of a fixed size."""

from __future__ import annotations

import re
from collections.abc import Iterator

from agentd.errors import Invalid
from agentd.model.output import OutputLine
from agentd.store.lines import LineIndex, shown_line
from agentd.store.log_file import LogFile

BLOCK = 256 << 10
MAX_TEXT = 1000
#: What two reads of a long line share, so that a match is whole in one of them: a character is at most 4 bytes.
OVERLAP = 4 * MAX_TEXT


class Needle:
    """What is searched for. `found_in` gives each match to the end of its line, so that a line is found once."""

    def __init__(self, text: str, ignore_case: bool) -> None:
        try:
            literal = text.encode()
        except UnicodeEncodeError:
            raise Invalid.field("q", "is not valid text") from None
        # Bytes know only the cases of ASCII; there, lower both: many times as fast as a pattern of both cases.
        self._lower = ignore_case and text.isascii()
        self._literal = literal.lower() if self._lower else None if ignore_case else literal
        pattern = re.escape(self._literal) if self._literal is not None else _either_case(text)
        self._pattern = re.compile(pattern + rb"[^\n]*")

    def found_in(self, block: bytes) -> Iterator[re.Match[bytes]]:
        if self._lower:
            block = block.lower()
        if self._literal is not None and self._literal not in block:
            return iter(())  # much faster than the pattern at finding nothing
        return self._pattern.finditer(block)


def _either_case(text: str) -> bytes:
    forms = (sorted({c, c.lower(), c.upper()}) for c in text)
    return b"".join(b"(?:" + b"|".join(re.escape(form.encode()) for form in either) + b")" for either in forms)


class Search:
    """One pass over a log."""

    def __init__(self, log: LogFile, index: LineIndex, needle: Needle, limit: int, max_line: int) -> None:
        self._log, self._index, self._needle, self._limit, self._max_line = log, index, needle, limit, max_line
        self.found: list[OutputLine] = []
        self.total = 0

    def run(self, offset: int, number: int) -> None:
        """Search from the start of a line, of which the number is known, to the end."""
        size = self._index.size
        while offset < size:
            block = self._log.read(min(BLOCK, size - offset), offset)
            whole = len(block) if offset + len(block) >= size else block.rfind(b"\n") + 1
            if not block:
                return  # cut meanwhile
            if whole:
                number = self._in_block(block[:whole], offset, number)
                offset += whole
            else:
                offset = self._in_long_line(offset, number)
                number += 1

    def _in_block(self, block: bytes, offset: int, number: int) -> int:
        """Search whole lines; the number of the line after them."""
        counted = 0
        for match in self._needle.found_in(block):
            self.total += 1
            if len(self.found) < self._limit:
                number += block.count(b"\n", counted, match.start())
                counted = match.start()
                start = block.rfind(b"\n", 0, match.start()) + 1
                self.found.append(shown_line(self._log, number, offset + start, offset + match.end(), self._max_line))
        return number + block.count(b"\n", counted)

    def _in_long_line(self, start: int, number: int) -> int:
        """Search a line that is longer than a block; the offset of the next line."""
        with self._index.lock:
            _, end = self._index.bounds(self._log, number)
        for offset in range(start, end, BLOCK - OVERLAP):
            if any(self._needle.found_in(self._log.read(min(BLOCK, end - offset), offset))):
                self.total += 1
                if len(self.found) < self._limit:
                    self.found.append(shown_line(self._log, number, start, end, self._max_line))
                break
        return end + 1
