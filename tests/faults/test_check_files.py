"""The independent reader of files, on a session whose journal no longer begins with its creation."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from agentd.model.events import Event, SessionPruned, SessionUpdated
from agentd.model.run import RunState, Standing
from agentd.model.run_events import RunEnded
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
    run_cancelled,
    run_created,
    run_ended,
    run_resumed,
    session,
    session_created,
    started,
    step_created,
    step_ended,
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


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (b"", []),
        (b'{"format":1,"sess', []),
        (b'{"seq":3,"b":2,"session_id":"s","type":"session.updated",\n', []),
        (b'{"seq":2,"b":2,"session_id":"s","type":"session.updated",\n', ["events-000001.jsonl has no sound header"]),
    ],
)
def test_a_segment_that_failed_may_be_the_first_that_is_left_if_it_holds_nothing_that_counts(
    tmp_path: Path, left: bytes, said: list[str]
) -> None:
    tmp_path.chmod(0o700)
    first = [session_created("s"), titled("x" * 600)]
    made, _ = Folder.create(RealDisk(), str(tmp_path), session("s"), first, segment_bytes=600)
    made.append([titled("y")], 3)
    made.close()
    (tmp_path / "s" / "history" / "events-000001.jsonl").write_bytes(
        left
    )  # as one that failed; what was before is pruned
    assert journal.read(tmp_path / "s").wrong == said


def said_of(sessions: Path, *events: Event) -> list[str]:
    """What the reader says of a session in which a run was made, its first step ran, and then this happened."""
    sessions.mkdir(mode=0o700)
    begun = [session_created("s"), run_created("s", "r"), step_created("s", "t1", "r", "a"), started("t1")]
    made, _ = Folder.create(RealDisk(), str(sessions), session("s"), [*begun, *events])
    made.close()
    return Session(sessions / "s", journal.read(sessions / "s")).life.wrong


def test_a_run_that_went_from_step_to_step_is_sound_and_shown_as_the_journal_says(tmp_path: Path) -> None:
    events = [
        *(finished("t1"), step_ended("t1", "r", "a"), step_created("s", "t2", "r", "b"), started("t2")),
        *(run_cancelled("r"), finished("t2"), step_ended("t2", "r", "b"), run_ended("r", RunState.CANCELLED)),
        *(run_resumed("r", "b"), step_created("s", "t3", "r", "b"), started("t3"), finished("t3")),
        *(step_ended("t3", "r", "b"), run_ended("r")),
    ]
    for upto in range(len(events) + 1):
        sessions = tmp_path / f"{upto}"
        assert said_of(sessions, *events[:upto]) == []
        assert Session(sessions / "s", journal.read(sessions / "s")).wrong == []


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([step_created("s", "t2", "r", "a")], "step a was submitted while it was live, its run running"),
        ([finished("t1"), step_ended("t1", "r", "a", Standing.FAILED)], "step a ended failed, and t1 is completed"),
        ([step_ended("t1", "r", "a")], "step a ended completed, and t1 is running"),
        ([run_ended("r")], "run r ended completed, and steps of it had not"),
        (
            [finished("t1"), step_ended("t1", "r", "a"), run_ended("r", RunState.FAILED)],
            "run r ended failed, and no step of it did",
        ),
        (
            [finished("t1"), step_ended("t1", "r", "a"), run_ended("r", RunState.CANCELLED)],
            "run r ended cancelled, and nobody cancelled it",
        ),
    ],
)
def test_a_run_that_its_tasks_do_not_bear_out_is_found(tmp_path: Path, events: list[Event], said: str) -> None:
    found = [msgspec.structs.replace(e, reason=None) if isinstance(e, RunEnded) else e for e in events]
    assert said in "\n".join(said_of(tmp_path / "sessions", *found))


def test_a_snapshot_that_shows_another_run_than_the_journal_is_found(tmp_path: Path) -> None:
    said_of(tmp_path / "sessions")
    path = tmp_path / "sessions" / "s" / "tasks.json"
    data = path.read_bytes()
    body = data[: data.rindex(b'"crc":')].replace(b'"standing":"live"', b'"standing":"failed"')
    path.write_bytes(body + b'"crc":"%08x"}\n' % zlib.crc32(body))
    found = Session(tmp_path / "sessions" / "s", journal.read(tmp_path / "sessions" / "s"))
    assert "shows run r otherwise than the journal: steps" in "\n".join(found.wrong)
