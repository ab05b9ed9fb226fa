"""A session as one tar file: the form of it, written and read a block at a time.

Every member is a regular file beneath `<session_id>/`; the last one, `manifest.json`, has the size and SHA-256 of all
others, so an archive that was cut short is noticed. Times, owners and modes are constants: equal sessions make equal
archives. The reader takes nothing but what the writer writes (ustar headers, with pax records where a name is too long
or a file too large for one), so no link, no device and no sparse file can come in.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from agentd.errors import Invalid
from agentd.model.reading import read
from agentd.model.task import Value

#: Whether a file of `home/` is part of an archive, by its path in there: what agents keep, only their kind knows.
GoesAlong = Callable[[str], bool]

FORMAT = 1  #: of the archive; a newer one is refused
MANIFEST = "manifest.json"
#: The longest manifest that is read: 100,000 files with long names.
MAX_MANIFEST_BYTES = 64 << 20

_BLOCK = tarfile.BLOCKSIZE
_MAX_PAX_BYTES = 8 << 10
_PAX = re.compile(rb"([0-9]{1,5}) (path|size)=(.*)\n", re.DOTALL)
_END = bytes(2 * _BLOCK)


class Packed(Value, frozen=True, kw_only=True):
    """One file, its path relative to the session's directory."""

    path: str
    size: int
    sha256: str


class Manifest(Value, frozen=True, kw_only=True):
    """What the archive holds: the session as of event `seq`."""

    format: int
    session_id: str
    seq: int
    files: tuple[Packed, ...]


class Begin(NamedTuple):
    """A member begins: the name that it was given, and its size in bytes."""

    name: str
    size: int


class Packer:
    """Makes the bytes of an archive; whoever calls it sends them on."""

    def __init__(self, session_id: str, seq: int) -> None:
        self._session_id = session_id
        self._seq = seq
        self._files: list[Packed] = []

    def member(self, path: str, size: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """The bytes of one file, of which `blocks` give at least `size`.

        Raises:
            EOFError: they gave less.
        """
        yield self._head(path, size)
        digest, left = hashlib.sha256(), size
        for block in blocks:
            block = block[:left]
            digest.update(block)
            left -= len(block)
            yield block
            if not left:
                break
        if left:
            raise EOFError(path)
        self._files.append(Packed(path=path, size=size, sha256=digest.hexdigest()))
        yield bytes(-size % _BLOCK)

    def end(self) -> Iterator[bytes]:
        """The manifest, and the mark of the end."""
        manifest = Manifest(format=FORMAT, session_id=self._session_id, seq=self._seq, files=tuple(self._files))
        data = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
        yield self._head(MANIFEST, len(data))
        yield data + bytes(-len(data) % _BLOCK)
        yield _END

    def _head(self, path: str, size: int) -> bytes:
        info = tarfile.TarInfo(f"{self._session_id}/{path}")
        info.size, info.mode = size, 0o600
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


class Unpacker:
    """Takes an archive apart as it comes."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._left = 0  #: bytes of the member that are still to come
        self._padding = 0
        self._pax: int | None = None  #: length of the pax records that come next
        self._said: dict[str, str] = {}  #: what they said of the member that follows
        self.ended = False

    def feed(self, data: bytes) -> Iterator[Begin | bytes]:
        """What the next bytes hold: beginnings of members, and behind each its bytes.

        Raises:
            Invalid: it is not an archive that agentd made.
        """
        self._rest += data
        while True:
            if self._left:
                if not self._rest:
                    return
                block = bytes(self._rest[: self._left])
                del self._rest[: len(block)]
                self._left -= len(block)
                yield block
            elif self._padding:
                if len(self._rest) < self._padding:
                    return
                del self._rest[: self._padding]
                self._padding = 0
            elif self._pax is not None:
                if len(self._rest) < self._pax:
                    return
                self._said = _said(bytes(self._rest[: self._pax]))
                del self._rest[: self._pax]
                self._padding, self._pax = -self._pax % _BLOCK, None
            elif len(self._rest) < _BLOCK:
                return
            else:
                head = bytes(self._rest[:_BLOCK])
                del self._rest[:_BLOCK]
                if (begun := self._begun(head)) is not None:
                    yield begun

    def finish(self) -> None:
        """Nothing more comes.

        Raises:
            Invalid: it has no end, or something behind it.
        """
        if not self.ended:
            raise Invalid("the archive was cut short; export the session again")
        if any(self._rest):
            raise _refused("something follows its end")

    def _begun(self, head: bytes) -> Begin | None:
        if not any(head):
            self.ended = True
            return None
        if self.ended:
            raise _refused("something follows its end")
        try:
            info = tarfile.TarInfo.frombuf(head, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise _refused(f"a header cannot be read: {error}") from error
        if info.type == tarfile.XHDTYPE and not self._said and 0 < info.size <= _MAX_PAX_BYTES:
            self._pax = info.size
            return None
        if info.type != tarfile.REGTYPE or info.size < 0:
            raise _refused(f"{info.name[:200]!r} is not a plain file")
        name, size = self._said.get("path", info.name), int(self._said.get("size", info.size))
        self._said = {}
        self._left, self._padding = size, -size % _BLOCK
        return Begin(name, size)


def read_manifest(data: bytes) -> Manifest:
    """The manifest in the bytes of manifest.json.

    Raises:
        Invalid: it is none, or of a newer format.
    """
    try:
        found = read(data, Manifest)
    except msgspec.MsgspecError as error:
        raise _refused(f"its {MANIFEST} cannot be read: {error}") from error
    if found.format > FORMAT:
        raise _refused(f"it has format {found.format}, this agentd reads up to {FORMAT}: use a newer agentd")
    return found


def _said(records: bytes) -> dict[str, str]:
    """The pax records: each is its own length, a space, key=value and a line feed."""
    found: dict[str, str] = {}
    while records:
        length = int(records.split(b" ", 1)[0]) if re.match(rb"[0-9]{1,5} ", records) else 0
        match = _PAX.fullmatch(records[:length])
        if match is None:
            raise _refused("a header cannot be read: unknown pax records")
        key, value = match[2].decode(), match[3]
        if key == "size" and not re.fullmatch(rb"[0-9]{1,18}", value):
            raise _refused("a header cannot be read: a size is no number")
        try:
            found[key] = value.decode()
        except UnicodeDecodeError as error:
            raise _refused("a name in it is not UTF-8") from error
        records = records[length:]
    return found


def _refused(why: str) -> Invalid:
    return Invalid(f"this is not an archive that `agentd export` made: {why}")
