import os
from pathlib import Path

import pytest

from agentd.errors import StorageFailed
from agentd.model.session import Keep, Retention
from agentd.store.pruning import carry_out, look
from agentd.store.retention import SessionFacts, plan

OLD, NOW = 1_000.0, 2_000.0


@pytest.fixture
def session(tmp_path: Path) -> Path:
    """Three finished tasks, the first of them old; one that runs; three segments."""
    for name in ("history", "output", "artifacts", "workspace"):
        (tmp_path / name).mkdir()
    for n, at in ((1, OLD), (2, NOW), (3, NOW)):
        put(tmp_path / "history" / f"{n:06d}-completed-task{n}.json", b"{}\n", at)
        put(tmp_path / "output" / f"task{n}.1.log", b"output\n", at)
        put(tmp_path / "output" / f"task{n}.1.idx", b"{}\n", at)
    put(tmp_path / "output" / "task1.2.log", b"again\n", OLD)
    put(tmp_path / "output" / "task1.2.result.json", b"{}", OLD)
    put(tmp_path / "output" / "task9.1.log", b"runs\n", OLD)
    put(tmp_path / "history" / "events-000001.jsonl", b'{"task_id":"task1"}\n', OLD)
    put(tmp_path / "history" / "events-000002.jsonl", b'{"task_id":"task1"}\n{"task_id":"task2"}\n', NOW)
    put(tmp_path / "history" / "events-000003.jsonl", b"", NOW)
    put(tmp_path / "output" / "notes.txt", b"not ours", OLD)
    (tmp_path / "output" / "task1.3.log").symlink_to(tmp_path / "workspace")
    return tmp_path


def put(path: Path, content: bytes, at: float) -> None:
    path.write_bytes(content)
    os.utime(path, (at, at))


def facts() -> SessionFacts:
    return SessionFacts(session_id="s", updated_at=NOW, live=frozenset({"task9"}), segment=3)


def files(session: Path) -> set[str]:
    return {f"{p.parent.name}/{p.name}" for p in session.glob("*/*")}


def test_look_finds_records_outputs_and_segments(session: Path) -> None:
    found = look(session, facts())
    assert [(r.seq, r.task_id, r.bytes, r.at) for r in sorted(found.records, key=lambda r: r.seq)] == [
        (1, "task1", 3, OLD),
        (2, "task2", 3, NOW),
        (3, "task3", 3, NOW),
    ]
    assert [(o.attempt_id, o.bytes, o.at) for o in sorted(found.outputs, key=lambda o: o.attempt_id)] == [
        ("task1.1", 10, OLD),
        ("task1.2", 8, OLD),
        ("task2.1", 10, NOW),
        ("task3.1", 10, NOW),
        ("task9.1", 5, OLD),
    ]
    assert [(s.number, s.tasks) for s in found.segments] == [
        (1, {"task1"}),
        (2, {"task1", "task2"}),
        (3, None),
    ]


def test_what_was_planned_goes_and_nothing_else(session: Path) -> None:
    before = files(session)
    made = plan([look(session, facts())], Retention(tasks=Keep(max_age_s=500)), NOW)
    assert files(session) == before  # a dry run ends here
    for step in made.steps:
        carry_out(session, step)
        carry_out(session, step)  # as after a crash
    assert before - files(session) == {
        "history/000001-completed-task1.json",
        "output/task1.1.log",
        "output/task1.1.idx",
        "output/task1.2.log",
        "output/task1.2.result.json",
    }
    assert made.bytes == 3 + 20 + 10 + 8
    assert [step.segments for step in made.steps if step.segments] == [(1,)]
    (session / "history" / "events-000001.jsonl").unlink()  # as the journal does
    assert plan([look(session, facts())], Retention(tasks=Keep(max_age_s=500)), NOW).steps == ()


def test_a_session_without_files_has_nothing_to_prune(tmp_path: Path) -> None:
    assert look(tmp_path, facts()) == facts()


def test_directories_that_are_links_are_refused_and_not_followed(session: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (session / "output").rename(elsewhere)
    (session / "output").symlink_to(elsewhere)
    with pytest.raises(StorageFailed):
        look(session, facts())


def test_ids_in_a_long_segment_are_all_seen(session: Path) -> None:
    lines = b"".join(b'{"seq":%d,"task_id":"t%d","x":"%s"}\n' % (n, n, b"y" * 500) for n in range(2000))
    put(session / "history" / "events-000001.jsonl", lines, OLD)
    assert look(session, facts()).segments[0].tasks == frozenset(f"t{n}" for n in range(2000))
