"""What a session's files say, read without changing any: sound, repairable or damaged."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from agentd.errors import InvalidTransition, SessionReadOnly
from agentd.model.events import decoded
from agentd.model.run import Run
from agentd.model.session import Session
from agentd.model.task import Task, Value
from agentd.store import layout, views
from agentd.store.disk import Disk
from agentd.store.journal import Position, Scan
from agentd.store.replay import Finished, KeyRecord, Replay
from agentd.store.views import Snapshot


class Loaded(Value, frozen=True, kw_only=True):
    """All that a session's journal says."""

    session: Session
    tasks: dict[str, Task]  #: live ones and the finished ones that are kept
    seq: int
    finished_order: list[str]  #: ids of the finished tasks in `tasks`, oldest first
    keys: dict[str, KeyRecord]
    position: Position
    torn: int  #: records that were cut
    runs: dict[str, Run] = {}  #: live ones and the ended ones that are kept
    metadata: bytes | None = None  #: metadata.json as it is; None when it cannot be read
    edited: bool = False  #: metadata.json is not as the store wrote it: somebody edited, damaged or removed it
    stale: bool = False  #: tasks.json is not of `seq`, or was not sound: write the views


class Header(Value, frozen=True, kw_only=True):
    """What a list shows of a session; nothing was parsed beyond the first line of tasks.json."""

    session: Session
    seq: int
    counts: dict[str, int]
    live_runs: int
    clean: bool  #: the views are up to the journal's end


class Examined(NamedTuple):
    """What was read of a session, before anything is repaired."""

    scan: Scan
    replay: Replay
    snapshot: Snapshot | None
    bad_snapshot: bytes | None
    missing: list[Finished]
    metadata: bytes | None
    edited: bool
    behind: bool  #: metadata.json is the store's own and of an earlier event

    @property
    def stale(self) -> bool:
        """Whether the snapshot is not of the journal's very end."""
        return self.snapshot is None or self.snapshot.journal != self.scan.position or bool(self.scan.torn)

    def loaded(self) -> Loaded:
        assert self.scan.position is not None and self.replay.session is not None
        # A task without a record is nowhere else: it stays until the next view has written that.
        unrecorded = [each.task_id for each in self.missing if each.task_id not in self.replay.tasks]
        return Loaded(
            session=self.replay.session,
            tasks={task_id: self.replay.ended[task_id][1] for task_id in unrecorded} | self.replay.tasks,
            seq=self.replay.seq,
            finished_order=[*unrecorded, *self.replay.finished],
            keys=self.replay.keys,
            runs=self.replay.runs,
            position=self.scan.position,
            torn=sum(torn.records for torn in self.scan.torn),
            metadata=self.metadata,
            edited=self.edited,
            stale=self.stale or self.behind or bool(self.missing),
        )


def examined(disk: Disk, path: str) -> Examined:
    """Read all that decides what the session is; nothing is changed.

    Raises:
        SessionReadOnly: it is damaged.
    """
    try:
        for directory in (path, layout.history_dir(path)):
            if disk.entry(directory).kind != "directory":
                raise SessionReadOnly(f"{directory.removeprefix(path) or path} is not a directory")
        return _replayed(disk, path)
    except OSError as error:
        raise SessionReadOnly(f"it cannot be read: {error.strerror}: {error.filename or path}") from error


def _replayed(disk: Disk, path: str) -> Examined:
    snapshot, bad = _read_snapshot(disk, path)
    metadata = _read_if_there(disk, layout.metadata_path(path))
    written = _metadata_session(metadata)
    if snapshot is not None:
        replay = snapshot.replay()
        scan = Scan(disk, path, after=snapshot.seq, position=snapshot.journal)
    else:
        replay, scan = Replay(), Scan(disk, path)
    as_written = replay.session
    for seq, line in scan:
        if replay.seq == 0 and seq != 1:
            raise SessionReadOnly(
                f"tasks.json cannot be used and the journal before event {seq} was removed by retention"
            )
        try:
            replay.apply(decoded(line), seq)
        except (InvalidTransition, msgspec.MsgspecError) as error:
            raise SessionReadOnly(f"event {seq} cannot be applied: {error}") from error
        if written is not None and seq <= max(written.seq, 1):
            as_written = replay.session
    if replay.session is None or scan.position is None:
        raise SessionReadOnly("its journal does not hold how it was created")
    edited = written is None or as_written is None or not views.same_settings(written, as_written)
    there = set(disk.listdir(layout.history_dir(path))) if replay.ended else set()
    missing = [
        record
        for record in replay.records()
        if layout.record_name(record.seq, record.state, record.task_id) not in there
    ]
    # Tasks move `updated_at` without a new metadata.json.
    behind = not edited and written is not None and written.seq != replay.session.seq
    return Examined(scan, replay, snapshot, bad, missing, metadata, edited, behind)


