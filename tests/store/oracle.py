"""What must hold after a crash, whatever it left; each rule has the number that docs/storage.md gives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from agentd.model.events import Event
from agentd.model.run import Run
from agentd.model.task import Task
from agentd.store import layout, views
from agentd.store.check import check
from agentd.store.datadir import prepare, sweep
from agentd.store.disk import Disk
from agentd.store.folder import Folder
from agentd.store.replay import Finished
from agentd.store.views import view_of
from tests.store.story import DATA, SEGMENT_BYTES, SESSIONS, Memory, known_events, records_of, replayed


class WholeDisk(Disk, Protocol):
    """A disk, simulated or not, that can be looked at as a whole."""

    def files(self, path: str = "") -> dict[str, bytes]:
        """Every file under the path and its bytes."""


def sessions_on(disk: WholeDisk) -> list[str]:
    """The sessions a program would see."""
    if not disk.exists(SESSIONS):
        return []
    return [name for name in sorted(disk.listdir(SESSIONS)) if not name.startswith(".")]


def is_journal(path: str) -> bool:
    """Whether it is a segment of a session that is whole, not one half made or half removed."""
    return "/history/events-" in path and "/sessions/." not in path


def check_before_recovery(
    disk: WholeDisk, memories: dict[str, Memory], rotten: frozenset[str], *, after_recovery: bool
) -> None:
    """Rule 3 as `cat` and `jq` see it: the views are some exact past state, even before anything is repaired.

    Only a recovery that was cut short itself may have shown what was issued and never acknowledged.
    """
    for session_id in sessions_on(disk):
        path = f"{SESSIONS}/{session_id}"
        memory = memories[session_id]
        views.read_metadata(disk.read(layout.metadata_path(path)))
        if layout.tasks_path(path) in rotten or not disk.exists(layout.tasks_path(path)):
            continue
        snapshot = views.read_snapshot(disk.read(layout.tasks_path(path)))
        pasts = [memory.acked]
        if after_recovery or not memory.exists:
            pasts += [[*memory.acked, *batch] for batch in memory.maybe]
        pasts = [events[: snapshot.seq] for events in pasts if len(events) >= snapshot.seq]
        assert pasts, "3: the snapshot shows what was never acknowledged"
        tasks = {task.task_id: task for task in snapshot.tasks}
        runs = {run.run_id: run for run in snapshot.runs}
        events = next((events for events in pasts if _makes(events, tasks, runs)), None)
        assert events is not None, "3: tasks.json is not a past state"
        for record in records_of(events):
            assert disk.read(_record_path(path, record)) == record.line + b"\n", (
                "3: a record is missing behind its snapshot"
            )


def _makes(events: Sequence[Event], tasks: dict[str, Task], runs: dict[str, Run]) -> bool:
    replay = replayed(events)
    return (replay.tasks, replay.runs) == (tasks, runs)


def check_recovery(
    disk: WholeDisk,
    memories: dict[str, Memory],
    *,
    kept: dict[str, bytes] | None = None,
    rotten: frozenset[str] = frozenset(),
    after_recovery: bool = False,
) -> None:
    """Recover the disk and hold the result against what is remembered. `kept` may be cut, not lost."""
    check_before_recovery(disk, memories, rotten, after_recovery=after_recovery)
    journals = {path: data for path, data in disk.files().items() if is_journal(path)}
    journals |= {path: data for path, data in disk.files().items() if path in rotten and not _is_snapshot(data)}
    prepare(disk, DATA)
    sweep(disk, SESSIONS)
    found = sessions_on(disk)
    for session_id, memory in memories.items():
        assert session_id in found or not memory.exists, f"1: session {session_id} is lost"
        assert session_id not in found or not memory.gone, f"1: session {session_id} was removed and is back"
    for session_id in found:
        _check_session(disk, session_id, memories[session_id])
    for before in (journals, kept or {}):
        _check_kept(disk, before)
    report = check(disk, DATA, repair=False)
    left = [finding for finding in report.findings if "half of a file" not in finding.problem]
    assert not left, f"check is not content: {left}"


def _record_path(path: str, record: Finished) -> str:
    return layout.record_path(path, record.seq, record.state, record.task_id)


def _is_snapshot(data: bytes) -> bool:
    try:
        views.read_snapshot(data)
    except ValueError:
        return False
    return True


def _check_session(disk: WholeDisk, session_id: str, memory: Memory) -> None:
    path = f"{SESSIONS}/{session_id}"
    folder, loaded = Folder.open(disk, path, segment_bytes=SEGMENT_BYTES)  # 8: nothing here is damage
    events = known_events(disk, session_id, memory)
    assert events[: len(memory.acked)] == memory.acked, "1: an acknowledged event is lost"
    assert memory.allows(events), "2: the history is not what was issued"
    expected = replayed(events)
    assert loaded.seq == len(events)
    # Those that finished and have no record yet stay beside the last few that are kept.
    ended = {task_id: task for task_id, (_, task) in expected.ended.items() if task_id not in expected.tasks}
    unrecorded = {
        record.task_id: ended[record.task_id]
        for record in records_of(events)
        if record.task_id in ended and not disk.exists(_record_path(path, record))
    }
    assert loaded.tasks == unrecorded | expected.tasks, "3: the tasks are not what the journal says"
    assert loaded.runs == expected.runs, "3: the runs are not what the journal says"
    assert loaded.session == expected.session
    assert loaded.keys == expected.keys
    assert loaded.finished_order == [*unrecorded, *expected.finished]
    assert not loaded.edited, "3: an old metadata.json looks like an edit by hand"
    folder.write_views(view_of(expected, loaded.position, metadata_changed=True))
    folder.close()
    for record in records_of(events):
        assert disk.read(_record_path(path, record)) == record.line + b"\n", "3: a record is missing"
    again, loaded_again = Folder.open(disk, path, segment_bytes=SEGMENT_BYTES)
    again.close()
    assert loaded_again.torn == 0, "6: recovery is not idempotent"
    assert not loaded_again.stale, "6: recovery is not idempotent"
    assert msgspec.structs.replace(loaded_again, metadata=None) == msgspec.structs.replace(
        loaded,
        torn=0,
        stale=False,
        metadata=None,
        tasks=expected.tasks,
        finished_order=list(expected.finished),
    )


def _check_kept(disk: WholeDisk, before: dict[str, bytes]) -> None:
    files = disk.files(DATA)
    quarantined = [data for path, data in files.items() if "/quarantine/" in path]
    now = {path.removeprefix(DATA): data for path, data in files.items()}
    for path, data in before.items():
        left = now.get(path.removeprefix(DATA), b"")
        if left.startswith(data):
            continue
        cut = data[len(left) :] if is_journal(path) and data.startswith(left) else data
        assert cut in quarantined, f"7: bytes of {path} were cut and not kept"
