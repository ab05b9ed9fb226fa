import json
import os
import shutil
from pathlib import Path
from threading import Event, Thread

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.errors import Malformed
from agentd.model.ids import new_task_id
from agentd.model.requests import TaskQuery
from agentd.model.task import Cause, CauseCode, State, Task, Trigger, TriggerType
from agentd.store import history as module
from agentd.store import layout
from agentd.store.history import History
from agentd.store.record_cache import RecordCache

AT = "2026-01-01T00:00:00.000000Z"
OK = Cause(code=CauseCode.OK, message="exited 0")


def finished(seq: int, state: State = State.COMPLETED, **fields: object) -> Task:
    task = Task(
        task_id=new_task_id("s", lambda bits: seq), session_id="s", kind="shell", spec={}, state=state, created_at=AT
    )
    return msgspec.structs.replace(task, seq=seq, **fields)


def record(session: Path, task: Task) -> None:
    (session / "history").mkdir(exist_ok=True)
    name = layout.record_name(task.seq, task.state, task.task_id)
    (session / "history" / name).write_bytes(msgspec.json.encode(task) + b"\n")


def seqs(rows: list[bytes]) -> list[int]:
    return [msgspec.json.decode(row)["seq"] for row in rows]


def all_pages(history: History, query: TaskQuery) -> list[int]:
    found: list[int] = []
    while True:
        rows, cursor = history.page(query)
        assert len(rows) <= query.limit
        found += seqs(rows)
        if cursor is None:
            return found
        query = msgspec.structs.replace(query, cursor=cursor)


def test_a_session_without_history_has_none(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.page(TaskQuery()) == ([], None)
    assert history.get("0123456789abcd") is None
    assert len(history) == 0


def test_a_page_is_the_bytes_of_the_records_newest_first(tmp_path: Path) -> None:
    tasks = [finished(seq) for seq in (3, 12, 1_000_000)]
    for task in tasks:
        record(tmp_path, task)
    rows, cursor = History(tmp_path).page(TaskQuery())
    assert rows == [msgspec.json.encode(task) for task in reversed(tasks)]
    assert cursor is None


@given(
    numbers=st.sets(st.integers(1, 2_000_000), max_size=30),
    limit=st.integers(1, 12),
    newest_first=st.booleans(),
    states=st.sets(st.sampled_from([State.COMPLETED, State.FAILED, State.QUEUED]), max_size=2),
)
def test_pages_go_through_all_that_match_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, numbers: set[int], limit: int, newest_first: bool, states: set[State]
) -> None:
    session = tmp_path_factory.mktemp("session")
    for seq in numbers:
        record(session, finished(seq, State.FAILED if seq % 3 == 0 else State.COMPLETED))
    sort = "-created_at" if newest_first else "created_at"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLICE", 4)
        patch.setattr(module, "_RUN", 7)
        found = all_pages(History(session), TaskQuery(limit=limit, sort=sort, state=tuple(states)))
    allowed = states or {State.COMPLETED, State.FAILED}
    expected = [seq for seq in numbers if (State.FAILED if seq % 3 == 0 else State.COMPLETED) in allowed]
    assert found == sorted(expected, reverse=newest_first)


def test_filters_look_into_the_records(tmp_path: Path) -> None:
    record(tmp_path, finished(1, name="Build it", kind="docker", labels={"a": "1"}, queue="big"))
    record(tmp_path, finished(2, spec={"command": "make CHECK"}, labels={"a": "2"}, created_at="2026-02-01T00:00:00Z"))
    record(tmp_path, finished(3, spec={"argv": ["make", "check"]}, cause=OK, trigger=Trigger(type=TriggerType.RETRY)))
    history = History(tmp_path)
    for query, expected in (
        (TaskQuery(kind=("docker",)), [1]),
        (TaskQuery(cause=(CauseCode.OK,)), [3]),
        (TaskQuery(label=("a",)), [2, 1]),
        (TaskQuery(label=("a=2",)), [2]),
        (TaskQuery(queue="big"), [1]),
        (TaskQuery(q="make check"), [3, 2]),
        (TaskQuery(q="BUILD"), [1]),
        (TaskQuery(since="2026-01-15T00:00:00Z"), [2]),
        (TaskQuery(until="2026-01-15T00:00:00Z"), [3, 1]),
        (TaskQuery(trigger=(TriggerType.SCHEDULE, TriggerType.RETRY)), [3]),
        (TaskQuery(kind=("docker",), q="make"), []),
        (TaskQuery(prefix=finished(2).task_id), [2]),
    ):
        assert seqs(history.page(query)[0]) == expected