def _read_snapshot(disk: Disk, path: str) -> tuple[Snapshot | None, bytes | None]:
    """The snapshot, or its bytes if they are not sound."""
    data = _read_if_there(disk, layout.tasks_path(path))
    if data is None:
        return None, None
    try:
        snapshot = views.read_snapshot(data)
    except ValueError:
        return None, data
    if snapshot.format > layout.FORMAT:
        raise SessionReadOnly(f"tasks.json has format {snapshot.format}; this agentd reads up to {layout.FORMAT}")
    if snapshot.session_id != layout.session_id_of(path):
        raise SessionReadOnly(
            f"tasks.json belongs to session {snapshot.session_id}; give the directory that name again"
        )
    return snapshot, None


def _read_if_there(disk: Disk, path: str) -> bytes | None:
    try:
        return disk.read(path)
    except OSError:
        return None


def _metadata_session(data: bytes | None) -> Session | None:
    try:
        return views.read_metadata(data) if data is not None else None
    except ValueError:
        return None


def _session_shown(metadata: bytes | None, session_id: str) -> Session:
    never = "1970-01-01T00:00:00.000000Z"
    return _metadata_session(metadata) or Session(session_id=session_id, created_at=never, updated_at=never)


def salvaged(disk: Disk, path: str) -> Loaded:
    """As much of a damaged session as can be read: its snapshot, else the sound part of its journal."""
    snapshot = replay = None
    position = Position(file=layout.segment_name(1), offset=0, crc="00000000")
    try:
        snapshot = views.read_snapshot_loosely(disk.read(layout.tasks_path(path)))
    except OSError:
        pass  # damaged or gone: the journal may tell
    if snapshot is not None:
        replay, position = snapshot.replay(), snapshot.journal
    else:
        replay = Replay()
        scan = Scan(disk, path)
        try:
            for seq, line in scan:
                replay.apply(decoded(line), seq)
        except (OSError, SessionReadOnly, InvalidTransition, msgspec.MsgspecError):
            pass  # as far as it is sound
        position = scan.position or position
    metadata = _read_if_there(disk, layout.metadata_path(path))
    if replay.session is None:
        replay.session = _session_shown(metadata, layout.session_id_of(path))
    return Loaded(
        session=replay.session,
        tasks=replay.tasks,
        seq=replay.seq,
        finished_order=list(replay.finished),
        keys=replay.keys,
        runs=replay.runs,
        position=position,
        torn=0,
        metadata=metadata,
    )


def header(disk: Disk, path: str) -> Header | None:
    """What lists show, if views and journal agree at a glance; None when the session must be opened."""
    try:
        head = views.read_snapshot_head(disk, path)
        if head is None or head.format != layout.FORMAT or head.session_id != layout.session_id_of(path):
            return None
        number = head.journal.segment
        if disk.size(layout.segment_path(path, number)) != head.journal.offset:
            return None
        if disk.exists(layout.segment_path(path, number + 1)):
            return None
        written = views.read_metadata(disk.read(layout.metadata_path(path)))
        # Tasks move `updated_at` without a new metadata.json, and only the head's is shown.
        if written.seq != head.session.seq or not views.same_settings(written, head.session):
            return None
    except (OSError, ValueError):
        return None
    return Header(session=head.session, seq=head.seq, counts=head.counts, live_runs=head.live_runs, clean=True)
