"""tasks.json, metadata.json and the records in history/: what a person reads, and the journal can rebuild.

tasks.json is a snapshot: a head on its first line, Idempotency-Keys on the second, then runs of workflows if there are
any, one a line, then one task a line, then a CRC of all before it. A program that only lists reads the first line.
"""

from __future__ import annotations

import contextlib
import errno
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from agentd.model.reading import read
from agentd.model.run import Run
from agentd.model.session import Session
from agentd.model.task import State, Task, Value
from agentd.store import layout
from agentd.store.disk import Disk, replace_file, write_beside
from agentd.store.journal import Position
from agentd.store.replay import Finished, KeyRecord, Replay

_HEAD_CHUNK = 4096
_HEAD_LIMIT = 1 << 20
_CRC_LENGTH = len(b'"crc":"00000000"}\n')


class View(Value, frozen=True, kw_only=True):
    """What the views of a session say, all of it as of event `seq`."""

    session: Session
    seq: int
    position: Position
    task_lines: Sequence[bytes]  #: live tasks and the finished ones that are kept, as JSON
    counts: dict[str, int]
    keys: Sequence[KeyRecord]
    run_lines: Sequence[bytes] = ()  #: live runs and the ended ones that are kept, as JSON
    live_runs: int = 0
    finished: Sequence[tuple[int, State, str, bytes]] = ()  #: Finished since the last view
    metadata_changed: bool = False


class Head(Value, frozen=True, kw_only=True):
    """The first line of tasks.json."""

    format: int
    session_id: str
    seq: int
    counts: dict[str, int]
    journal: Position
    session: Session
    live_runs: int = 0


class Snapshot(Head, frozen=True, kw_only=True):
    """The whole of tasks.json."""

    keys: tuple[KeyRecord, ...]
    tasks: tuple[Task, ...]
    runs: tuple[Run, ...] = ()

    def replay(self) -> Replay:
        """A replay that goes on after the snapshot."""
        begun = Replay()
        begun.session, begun.seq = self.session, self.seq
        begun.tasks = {task.task_id: task for task in self.tasks}
        begun.keys = {key.key_hash: key for key in self.keys}
        begun.runs = {run.run_id: run for run in self.runs}
        ended = sorted((task.seq, task.task_id) for task in self.tasks if task.terminal)
        begun.finished = {task_id: seq for seq, task_id in ended}
        return begun


def snapshot_bytes(view: View) -> bytes:
    """tasks.json."""
    head = Head(
        format=layout.FORMAT,
        session_id=view.session.session_id,
        seq=view.seq,
        counts=view.counts,
        journal=view.position,
        session=view.session,
        live_runs=view.live_runs,
    )
    runs = b'"runs":[\n%b\n],\n' % b",\n".join(view.run_lines) if view.run_lines else b""
    body = b'%b,\n"keys":%b,\n%b"tasks":[\n%b\n],\n' % (
        msgspec.json.encode(head)[:-1],
        msgspec.json.encode(view.keys),
        runs,
        b",\n".join(view.task_lines),
    )
    return b'%b"crc":"%08x"}\n' % (body, zlib.crc32(body))


def read_snapshot(data: bytes) -> Snapshot:
    """The snapshot in the bytes of tasks.json.

    Raises:
        ValueError: it is not one, or not as it was written; the message says why.
    """
    body = memoryview(data)[: max(0, len(data) - _CRC_LENGTH)]
    if data[len(body) :] != b'"crc":"%08x"}\n' % zlib.crc32(body):
        raise ValueError("its CRC does not fit")
    try:
        return read(data, Snapshot)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error


def read_snapshot_loosely(data: bytes) -> Snapshot | None:
    """The snapshot if it can be decoded at all: for showing what is left of a damaged session."""
    try:
        return read(data, Snapshot)
    except msgspec.MsgspecError:
        return None


def read_snapshot_head(disk: Disk, session_dir: str) -> Head | None:
    """The head of tasks.json; None when it cannot be read. Raises OSError."""
    fd = disk.open(layout.tasks_path(session_dir))
    try:
        data = disk.pread(fd, _HEAD_CHUNK, 0)
        while (end := data.find(b",\n")) < 0 and len(data) % _HEAD_CHUNK == 0 and 0 < len(data) < _HEAD_LIMIT:
            data += disk.pread(fd, _HEAD_CHUNK, len(data))
    finally:
        disk.close(fd)
    try:
        return read(data[:end] + b"}", Head) if end > 0 else None
    except msgspec.MsgspecError:
        return None


class _Metadata(Session, frozen=True, kw_only=True):
    format: int


