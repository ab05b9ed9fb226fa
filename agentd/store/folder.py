"""One session's directory: created whole or not at all, opened and repaired, appended to, viewed.

Blocking; call it from threads, one at a time per folder. Only `write_views` and `read_events` may run beside `append`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from agentd.errors import StorageFailed
from agentd.model.events import Event
from agentd.model.session import Session
from agentd.store import examine, layout, quarantine, views
from agentd.store.appender import Appended, Appender
from agentd.store.datadir import read_format, remove_session, sweep, write_format
from agentd.store.disk import Disk, failure, replace_file
from agentd.store.examine import Examined, Header, Loaded
from agentd.store.journal import Position, sealed_batch, sealed_head
from agentd.store.reader import Reader
from agentd.store.replay import Finished, KeyRecord, Replay
from agentd.store.views import View, view_of

__all__ = [
    "Appended",
    "Finished",
    "Folder",
    "Header",
    "KeyRecord",
    "Loaded",
    "Position",
    "View",
    "read_format",
    "sweep",
    "write_format",
]

SEGMENT_BYTES = 8 << 20


class Folder:
    """A session's directory, open for appending."""

    def __init__(self, disk: Disk, path: str, segment_bytes: int) -> None:
        self.path = path
        self.session_id = layout.session_id_of(path)
        self._disk = disk
        self._reader = Reader(disk, path)
        self._appender = Appender(disk, path, segment_bytes, self._reader.began)
        # What a crash may have kept from being written, and the next snapshot promises.
        self._missing: list[Finished] = []
        self._metadata_behind = False
        self.ours: dict[bytes, Session] = {}  #: texts of metadata.json that are no edit by hand, and what each shows

    # ------------------------------------------------------------------ create

    @classmethod
    def create(
        cls,
        disk: Disk,
        sessions_dir: str,
        session: Session,
        events: Sequence[Event],
        *,
        segment_bytes: int = SEGMENT_BYTES,
        refused_before: bool = False,
    ) -> tuple[Folder, Appended]:
        """Make the session with its first events; it is durable when this returns, and otherwise not there.

        After a creation of this id that was `refused_before`, what the disk would not take back is replaced.

        Raises:
            FileExistsError: the name is taken.
            StorageFailed: it was not made; a disk that refuses everything may keep its directory all the same.
        """
        path = f"{sessions_dir}/{session.session_id}"
        if disk.exists(path) and not refused_before:
            raise FileExistsError(path)
        folder = cls(disk, path, segment_bytes)
        try:
            if disk.exists(path):
                remove_session(disk, sessions_dir, session.session_id)
            return folder, folder._build(layout.new_session_dir(sessions_dir, session.session_id), sessions_dir, events)
        except OSError as error:
            folder.close()
            _discard(disk, layout.new_session_dir(sessions_dir, session.session_id))
            raise failure(error, f"session {session.session_id}") from error

    def _build(self, new: str, sessions_dir: str, events: Sequence[Event]) -> Appended:
        disk = self._disk
        if disk.exists(new):
            disk.rmtree(new)
        disk.mkdir(new)
        for name in layout.DIRECTORIES:
            disk.mkdir(f"{new}/{name}")
        lines, crc = sealed_batch(self.session_id, events, 1, 0)
        data = b"".join([sealed_head(self.session_id, 1, 1, 0), *lines])
        fd = disk.open(layout.segment_path(new, 1), append=True)
        self._appender.go_on(fd, 1, len(data), len(events), crc)
        disk.write(fd, data)
        disk.fdatasync(fd, "create.journal")
        replay = Replay()
        for seq, event in enumerate(events, 1):
            replay.apply(event, seq)
        for record in replay.records():
            views.write_record(disk, new, *record)
        disk.fsync_dir(layout.history_dir(new), "create.history_dir")
        position = Position(file=layout.segment_name(1), offset=len(data), crc=f"{crc:08x}")
        view = view_of(replay, position)
        text = views.metadata_bytes(view.session)
        replace_file(disk, layout.metadata_path(new), text, "create.metadata")
        self.ours = {text: view.session}
        replace_file(disk, layout.tasks_path(new), views.snapshot_bytes(view), "create.tasks")
        disk.fsync_dir(new, "create.new_dir")
        disk.rename(new, self.path)
        try:
            disk.fsync_dir(sessions_dir, "create.sessions_dir")
        except OSError:
            disk.rename(self.path, new)  # refused, so it must not be there after all
            raise
        self._reader.segments = [(1, 1)]
        return Appended(lines, position)

    # ------------------------------------------------------------------ open

    @classmethod
    def open(cls, disk: Disk, path: str, *, segment_bytes: int = SEGMENT_BYTES) -> tuple[Folder, Loaded]:
        """Verify the session from its snapshot on, cut what was never acknowledged, and make sure the rest is durable.

        What is cut is in quarantine first. Everything is read before anything is changed.

        Raises:
            SessionReadOnly: it is damaged; nothing was touched.
            StorageFailed: the repair could not be written.
        """
        folder = cls(disk, path, segment_bytes)
        found = examine.examined(disk, path)
        try:
            folder._repair(found)
        except OSError as error:
            folder.close()
            raise failure(error, f"the repair of session {folder.session_id}") from error
        return folder, found.loaded()

    def _repair(self, found: Examined) -> None:
        disk, scan = self._disk, found.scan
        assert scan.last is not None and scan.position is not None
        if found.bad_snapshot is not None:
            quarantine.keep(disk, self.path, layout.TASKS, 0, found.bad_snapshot)
            disk.unlink(layout.tasks_path(self.path))
        for torn in scan.torn:
            if torn.data:
                quarantine.keep(disk, self.path, layout.segment_name(torn.segment), torn.offset, torn.data)
        for torn in reversed(scan.torn):
            if torn.segment != scan.last.number:
                disk.unlink(layout.segment_path(self.path, torn.segment))
        last = scan.last.number
        fd = disk.open(layout.segment_path(self.path, last), append=True)
        self._appender.go_on(fd, last, scan.end, scan.seq, int(scan.position.crc, 16))
        if any(torn.segment == last for torn in scan.torn):
            disk.truncate(fd, scan.end)
        if found.stale:
            # What is read back after the process died may be in memory only; from here on it counts as acknowledged.
            disk.fdatasync(fd, "open.journal")
            disk.fsync_dir(layout.history_dir(self.path), "open.history_dir")
            disk.fsync_dir(self.path, "open.session_dir")
        self._missing, self._metadata_behind = found.missing, found.behind
        if found.metadata is not None and not found.edited and found.replay.session is not None:
            self.ours = {found.metadata: found.replay.session}
        if found.snapshot is None:
            self._reader.segments = [(each.number, each.head.first_seq) for each in scan.segments if each.head]

    @classmethod
    def read_untouched(cls, disk: Disk, path: str) -> Loaded:
        """What `open` would give, without a repair: when nothing may be changed.

        Raises:
            SessionReadOnly: it is damaged.
        """
        return examine.examined(disk, path).loaded()

    @classmethod
    def read_damaged(cls, disk: Disk, path: str) -> Loaded:
        """As much of a damaged session as can be read: its snapshot, else the sound part of its journal."""
        return examine.salvaged(disk, path)

    @staticmethod
    def header(disk: Disk, path: str) -> Header | None:
        """What lists show, if views and journal agree at a glance; None when the session must be opened."""
        return examine.header(disk, path)

    # ------------------------------------------------------------------ append

    @property
    def poisoned(self) -> str | None:
        """Why nothing can be appended; `resume` ends it."""
        return self._appender.poisoned

    def append(self, events: Sequence[Event], first_seq: int, most: float = math.inf) -> Appended:
        """Make the batch durable, or its beginning where it is more than `most` bytes: one write, one sync.

        Raises:
            StorageFull: there is no room; the folder is as before, and the next append may succeed.
            StorageFailed: the disk refused; likewise, unless `poisoned` now says why nothing can be appended.
            SessionReadOnly: it is poisoned.
        """
        return self._appender.append(events, first_seq, most)

    def resume(self) -> None:
        """Go on after a failed sync, in a new segment.

        Raises:
            StorageFailed: the disk still refuses; it stays poisoned.
        """
        self._appender.resume()

    # ------------------------------------------------------------------ views, reading

    def write_views(self, view: View, *, wanted: Callable[[], bool] = lambda: True) -> bool:
        """Bring the views up to the view, unless they are no longer `wanted`.

        False when metadata.json was left as it is: somebody edited it since it was `written`.

        Raises:
            StorageFailed: what was written is right, the rest is as before; write them again later.
        """
        try:
            replaced = views.write(
                self._disk,
                self.path,
                view,
                self._missing,
                metadata_too=self._metadata_behind,
                ours=self.ours,
                wanted=wanted,
            )
        except OSError as error:
            raise failure(error, f"the views of session {self.session_id}") from error
        self._missing = []
        if replaced and (view.metadata_changed or self._metadata_behind):
            self.ours = {views.metadata_bytes(view.session): view.session}
        self._metadata_behind = not replaced
        return replaced

    def read_events(self, after: int, limit: int, up_to: int) -> tuple[list[bytes], int | None]:
        """At most `limit` journal lines with `after` < seq <= `up_to`, and a few MiB at most.

        The second value is None, or the first seq there still is when some after `after` were pruned.

        Raises:
            StorageFailed: the journal cannot be read.
        """
        try:
            return self._reader.read(after, limit, up_to)
        except ValueError as error:
            raise StorageFailed(
                f"the journal of session {self.session_id}: {error}; `agentd check` tells more"
            ) from error
        except OSError as error:
            raise StorageFailed(f"the journal of session {self.session_id} cannot be read: {error.strerror}") from error

    def prune(self, segment: int) -> int:
        """Remove the segments up to this one that no snapshot needs; the bytes freed.

        Raises:
            StorageFailed: it could not all be removed.
        """
        try:
            return self._pruned(segment)
        except OSError as error:
            raise failure(error, f"the journal of session {self.session_id}") from error

    def _pruned(self, segment: int) -> int:
        head = views.read_snapshot_head(self._disk, self.path)
        if head is None:
            return 0
        # The snapshot that makes them needless must outlive them.
        self._disk.fsync_dir(self.path, "prune.session_dir")
        freed = 0
        for number, _ in self._reader.older_than(head.journal.segment):
            if number > segment:
                break
            path = layout.segment_path(self.path, number)
            size = self._disk.size(path)
            self._reader.dropped(number)
            self._disk.unlink(path)
            # One by one, so that a crash leaves no gap between segments.
            self._disk.fsync_dir(layout.history_dir(self.path), "prune.history_dir")
            freed += size
        return freed

    def close(self) -> None:
        """Give the descriptor back; again is no error."""
        self._appender.close()


def _discard(disk: Disk, directory: str) -> None:
    try:
        if disk.exists(directory):
            disk.rmtree(directory)
    except OSError:
        pass  # the next start sweeps it
