"""A session as an archive: its files as they were at one event, though it goes on meanwhile.

In it are the journal up to that event, the views of it, the output and the artifacts. Not in it: `workspace/` and
`home/`, which are the tasks' own and may hold what must not leave the machine, and the daemon's tokens. Of a task that
runs, the output is there as far as it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from agentd.errors import ArtifactNotFound, StorageFailed
from agentd.store import journal, layout, views
from agentd.store.archive import Packer
from agentd.store.artifacts import Artifacts
from agentd.store.disk import Disk
from agentd.store.view_writer import Moment
from agentd.store.views import View

_BLOCK = 256 << 10
_PAGE = 1000


class _File(NamedTuple):
    """A file as it will be in the archive: its first `size` bytes."""

    path: str
    size: int


def exported(disk: Disk, session_dir: str, moment: Moment) -> Iterator[bytes]:
    """The archive of the session as of the moment, in blocks. Blocking.

    Raises:
        StorageFailed: a file cannot be read, or retention took it meanwhile.
    """
    packer = Packer(moment.session.session_id, moment.seq)
    try:
        for path, data in _views(moment):
            yield from packer.member(path, len(data), iter((data,)))
        there = frozenset(disk.listdir(layout.history_dir(session_dir)))
        for file in (*_segments(disk, session_dir, moment), *_records(disk, session_dir, moment, there)):
            yield from packer.member(file.path, file.size, _blocks(disk, f"{session_dir}/{file.path}"))
        for path, data in _unwritten(moment, there):
            yield from packer.member(path, len(data), iter((data,)))
        for file in _outputs(disk, session_dir):
            yield from packer.member(file.path, file.size, _blocks(disk, f"{session_dir}/{file.path}"))
        yield from _artifacts(packer, Artifacts(Path(session_dir)))
    except EOFError as error:
        raise StorageFailed(f"{error} became shorter while it was exported; export the session again") from error
    except OSError as error:
        name = error.filename or session_dir
        raise StorageFailed(f"{name} cannot be read: {error.strerror}; export the session again") from error
    yield from packer.end()


def _views(moment: Moment) -> Iterator[tuple[str, bytes]]:
    yield layout.METADATA, views.metadata_bytes(moment.session)
    view = View(
        session=moment.session,
        seq=moment.seq,
        position=moment.position,
        task_lines=[msgspec.json.encode(task) for task in moment.tasks],
        counts=dict(Counter(task.state.value for task in moment.tasks)),
        keys=moment.keys,
    )
    yield layout.TASKS, views.snapshot_bytes(view)


def _segments(disk: Disk, session_dir: str, moment: Moment) -> Iterator[_File]:
    """The journal up to the moment."""
    last = moment.position.segment
    for number in journal.segments(disk, session_dir):
        if number <= last:
            path = f"{layout.HISTORY}/{layout.segment_name(number)}"
            size = moment.position.offset if number == last else disk.size(f"{session_dir}/{path}")
            yield _File(path, size)


def _records(disk: Disk, session_dir: str, moment: Moment, there: frozenset[str]) -> Iterator[_File]:
    """The records that are there and are not of a later moment."""
    for name in sorted(there):
        record = layout.parsed_record_name(name)
        if record is not None and record[0] <= moment.seq:
            path = f"{layout.HISTORY}/{name}"
            yield _File(path, disk.size(f"{session_dir}/{path}"))


def _unwritten(moment: Moment, there: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """The records of tasks that ended so lately that theirs were not there yet."""
    for task in moment.tasks:
        if task.terminal and (name := layout.record_name(task.seq, task.state, task.task_id)) not in there:
            yield f"{layout.HISTORY}/{name}", msgspec.json.encode(task) + b"\n"


def _outputs(disk: Disk, session_dir: str) -> Iterator[_File]:
    """What attempts wrote. A log grows, so its index is measured first: it tells of no byte that is not there."""
    for name in sorted(disk.listdir(layout.output_dir(session_dir))):
        if not layout.is_output(name):
            continue
        path = f"{layout.OUTPUT}/{name}"
        entry = disk.entry(f"{session_dir}/{path}")
        if entry.kind == "file":
            yield _File(path, entry.size)


def _blocks(disk: Disk, path: str) -> Iterator[bytes]:
    fd = disk.open(path)
    try:
        at = 0
        while block := disk.pread(fd, _BLOCK, at):
            at += len(block)
            yield block
    finally:
        disk.close(fd)


def _artifacts(packer: Packer, artifacts: Artifacts) -> Iterator[bytes]:
    cursor: str | None = None
    while True:
        page = artifacts.list(_PAGE, cursor)
        for row in page.data:
            try:
                opened = artifacts.open(row.path)
            except ArtifactNotFound:
                continue  # removed meanwhile
            with opened.file as file:
                yield from packer.member(f"{layout.ARTIFACTS}/{row.path}", opened.size, _read(file))
        if (cursor := page.next) is None:
            return


def _read(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block
