"""What a session has that may be pruned, and the removing of it. Blocking.

`look`, then `retention.plan`, then for each step: journal its event, `carry_out`. All of it may be repeated: what a
crash left of a step is found and planned again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from msgspec.structs import replace

from agentd.errors import StorageFailed
from agentd.store import inside, layout
from agentd.store.retention import OutputFiles, RecordFile, SegmentFile, SessionFacts, Step

#: Old segments that one look reads to learn whose history they hold; the others wait for the next.
MAX_SEGMENTS = 4

_OUTPUT = re.compile(r"([0-9a-z]+\.[0-9]+)(\.log|\.idx|\.result\.json|\.result\.json\.left|\.handed)")
_TASK_ID = re.compile(rb'"task_id":"([0-9a-z]+)"')
_BLOCK = 256 << 10


def look(session_dir: Path, facts: SessionFacts) -> SessionFacts:
    """The facts with what is in the session's directory now. Its views must have been written since its last change.

    Raises:
        StorageFailed: the directory cannot be read.
    """
    try:
        records, segments = _history(session_dir / layout.HISTORY)
        return replace(facts, records=records, segments=segments, outputs=_outputs(session_dir / layout.OUTPUT))
    except OSError as error:
        raise StorageFailed(f"session {facts.session_id} cannot be read for cleanup: {error}") from error


def carry_out(session_dir: Path, step: Step) -> None:
    """Remove the records and outputs that the step names; what is gone already is passed over.

    The step's event is durable before. Its segments are the journal's own to remove: `Folder.prune`.

    Raises:
        StorageFailed: the disk refused; what is left is planned again the next time.
    """
    try:
        _remove(session_dir / layout.OUTPUT, [name for output in step.outputs for name in output.names])
        _remove(session_dir / layout.HISTORY, [record.name for record in step.records])
    except OSError as error:
        raise StorageFailed(f"session {step.session_id} cannot be pruned: {error}") from error


def _remove(directory: Path, names: list[str]) -> None:
    if not names:
        return
    try:
        with inside.directory(directory) as fd:
            for name in names:
                inside.remove_file(fd, name)
            os.fsync(fd)
    except FileNotFoundError:
        pass  # nothing was ever there


def _files(directory: Path) -> Iterator[tuple[str, int, float]]:
    """Name, size and time of the files in a directory."""
    try:
        with inside.directory(directory) as fd, os.scandir(fd) as entries:
            for entry in entries:
                try:
                    stat = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # gone meanwhile
                if S_ISREG(stat.st_mode):
                    yield entry.name, stat.st_size, stat.st_mtime
    except FileNotFoundError:
        return  # a session that has none


def _history(directory: Path) -> tuple[tuple[RecordFile, ...], tuple[SegmentFile, ...]]:
    records, segments = [], []
    for name, size, at in _files(directory):
        if parsed := layout.parsed_record_name(name):
            seq, state, task_id = parsed
            records.append(RecordFile(seq=seq, state=state, task_id=task_id, bytes=size, at=at))
        elif number := layout.segment_number(name):
            segments.append(SegmentFile(number=number, bytes=size, at=at))
    segments.sort(key=lambda segment: segment.number)
    oldest = segments[:-1][:MAX_SEGMENTS]  # the last one never goes
    segments[: len(oldest)] = [
        replace(segment, tasks=_tasks_of(directory, layout.segment_name(segment.number))) for segment in oldest
    ]
    return tuple(records), tuple(segments)


def _tasks_of(directory: Path, name: str) -> frozenset[str]:
    """The tasks that a segment of the journal tells of; text that only looks like one makes it stay, no more."""
    found: set[bytes] = set()
    with inside.directory(directory) as fd, os.fdopen(inside.open_file(fd, name), "rb") as segment:
        rest = b""
        while block := segment.read(_BLOCK):
            lines = rest + block
            cut = lines.rfind(b"\n") + 1
            found.update(_TASK_ID.findall(lines, 0, cut))
            rest = lines[cut:]
        found.update(_TASK_ID.findall(rest))
    return frozenset(task_id.decode() for task_id in found)


def _outputs(directory: Path) -> tuple[OutputFiles, ...]:
    found: dict[str, tuple[tuple[str, ...], int, float]] = {}
    for name, size, at in _files(directory):
        if match := _OUTPUT.fullmatch(name):
            suffixes, total, latest = found.get(match[1], ((), 0, 0.0))
            found[match[1]] = (*suffixes, match[2]), total + size, max(latest, at)
    return tuple(
        OutputFiles(attempt_id=attempt_id, suffixes=suffixes, bytes=size, at=at)
        for attempt_id, (suffixes, size, at) in found.items()
    )
