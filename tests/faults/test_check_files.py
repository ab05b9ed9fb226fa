"""The independent reader of files, on a session whose journal no longer begins with its creation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agentd.model.events import Event, SessionPruned, SessionUpdated
from agentd.model.session import Policy, SessionChanges
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from agentd.store.views import view_of
from filecheck import journal
from filecheck.views import Session
from tests.store.story import (
    AT,
    finished,
    records_of,
    replayed,
    session,
    session_created,
    started,
    task_created,
    titled,
)


def pruned(sessions: Path, kept: int, kept_later: int | None, drop: Sequence[str] = ()) -> list[str]:
    """What the reader says of a session that keeps so many finished tasks, of three, and whose first segment is gone.

    `kept_later` is set after the second; tasks.json lacks what is to `drop`.
    """
    sessions.mkdir(mode=0o700)
    first = session_created("s", tasks_kept=kept)
    made, _ = Folder.create(RealDisk(), str(sessions), session("s", tasks_kept=kept), [first], segment_bytes=600)
    events: list[Event] = [first]
    batches: list[list[Event]] = [[titled("x" * 600)]]
    batches += [[task_created("s", task_id), started(task_id), finished(task_id)] for task_id in ("t1", "t2", "t3")]
    if kept_later is not None:
        policy = Policy(tasks_kept=kept_later)
        batches.insert(-1, [SessionUpdated(at=AT, changes=SessionChanges(policy=policy))])
    batches.append([SessionPruned(at=AT, bytes=600)])
    for batch in batches:
        appended = made.append(batch, len(events) + 1)
        events += batch
    replay = replayed(events)
    for task_id in drop:
        del replay.tasks[task_id]
    made.write_views(view_of(replay, appended.position, finished=records_of(events), metadata_changed=True))
    assert made.prune(1)
    made.close()
    found = Session(sessions / "s", journal.read(sessions / "s"))
    found.check(stopped=True)
    return found.wrong


@pytest.mark.parametrize(("kept", "kept_later"), [(0, None), (1, None), (2, None), (9, None), (1, 9), (0, 2), (9, 1)])
def test_as_many_finished_tasks_are_due_as_the_session_keeps_also_when_its_creation_was_pruned(
    tmp_path: Path, kept: int, kept_later: int | None
) -> None:
    assert pruned(tmp_path / "sessions", kept, kept_later) == []


@pytest.mark.parametrize(("kept", "kept_later"), [(1, None), (2, None), (9, None), (1, 9), (9, 1)])
def test_one_that_is_missing_is_found_also_then(tmp_path: Path, kept: int, kept_later: int | None) -> None:
    assert pruned(tmp_path / "sessions", kept, kept_later, drop=["t3"]) == ["tasks.json lacks t3, unlike the journal"]
