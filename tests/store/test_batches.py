"""A batch of tasks is there whole or not at all, wherever a crash cut the journal."""

from __future__ import annotations

from pathlib import Path

from agentd.model.changes import new_task
from agentd.model.events import SessionCreated, SessionUpdated, TaskCreated
from agentd.model.session import Session, SessionChanges
from agentd.model.task import State, Task
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder

AT = "2026-01-01T00:00:00.000000Z"
#: As a text of the user may look, to be taken for the journal's own.
DECEIT = 'x","batch":9,"crc":"00000000"}'


def creation(number: int, batch: int = 1) -> TaskCreated:
    blank = Task(
        task_id=f"t{number}", session_id="s", kind="shell", spec={"command": DECEIT}, state=State.QUEUED, created_at="",
        name=DECEIT,
    )  # fmt: skip
    return TaskCreated(at=AT, task_id=f"t{number}", task=new_task(blank, at=AT, waiting=False), batch=batch)


def opened(sessions: Path) -> tuple[set[str], int]:
    """The tasks after a start, and the records that were cut."""
    folder, loaded = Folder.open(RealDisk(), str(sessions / "s"))
    folder.close()
    return set(loaded.tasks), loaded.torn


def test_wherever_the_journal_is_cut_a_batch_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    session = Session(session_id="s", created_at=AT, updated_at=AT, seq=1)
    folder, _ = Folder.create(RealDisk(), str(tmp_path), session, [SessionCreated(at=AT, session=session)])
    before = SessionUpdated(at=AT, changes=SessionChanges(title="in the same write"))
    folder.append([before, creation(1), creation(2, batch=3), creation(3), creation(4), creation(5)], 2)
    folder.close()
    journal = tmp_path / "s" / "history" / "events-000001.jsonl"
    data = journal.read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == ord("\n")]
    cuts = {*ends[1:], *(end - 1 for end in ends[2:]), *range(ends[1], len(data), 211)}
    for cut in sorted(cuts):
        for left in (tmp_path / "s" / "quarantine").glob("*"):
            left.unlink()
        journal.write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends) - 3  # but for the header, the session and its title
        wanted = {"t1"} if complete >= 1 else set()
        if complete >= 4:
            wanted |= {"t2", "t3", "t4"}
        if complete >= 5:
            wanted |= {"t5"}
        tasks, _ = opened(tmp_path)
        assert tasks == wanted, (cut, complete)
        assert opened(tmp_path) == (wanted, 0), "what was cut is cut for good"
