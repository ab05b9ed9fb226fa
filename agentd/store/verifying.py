"""What an archive held, verified before it may be a session, and what had not ended in it ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from agentd.errors import Invalid, InvalidTransition, SessionReadOnly
from agentd.model.events import AttemptEnd, Event, TaskFinished
from agentd.model.ids import is_task_id, session_tag
from agentd.model.reading import UNREADABLE, prepared, read
from agentd.model.requests import PolicyChanges
from agentd.model.run import Run, RunState
from agentd.model.run_events import RunEnded
from agentd.model.session import Session
from agentd.model.task import Cause, CauseCode, State, Task
from agentd.store import layout
from agentd.store.archive import MANIFEST, Manifest, Packed
from agentd.store.check import check_session
from agentd.store.disk import Disk, failure
from agentd.store.examine import Loaded
from agentd.store.folder import Folder
from agentd.store.replay import Replay
from agentd.store.views import View, view_of

ENDED = Cause(
    code=CauseCode.SESSION_CANCELLED,
    message="it had not ended when its session was exported, and an import starts nothing; retry it to run it again",
)

prepared(PolicyChanges)

_DAMAGED = "the session in the archive is damaged"


def verified(disk: Disk, path: str, manifest: Manifest, packed: Sequence[Packed], at: str) -> View:
    """The view of the session at the path, which holds the files that were packed, once all of it has been read.

    Raises:
        Invalid: something is not as it was exported; whatever reading it raises, the archive is at fault.
        StorageFull, StorageFailed
    """
    session_id = layout.session_id_of(path)
    _check_sums(session_id, manifest, packed)
    try:
        if findings := check_session(disk, path):
            raise Invalid(f"{_DAMAGED}: {findings[0].file} {findings[0].problem}")
        _check_owner(disk, path, session_id, packed)
        return _ended(disk, path, at)
    except OSError as error:
        raise failure(error, f"session {session_id}") from error
    except SessionReadOnly as error:
        raise Invalid(f"{_DAMAGED}: {error.detail}") from error
    except (*UNREADABLE, InvalidTransition, ValueError, TypeError, LookupError, AttributeError) as error:
        raise Invalid(f"{_DAMAGED}: {error}") from error


def _check_sums(session_id: str, manifest: Manifest, packed: Sequence[Packed]) -> None:
    if manifest.session_id != session_id:
        raise Invalid(f"the archive's {MANIFEST} is of session {manifest.session_id[:128]!r}")
    for said, found in zip(manifest.files, packed, strict=False):
        if said != found:
            raise Invalid(f"{found.path[:200]!r} in the archive is not as it was exported: its SHA-256 differs")
    if len(manifest.files) != len(packed):
        raise Invalid(f"the archive holds {len(packed)} files, its {MANIFEST} names {len(manifest.files)}")


def _check_owner(disk: Disk, path: str, session_id: str, packed: Sequence[Packed]) -> None:
    """Raises Invalid when a file is of another session, or sets what no client could."""
    loaded = Folder.read_untouched(disk, path)
    msgspec.convert(msgspec.to_builtins(loaded.session.policy), PolicyChanges)
    owned: list[tuple[str, Task | Session | Run]] = [(layout.METADATA, loaded.session)]
    owned += [(layout.TASKS, run) for run in loaded.runs.values()]
    owned += [(layout.TASKS, task) for task in loaded.tasks.values()]
    for file in packed:
        name = file.path.removeprefix(f"{layout.HISTORY}/")
        if (record := layout.parsed_record_name(name)) is not None and name != file.path:
            task = read(disk.read(f"{path}/{file.path}"), Task)
            if (task.seq, task.state, task.task_id) != record:
                raise Invalid(f"{file.path} in the archive is the record of another task")
            owned.append((file.path, task))
    tag = session_tag(session_id)
    for place, each in owned:
        if each.session_id != session_id or not _is_own(each, tag):
            raise Invalid(f"{place} in the archive is of another session")


def _is_own(value: Session | Task | Run, tag: str) -> bool:
    if isinstance(value, Session):
        return True
    name = value.task_id if isinstance(value, Task) else value.run_id
    return is_task_id(name) and name.startswith(tag)


def _ended(disk: Disk, path: str, at: str) -> View:
    """End what had not ended when it was exported; the view of the session as it will be."""
    folder, loaded = Folder.open(disk, path)
    try:
        replay, position = _replay_of(loaded), loaded.position
        events: list[Event] = [*ends_of(loaded.tasks.values(), at)]
        events += (
            RunEnded(at=at, run_id=run.run_id, state=RunState.INTERRUPTED, reason=ENDED.message)
            for run in loaded.runs.values()
            if run.live
        )
        for seq, event in enumerate(events, loaded.seq + 1):
            replay.apply(event, seq)
        if events:
            position = folder.append(events, loaded.seq + 1).position
        view = view_of(replay, position, finished=replay.records())
        if events:
            folder.write_views(view)
        return view
    finally:
        folder.close()


def ends_of(tasks: Iterable[Task], at: str) -> list[TaskFinished]:
    """How the tasks end that had not ended when they were exported."""
    return [
        TaskFinished(
            at=at,
            task_id=task.task_id,
            state=State.CANCELLED,
            cause=ENDED,
            end=AttemptEnd(cause=ENDED) if task.state is State.RUNNING else None,
        )
        for task in tasks
        if not task.terminal
    ]


def _replay_of(loaded: Loaded) -> Replay:
    """A replay that goes on behind what was loaded."""
    replay = Replay()
    replay.session, replay.seq, replay.tasks, replay.keys = loaded.session, loaded.seq, loaded.tasks, loaded.keys
    replay.runs = loaded.runs
    replay.finished = {task_id: loaded.tasks[task_id].seq for task_id in loaded.finished_order}
    return replay