def metadata_bytes(session: Session) -> bytes:
    """metadata.json, indented: people edit it."""
    return msgspec.json.format(msgspec.json.encode(metadata_fields(session)), indent=2) + b"\n"


def metadata_fields(session: Session) -> dict[str, Any]:
    """What metadata.json says: not what moves on with every task, of which the head of tasks.json tells."""
    fields: dict[str, Any] = {"format": layout.FORMAT, **msgspec.to_builtins(session)}
    del fields["usage"]
    return fields


def read_metadata(data: bytes) -> Session:
    """The session in the bytes of metadata.json.

    Raises:
        ValueError: not JSON, or a field is missing or of the wrong type; the message says which.
    """
    try:
        found = read(data, _Metadata)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    if found.format > layout.FORMAT:
        raise ValueError(f"format {found.format} is newer than this agentd, which reads up to {layout.FORMAT}")
    return Session(**{name: getattr(found, name) for name in Session.__struct_fields__})


def same_settings(one: Session, other: Session) -> bool:
    """Whether two sessions differ in nothing that metadata.json says, but for when they were changed."""
    return replace(one, seq=0, updated_at="", usage=None) == replace(other, seq=0, updated_at="", usage=None)


def replace_metadata(disk: Disk, session_dir: str, session: Session, ours: dict[bytes, Session]) -> bool:
    """Replace metadata.json if its text is one of `ours`, to which the new one is added. False: somebody edited it.

    No edit is overwritten, however late it comes: the files change places, and what comes out is looked at. Where the
    system cannot do that, one made between the look and the rename is lost. Raises OSError.
    """
    path, data = layout.metadata_path(session_dir), metadata_bytes(session)
    temporary = write_beside(disk, path, data, "view.metadata")
    if not disk.exists(path) or disk.entry(path).kind != "file":
        ours[data] = session
        disk.rename(temporary, path)  # nothing that could be an edit
        return True
    replaced = disk.read(path) in ours
    if replaced:
        ours[data] = session
        if not disk.exchange(temporary, path):
            disk.rename(temporary, path)
            return True
        replaced = disk.read(temporary) in ours
        if not replaced:
            disk.exchange(temporary, path)
            if disk.read(temporary) != data:  # edited a second time meanwhile: the later edit counts
                disk.exchange(temporary, path)
    with contextlib.suppress(OSError):  # the next writing begins it anew
        disk.unlink(temporary)
    return replaced


def write_record(disk: Disk, session_dir: str, seq: int, state: State, task_id: str, line: bytes) -> None:
    """The record of a finished task; durable after an `fsync_dir` of history/. Raises OSError."""
    replace_file(disk, layout.record_path(session_dir, seq, state, task_id), line + b"\n", "view.record")


def write(
    disk: Disk,
    session_dir: str,
    view: View,
    missing: Sequence[Finished] = (),
    *,
    metadata_too: bool = False,
    ours: dict[bytes, Session],
    wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Write the views, the records first: a snapshot at seq N promises every record up to N, and metadata.json too.

    False when metadata.json was to be replaced and is not: its text is none of `ours`.

    Raises OSError, also when they are no longer `wanted`; what was written by then is right, and writing it again does
    no harm.
    """
    records = [*missing, *view.finished]
    for record in records:
        if not wanted():
            raise OSError(errno.ECANCELED, "the views are no longer wanted")
        write_record(disk, session_dir, *record)
    if records:
        disk.fsync_dir(layout.history_dir(session_dir), "view.records_dir")
    replaced = True
    if view.metadata_changed or metadata_too:
        replaced = replace_metadata(disk, session_dir, view.session, ours)
        # Or a crash could keep the snapshot and lose this: the old file would look like an edit by hand.
        disk.fsync_dir(session_dir, "view.metadata_dir")
    replace_file(disk, layout.tasks_path(session_dir), snapshot_bytes(view), "view.tasks")
    return replaced


def view_of(
    replay: Replay, position: Position, *, finished: Sequence[Finished] = (), metadata_changed: bool = False
) -> View:
    """The view of a replay that ends at the position."""
    assert replay.session is not None
    return View(
        session=replay.session,
        seq=replay.seq,
        position=position,
        task_lines=[msgspec.json.encode(task) for task in replay.tasks.values()],
        counts=dict(Counter(task.state.value for task in replay.tasks.values())),
        keys=list(replay.keys.values()),
        run_lines=[msgspec.json.encode(run) for run in replay.runs.values()],
        live_runs=sum(run.live for run in replay.runs.values()),
        finished=finished,
        metadata_changed=metadata_changed,
    )