def test_a_page_that_may_look_no_further_is_short_and_has_a_cursor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_EXAMINED", 3)
    for seq in range(1, 11):
        record(tmp_path, finished(seq, name="wanted" if seq == 1 else "other"))
    history = History(tmp_path)
    rows, cursor = history.page(TaskQuery(q="wanted"))
    assert (rows, cursor) == ([], "8")
    assert all_pages(history, TaskQuery(q="wanted")) == [1]


def test_one_task_is_found_by_its_id(tmp_path: Path) -> None:
    tasks = [finished(seq, State.FAILED, name="x" * 20_000) for seq in range(1, 50)]
    for task in tasks:
        record(tmp_path, task)
    history = History(tmp_path)
    for task in tasks:
        assert history.get(task.task_id) == msgspec.json.encode(task)
    assert history.get("0" * 14) is None
    assert history.get(tasks[0].task_id[1:]) is None
    assert history.get("é" * 20) is None


def test_what_finishes_later_is_added_and_what_is_pruned_is_dropped(tmp_path: Path) -> None:
    record(tmp_path, finished(1))
    history = History(tmp_path)
    assert len(history) == 1
    for seq in (5, 3):
        record(tmp_path, finished(seq))
        history.add(seq, State.COMPLETED, finished(seq).task_id)
        history.add(seq, State.COMPLETED, finished(seq).task_id)
    assert seqs(history.page(TaskQuery())[0]) == [5, 3, 1]
    (tmp_path / "history" / layout.record_name(3, State.COMPLETED, finished(3).task_id)).unlink()
    history.remove(3)
    history.remove(4)
    assert len(history) == 2
    assert history.get(finished(3).task_id) is None
    assert history.get(finished(5).task_id) is not None


def test_what_finishes_before_the_first_look_is_not_lost_and_not_doubled(tmp_path: Path) -> None:
    history = History(tmp_path)
    for seq in (1, 2):
        history.add(seq, State.COMPLETED, finished(seq).task_id)
    record(tmp_path, finished(1))
    assert len(history) == 2
    assert seqs(history.page(TaskQuery())[0]) == [1]
    record(tmp_path, finished(2))  # the view comes a moment after the commit
    assert seqs(history.page(TaskQuery())[0]) == [2, 1]


def test_adding_does_not_wait_for_a_thread_that_reads_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path, finished(1))
    history = History(tmp_path)
    inside, go_on = Event(), Event()
    listdir = os.listdir

    def slow(path: Path) -> list[str]:
        inside.set()
        go_on.wait(60)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", slow)
    reader = Thread(target=len, args=(history,))
    reader.start()
    try:
        assert inside.wait(60)
        history.add(2, State.COMPLETED, finished(2).task_id)
    finally:
        go_on.set()
        reader.join()
    assert len(history) == 2


def test_a_file_that_is_gone_empty_or_a_link_is_left_out(tmp_path: Path) -> None:
    for seq in range(1, 6):
        record(tmp_path, finished(seq))
    paths = sorted((tmp_path / "history").iterdir())
    history = History(tmp_path)
    assert len(history) == 5
    paths[0].unlink()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(b"\0" * 100)
    secret = tmp_path / "secret"
    secret.write_bytes(b'{"secret": true}')
    paths[3].unlink()
    paths[3].symlink_to(secret)
    assert seqs(history.page(TaskQuery())[0]) == [5]


def test_names_that_are_no_records_are_passed_over(tmp_path: Path) -> None:
    record(tmp_path, finished(1))
    for name in (
        "events-000001.jsonl", "000002-running-0123456789abcd.json", ".000003.tmp", "notes.txt",
        f"{'9' * 30}-completed-0123456789abcd.json", "000004-completed-short.json",
    ):  # fmt: skip
        (tmp_path / "history" / name).touch()
    assert len(History(tmp_path)) == 1


