"""A session as an archive: its files as they were at one event, though it goes on meanwhile.

In it are the journal up to that event, the views of it, the output, the artifacts and of `home/` what agents remember
of their conversations. Not in it: `workspace/`, which is the tasks' own and may hold what must not leave the machine;
links; logins, settings and programs in `home/`; and the daemon's tokens. Of a task that runs, the output is there as
far as it was written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agentd.errors import ArtifactNotFound, StorageFailed
from agentd.store import journal, layout, views
from agentd.store.archive import GoesAlong, Packer
from agentd.store.artifacts import Artifacts
from agentd.store.disk import Disk
from agentd.store.view_writer import Moment
from agentd.store.views import View

_BLOCK = 256 << 10
_PAGE = 1000


class _Member(NamedTuple):
    """A file as it will be in the archive: the first `size` bytes of the blocks."""

    path: str
    size: int
    blocks: Iterator[bytes]


def exported(disk: Disk, session_dir: str, moment: Moment, goes_along: GoesAlong) -> Iterator[bytes]:
    """The archive of the session as of the moment, in blocks. Blocking.

    Raises:
        StorageFailed: an artifact cannot be read, by itself before the first block; the blocks, that a file cannot be
            read any more, or retention took it meanwhile.
    """
    Artifacts(Path(session_dir)).check()  # a task may have given them any mode
    return _packed(disk, session_dir, moment, goes_along)


def _packed(disk: Disk, session_dir: str, moment: Moment, goes_along: GoesAlong) -> Iterator[bytes]:
    packer = Packer(moment.session.session_id, moment.seq)
    try:
        for member in _members(disk, session_dir, moment, goes_along):
            yield from packer.member(*member)
    except EOFError as error:
        raise StorageFailed(f"{error} became shorter while it was exported; export the session again") from error
    except OSError as error:
        name = error.filename or session_dir
        raise StorageFailed(f"{name} cannot be read: {error.strerror}; export the session again") from error
    yield from packer.end()


def _members(disk: Disk, session_dir: str, moment: Moment, goes_along: GoesAlong) -> Iterator[_Member]:
    def file(path: str, size: int) -> _Member:
        return _Member(path, size, _blocks(disk, f"{session_dir}/{path}"))

    yield from _views(moment)
    there = frozenset(disk.listdir(layout.history_dir(session_dir)))
    for path, size in [*_segments(disk, session_dir, moment), *_records(disk, session_dir, moment, there)]:
        yield file(path, size)
    yield from _unwritten(moment, there)
    for path, size in _outputs(disk, session_dir):
        yield file(path, size)
    yield from _tree(session_dir, layout.ARTIFACTS, lambda path: True)
    yield from _tree(session_dir, layout.HOME, goes_along)


def _held(path: str, data: bytes) -> _Member:
    return _Member(path, len(data), iter((data,)))


def _views(moment: Moment) -> Iterator[_Member]:
    yield _held(layout.METADATA, views.metadata_bytes(moment.session))
    view = View(
        session=moment.session,
        seq=moment.seq,
        position=moment.position,
        task_lines=[msgspec.json.encode(task) for task in moment.tasks],
        counts=dict(Counter(task.state.value for task in moment.tasks)),
        keys=moment.keys,
        run_lines=[msgspec.json.encode(run) for run in moment.runs],
        live_runs=sum(run.live for run in moment.runs),
    )
    yield _held(layout.TASKS, views.snapshot_bytes(view))


def _segments(disk: Disk, session_dir: str, moment: Moment) -> Iterator[tuple[str, int]]:
    """The journal up to the moment."""
    last = moment.position.segment
    for number in journal.segments(disk, session_dir):
        if number <= last:
            path = f"{layout.HISTORY}/{layout.segment_name(number)}"
            size = moment.position.offset if number == last else disk.size(f"{session_dir}/{path}")
            yield path, size


def _records(disk: Disk, session_dir: str, moment: Moment, there: frozenset[str]) -> Iterator[tuple[str, int]]:
    """The records that are there and are not of a later moment."""
    for name in sorted(there):
        record = layout.parsed_record_name(name)
        if record is not None and record[0] <= moment.seq:
            path = f"{layout.HISTORY}/{name}"
            yield path, disk.size(f"{session_dir}/{path}")


def _unwritten(moment: Moment, there: frozenset[str]) -> Iterator[_Member]:
    """The records of tasks that ended so lately that theirs were not there yet."""
    for task in moment.tasks:
        if task.terminal and (name := layout.record_name(task.seq, task.state, task.task_id)) not in there:
            yield _held(f"{layout.HISTORY}/{name}", msgspec.json.encode(task) + b"\n")


def _outputs(disk: Disk, session_dir: str) -> Iterator[tuple[str, int]]:
    """What attempts wrote. A log grows, so its index is measured first: it tells of no byte that is not there."""
    for name in sorted(disk.listdir(layout.output_dir(session_dir))):
        if not layout.is_output(name):
            continue
        path = f"{layout.OUTPUT}/{name}"
        entry = disk.entry(f"{session_dir}/{path}")
        if entry.kind == "file":
            yield path, entry.size


def _blocks(disk: Disk, path: str) -> Iterator[bytes]:
    fd = disk.open(path)
    try:
        at = 0
        while block := disk.pread(fd, _BLOCK, at):
            at += len(block)
            yield block
    finally:
        disk.close(fd)


def _tree(session_dir: str, directory: str, wanted: GoesAlong) -> Iterator[_Member]:
    artifacts = Artifacts(Path(session_dir), directory)
    cursor: str | None = None
    while True:
        page = artifacts.list(_PAGE, cursor)
        for row in filter(lambda row: wanted(row.path), page.data):
            try:
                opened = artifacts.open(row.path)
            except ArtifactNotFound:
                continue  # removed meanwhile
            with opened.file:
                yield _Member(f"{directory}/{row.path}", opened.size, opened.blocks())
        if (cursor := page.next) is None:
            return
