"""What a session has that may be pruned, and the removing of it. Blocking.

`look`, then `retention.plan`, then for each step: journal its event, `carry_out`. All of it may be repeated: what a
crash left of a step is found and planned again.
"""

from __future__ import annotations

import os
import re
from itertools import groupby
from pathlib import Path

from msgspec.structs import replace

from agentd.errors import StorageFailed
from agentd.store import inside, layout
from agentd.store.retention import OutputFiles, RecordFile, SegmentFile, SessionFacts, Step

#: Old segments that one look reads to learn whose history they hold; the others wait for the next.
MAX_SEGMENTS = 4

_OUTPUT = re.compile(r"(([0-9a-z]+)\.[0-9]+)\.(?:log|idx|result\.json)")
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
    """Remove what the step names; what is gone already is passed over. The step's event is durable before.

    Raises:
        StorageFailed: the disk refused; what is left is planned again the next time.
    """
    try:
        _remove(session_dir / layout.OUTPUT, [name for output in step.outputs for name in output.names])
        _remove(session_dir / layout.HISTORY, [record.name for record in step.records])
        for number in sorted(step.segments):
            # Each for itself, oldest first: a power loss must not leave a hole between two segments.
            _remove(session_dir / layout.HISTORY, [layout.segment_name(number)])
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


def _files(directory: Path) -> list[tuple[str, os.stat_result]]:
    found = []
    try:
        with inside.directory(directory) as fd, os.scandir(fd) as entries:
            for entry in entries:
                try:
                    if entry.is_file(follow_symlinks=False):
                        found.append((entry.name, entry.stat(follow_symlinks=False)))
                except FileNotFoundError:
                    continue  # gone meanwhile
    except FileNotFoundError:
        pass  # a session that has none
    return found


def _history(directory: Path) -> tuple[tuple[RecordFile, ...], tuple[SegmentFile, ...]]:
    records, segments = [], []
    for name, stat in _files(directory):
        if parsed := layout.parsed_record_name(name):
            seq, _, task_id = parsed
            records.append(RecordFile(seq=seq, task_id=task_id, name=name, bytes=stat.st_size, at=stat.st_mtime))
        elif number := layout.segment_number(name):
            segments.append(SegmentFile(number=number, bytes=stat.st_size, at=stat.st_mtime))
    segments.sort(key=lambda segment: segment.number)
    oldest = segments[:-1][:MAX_SEGMENTS]  # the last one never goes
    segments[: len(oldest)] = [
        replace(segment, tasks=_tasks_of(directory, layout.segment_name(segment.number))) for segment in oldest
    ]
    records.sort(key=lambda record: record.seq)
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
    files = [(match, stat) for name, stat in _files(directory) if (match := _OUTPUT.fullmatch(name))]
    files.sort(key=lambda file: file[0][0])
    outputs = []
    for attempt_id, group in groupby(files, key=lambda file: file[0][1]):
        parts = list(group)
        outputs.append(
            OutputFiles(
                task_id=parts[0][0][2],
                attempt_id=attempt_id,
                names=tuple(match[0] for match, _ in parts),
                bytes=sum(stat.st_size for _, stat in parts),
                at=max(stat.st_mtime for _, stat in parts),
            )
        )
    return tuple(outputs)