@pytest.mark.parametrize("cursor", ["", "x", "-1", "1.5", "9" * 30, "\u0661"])
def test_a_cursor_that_is_not_ours_is_refused(tmp_path: Path, cursor: str) -> None:
    record(tmp_path, finished(1))
    with pytest.raises(Malformed, match="cursor"):
        History(tmp_path).page(TaskQuery(cursor=cursor))


def test_records_read_lately_come_from_memory_until_they_are_removed(tmp_path: Path) -> None:
    tasks = [finished(seq) for seq in (1, 2, 3)]
    for task in tasks:
        record(tmp_path, task)
    history = History(tmp_path, RecordCache())
    first, _ = history.page(TaskQuery())
    for task in tasks:
        (tmp_path / "history" / layout.record_name(task.seq, task.state, task.task_id)).unlink()
    assert history.page(TaskQuery())[0] == first
    history.remove(2)
    assert seqs(history.page(TaskQuery())[0]) == [3, 1]


def test_what_is_read_ahead_is_what_the_page_shows_and_no_more_than_its_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [finished(seq, State.FAILED if seq % 2 else State.COMPLETED) for seq in range(1, 41)]
    for task in tasks:
        record(tmp_path, task)
    monkeypatch.setattr(module, "_AHEAD", 3)
    monkeypatch.setattr(module, "AHEAD_BYTES", len(msgspec.json.encode(tasks[0])) * 5)
    history = History(tmp_path, RecordCache())
    history.read_ahead(TaskQuery(limit=4, cursor="30", state=(State.FAILED,)))
    history.read_ahead(TaskQuery(limit=20, cursor="20", sort="created_at"))
    history.read_ahead(TaskQuery(limit=5, cursor="10", q="a text that only the records tell"))
    history.read_ahead(TaskQuery(limit=5, cursor="9" * 19))
    for task in tasks:
        (tmp_path / "history" / layout.record_name(task.seq, task.state, task.task_id)).unlink()
    kept = {29, 27, 25, 23} | set(range(21, 27)) | set(range(36, 41))  # 6 of the second: the bound lies in between
    assert seqs(history.page(TaskQuery(limit=100))[0]) == sorted(kept, reverse=True)


def test_nothing_is_read_ahead_of_a_session_that_has_gone(tmp_path: Path) -> None:
    History(tmp_path / "gone").read_ahead(TaskQuery())


def test_the_memory_for_records_has_a_bound(tmp_path: Path) -> None:
    cache = RecordCache(limit=100)

    def kept() -> list[int]:
        found = cache.get([(tmp_path, seq) for seq in range(12)])
        return [seq for seq, record in enumerate(found) if record is not None]

    cache.put([((tmp_path, seq), bytes(30)) for seq in range(10)])
    assert kept() == [7, 8, 9]
    cache.put([((tmp_path, 10), bytes(101))])
    assert kept() == [7, 8, 9], "what has no room at all moves nobody"
    cache.drop((tmp_path, 8))
    cache.put([((tmp_path, 11), bytes(40))])
    assert kept() == [7, 9, 11]
    cache.get([(tmp_path, 7)])
    cache.put([((tmp_path, 10), bytes(30))])
    assert kept() == [7, 10, 11], "the one not read for longest went"


def test_a_session_whose_name_another_had_shows_none_of_its_records(tmp_path: Path) -> None:
    cache = RecordCache()
    for name in ("first", "second"):
        task = finished(1, name=name)
        record(tmp_path, task)
        [row] = History(tmp_path, cache).page(TaskQuery())[0]
        assert msgspec.json.decode(row)["name"] == name
        shutil.rmtree(tmp_path / layout.HISTORY)


def test_a_record_that_is_damaged_anywhere_spoils_no_page(tmp_path: Path) -> None:
    tasks = [finished(seq, spec={"command": 'echo "über" \\'}) for seq in (1, 2, 3)]
    for task in tasks:
        record(tmp_path, task)
    damaged = tmp_path / "history" / layout.record_name(2, tasks[1].state, tasks[1].task_id)
    whole = damaged.read_bytes()
    for at, bit in ((at, bit) for at in range(len(whole)) for bit in range(8)):
        damaged.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        rows, _ = History(tmp_path).page(TaskQuery())
        found = json.loads(b"[" + b",".join(rows) + b"]")
        assert [found[0]["seq"], found[-1]["seq"]] == [3, 1]
        assert len(found) in (2, 3)
