"""A session made of an archive: built aside, verified to the last byte, and then there as a whole or not at all."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from threading import Lock

from agentd.errors import Invalid, SessionExists, TooLarge
from agentd.store import inside, layout
from agentd.store.archive import MANIFEST, MAX_MANIFEST_BYTES, Begin, GoesAlong, Packed, Unpacker, read_manifest
from agentd.store.disk import Disk, failure
from agentd.store.verifying import verified
from agentd.store.views import View

#: Of a file that is read as a whole: a view, a record, a segment of the journal. The tasks that a session keeps, 100
#: unless told otherwise, are 100 MiB and more when each is as large as a request may be.
MAX_READ_BYTES = 256 << 20
#: Files in one archive.
MAX_FILES = 100_000


class Import:
    """A session being built. Leaving the `with` block before `finish` has returned removes what was built.

    Blocking. It may be closed while another thread is in `feed`, as when a client leaves: that is waited for.
    """

    def __init__(self, disk: Disk, sessions_dir: str, session_id: str, max_bytes: int, goes_along: GoesAlong) -> None:
        """Begin.

        Raises:
            SessionExists: the name is taken.
            StorageFailed
        """
        self._disk = disk
        self._sessions_dir = sessions_dir
        self._session_id = session_id
        self._path = f"{sessions_dir}/{session_id}"
        self._new = layout.new_session_dir(sessions_dir, session_id)
        self._left = max_bytes
        self._max_bytes = max_bytes
        self._goes_along = goes_along
        self._unpacker = Unpacker()
        self._packed: list[Packed] = []
        self._directories = {self._new}
        self._member: Begin | None = None
        self._digest = hashlib.sha256()
        self._written = 0
        self._fd: int | None = None
        self._manifest: bytearray | None = None
        self._lock = Lock()
        self._done = False
        if disk.exists(self._path):
            raise SessionExists(f"{session_id!r} exists in the data directory already")
        self._on_disk(self._begin)

    def feed(self, data: bytes) -> None:
        """The next bytes of the archive.

        Raises:
            Invalid: it is not an archive of this session, or one of its files has no place in a session.
            TooLarge: it holds more than an archive may.
            StorageFull, StorageFailed
        """
        with self._lock:
            self._on_disk(lambda: self._take(data))

    def finish(self, at: str) -> View:
        """Verify everything, end what had not ended, and put the session in its place; it is durable then.

        Raises:
            Invalid: something in the archive is not as it was exported.
            StorageFull, StorageFailed
        """
        with self._lock:
            self._on_disk(self._end_member)
            self._unpacker.finish()
            if self._manifest is None:
                raise Invalid("the archive has no manifest.json at its end; export the session again")
            manifest = read_manifest(bytes(self._manifest))
            view = verified(self._disk, self._new, manifest, self._packed, at)
            self._on_disk(self._put_in_place)
            self._done = True
            return view

    def close(self) -> None:
        """Remove what was built, unless it is in its place. Again: no effect."""
        with self._lock:
            if self._fd is not None:
                self._disk.close(self._fd)
                self._fd = None
            if not self._done:
                self._done = True
                with suppress(OSError):  # the next start sweeps it
                    self._disk.rmtree(self._new)

    # ------------------------------------------------------------------ the files

    def _begin(self) -> None:
        if self._disk.exists(self._new):
            self._disk.rmtree(self._new)
        self._disk.mkdir(self._new)
        for name in layout.DIRECTORIES:
            self._make(f"{self._new}/{name}")

    def _make(self, directory: str) -> None:
        self._disk.mkdir(directory)
        self._directories.add(directory)

    def _take(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"the archive is larger than {self._max_bytes} bytes (limits.import_bytes)")
        for part in self._unpacker.feed(data):
            if isinstance(part, Begin):
                self._end_member()
                self._begin_member(part)
            elif self._manifest is not None:
                self._manifest += part
            else:
                assert self._fd is not None
                self._disk.write(self._fd, part)
                self._digest.update(part)
                self._written += len(part)

    def _begin_member(self, member: Begin) -> None:
        owner, _, path = member.name.partition("/")
        if owner != self._session_id:
            raise Invalid(
                f"the archive is of session {owner[:128]!r}; import it under that id, which its tasks' ids carry"
            )
        if self._manifest is not None:
            raise Invalid(f"the archive has {path[:200]!r} behind its {MANIFEST}")
        if path == MANIFEST:
            _check_size(member, MAX_MANIFEST_BYTES)
            self._manifest = bytearray()
            return
        if len(self._packed) == MAX_FILES:
            raise TooLarge(f"the archive holds more than {MAX_FILES} files")
        self._check_place(path, member)
        self._make_above(path)
        file = f"{self._new}/{path}"
        if self._disk.exists(file):
            raise Invalid(f"the archive has {path[:200]!r} twice")
        self._fd = self._disk.open(file, write=True)
        self._member, self._digest, self._written = Begin(path, member.size), hashlib.sha256(), 0

    def _check_place(self, path: str, member: Begin) -> None:
        """Raises Invalid unless it is a file that a session has."""
        names = inside.checked(path, "a name in the archive")
        if path in (layout.METADATA, layout.TASKS):
            return _check_size(member, MAX_READ_BYTES)
        if len(names) == 2 and names[0] == layout.HISTORY:
            if layout.segment_number(names[1]) is not None or layout.parsed_record_name(names[1]) is not None:
                return _check_size(member, MAX_READ_BYTES)
        elif (len(names) == 2 and names[0] == layout.OUTPUT and layout.is_output(names[1])) or (
            len(names) > 1 and names[0] == layout.ARTIFACTS
        ):
            return None
        elif len(names) > 1 and names[0] == layout.HOME:
            if self._goes_along("/".join(names[1:])):
                return None
            text = "an agent's settings, login and programs stay where they are, and no archive has them"
            raise Invalid(f"the archive has {path[:200]!r}: {text}")
        raise Invalid(f"the archive has {path[:200]!r}, which is no file of a session")

    def _make_above(self, path: str) -> None:
        directory = self._new
        for name in path.split("/")[:-1]:
            directory = f"{directory}/{name}"
            if directory not in self._directories:
                if self._disk.exists(directory):
                    raise Invalid(f"the archive has {path[:200]!r} beneath a file")
                self._make(directory)

    def _end_member(self) -> None:
        if self._fd is None:
            return
        fd, member = self._fd, self._member
        assert member is not None
        if self._written != member.size:
            raise Invalid(f"the archive ends within {member.name[:200]!r}; export the session again")
        self._disk.fsync(fd, "import.file")
        self._fd = None
        self._disk.close(fd)
        self._packed.append(Packed(path=member.name, size=member.size, sha256=self._digest.hexdigest()))

    # ------------------------------------------------------------------ the whole

    def _put_in_place(self) -> None:
        for directory in sorted(self._directories):
            self._disk.fsync_dir(directory, "import.dir")
        self._disk.rename(self._new, self._path)
        try:
            self._disk.fsync_dir(self._sessions_dir, "import.sessions_dir")
        except OSError:
            self._disk.rename(self._path, self._new)  # refused, so it must not be there after all
            raise

    def _on_disk(self, step: Callable[[], None]) -> None:
        try:
            step()
        except OSError as error:
            raise failure(error, f"session {self._session_id}") from error

    def __enter__(self) -> Import:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_size(member: Begin, most: int) -> None:
    if member.size > most:
        raise TooLarge(f"{member.name[:200]!r} in the archive is larger than {most} bytes")
