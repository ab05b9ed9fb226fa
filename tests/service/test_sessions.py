"""Sessions: deleted, evicted and edited while others use them; lists of them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from typing import Any

import pytest

from agentd.clock import epoch, rfc3339
from agentd.config import Limits
from agentd.errors import (
    Malformed,
    PreconditionFailed,
    SessionActive,
    SessionNotFound,
    SessionReadOnly,
    StorageFailed,
)
from agentd.model.requests import (
    AskedKeep,
    AskedRetention,
    AskedTrigger,
    NewSession,
    SessionPatch,
    SessionQuery,
    TaskQuery,
)
from agentd.model.session import Keep, Retention
from agentd.model.task import State, TriggerType
from agentd.model.upkeep import CheckReport
from agentd.store.datadir import remove_session
from agentd.store.locks import DirectoryLock
from agentd.store.residency import READERS
from benchlib.processes import until as waited_for

from .conftest import Build
from .house import PATIENCE_S, House, until


async def outcome(work: asyncio.Task[object]) -> str:
    """The name of what it raised, or `done`; soon."""
    async with asyncio.timeout(60):
        await asyncio.wait([work])
    error = work.exception()
    return type(error).__name__ if error else "done"


# ---------------------------------------------------------------------- create


async def test_a_session_that_was_refused_and_could_not_be_taken_back_is_made_at_the_next_request(
    quiet: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last sync of its creation fails, and so does the rename that undoes it."""

    def fsync_dir(path: str, point: str = "") -> None:
        if point == "create.sessions_dir":
            raise OSError(errno.EIO, "refused")

    def rename(source: str, target: str) -> None:
        if "/.new-" in target:
            raise OSError(errno.EIO, "refused")
        os.rename(source, target)

    with monkeypatch.context() as failing:
        failing.setattr(quiet.disk, "fsync_dir", fsync_dir)
        failing.setattr(quiet.disk, "rename", rename)
        with pytest.raises(StorageFailed):
            await quiet.session("s")
    with pytest.raises(SessionNotFound):
        await quiet.service.session("s")
    await quiet.session("s")
    await quiet.submit(session_id="s")


# ---------------------------------------------------------------------- delete


async def test_a_task_submitted_while_its_session_is_deleted_is_refused_or_keeps_it(quiet: House) -> None:
    """Whatever comes first, nobody waits for ever and nothing that was acknowledged is lost."""
    for turns in range(12):
        session_id = f"s{turns}"
        await quiet.session(session_id)
        deleting = asyncio.create_task(quiet.service.delete_session(session_id, force=False, if_seq=None))
        for _ in range(turns):
            await asyncio.sleep(0)
        submitting = asyncio.create_task(quiet.submit(session_id=session_id))
        pair = await outcome(deleting), await outcome(submitting)
        assert pair in (("done", "SessionReadOnly"), ("done", "SessionNotFound"), (SessionActive.__name__, "done"))


async def test_metadata_that_was_written_just_before_its_session_is_deleted_is_no_error(
    quiet: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await quiet.session("s")
    go = threading.Event()

    def slowly(*args: Any) -> None:
        assert go.wait(PATIENCE_S)
        remove_session(*args)

    monkeypatch.setattr("agentd.store.store.remove_session", slowly)
    deleting = asyncio.create_task(quiet.service.delete_session("s", force=False, if_seq=None))
    await until(lambda: quiet.store.entry("s").loading is not None)
    touched = asyncio.create_task(quiet.service.metadata_touched("s"))
    await asyncio.sleep(0)
    go.set()
    await touched
    assert await outcome(deleting) == "done"


async def test_a_session_deleted_twice_at_once_is_gone_once(quiet: House) -> None:
    await quiet.session()
    deletes = [asyncio.create_task(quiet.service.delete_session("s", force=True, if_seq=None)) for _ in range(3)]
    assert sorted([await outcome(each) for each in deletes]) == ["SessionNotFound", "SessionNotFound", "done"]
    await quiet.session()  # the name is free again


async def test_a_session_that_cannot_be_removed_is_still_there(quiet: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await quiet.session()

    def refused(*args: object) -> None:
        raise StorageFailed("refused")

    with monkeypatch.context() as patched:
        patched.setattr("agentd.store.store.remove_session", refused)
        with pytest.raises(StorageFailed):
            await quiet.service.delete_session("s", force=False, if_seq=None)
    await quiet.submit()
    assert (await quiet.service.session("s")).counts == {State.QUEUED: 1}


async def test_a_forced_delete_that_fails_leaves_no_waiters(quiet: House) -> None:
    await quiet.session()
    await quiet.submit()
    quiet.disk.refuse_write = 28
    with pytest.raises(StorageFailed):
        await quiet.service.delete_session("s", force=True, if_seq=None)
    await asyncio.sleep(0)
    assert not quiet.service._waiters


async def test_a_poisoned_session_can_be_deleted_and_made_again(quiet: House) -> None:
    await quiet.session()
    quiet.disk.refuse_sync = 5
    with pytest.raises(StorageFailed):
        await quiet.submit()
    await quiet.service.delete_session("s", force=False, if_seq=None)
    assert not quiet.store._healing._healers
    quiet.disk.refuse_sync = None
    await quiet.session()
    await quiet.submit()


# ---------------------------------------------------------------------- in and out of memory


async def crowded(build: Build) -> House:
    """A house of two sessions, of which one may stay in memory."""
    house = build(limits=Limits(resident_sessions=1))
    await house.open(running=False)
    for name in ("a", "b"):
        await house.session(name)
        await house.store.entry(name).ledger.views.flush()  # type: ignore[union-attr]
    return house


async def test_a_session_that_is_used_again_does_not_leave_memory_under_the_user(build: Build) -> None:
    house = await crowded(build)
    ledger = await house.store.ledger("a")
    await house.store.ledger("b")  # a has to go
    assert await house.store.ledger("a") is ledger  # and is wanted after all
    await asyncio.gather(*house.store._chores)
    assert house.store.entry("a").ledger is ledger
    await house.submit(session_id="a")


async def test_a_session_does_not_leave_memory_in_the_middle_of_a_change(build: Build) -> None:
    house = await crowded(build)
    ledger = await house.store.ledger("a")
    path = house.store.path("a") / "metadata.json"
    path.write_text(path.read_text().replace('"archived": false', '"archived": true'))
    async with ledger.views.edits:  # the change waits until the edit by hand is taken in
        change = asyncio.create_task(house.service.edit_session("a", SessionPatch(title="new"), None))
        await asyncio.sleep(0)
        await house.store.ledger("b")  # a has to go
        await asyncio.gather(*house.store._chores)
    view = await change
    assert (view.title, view.archived) == ("new", True)


async def test_sessions_are_written_also_where_the_system_gives_no_thread_more(build: Build) -> None:
    house = build()
    await house.open(running=False)
    before = threading.stack_size(1 << 46)  # for which there is no room
    try:
        for name in ("a", "b", "c"):
            await house.session(name)
        ids = await asyncio.gather(*(house.submit(session_id=name) for name in ("a", "b", "c")))
        for name, task in zip(("a", "b", "c"), ids, strict=True):
            await house.service.cancel(task.task_id)
            await house.store.entry(name).ledger.views.flush()  # type: ignore[union-attr]
            assert [each.name for each in (house.store.path(name) / "history").glob(f"*{task.task_id}.json")]
    finally:
        threading.stack_size(before)


async def test_who_turns_the_pages_of_a_history_finds_the_next_one_read(build: Build) -> None:
    house = build()
    await house.open(running=False)
    await house.session()
    for _ in range(8):
        await house.service.cancel((await house.submit()).task_id)
    query = TaskQuery(limit=2)
    shown = []
    for _ in range(2):
        page, cursor = await house.service.history("s", query)
        shown += page
        query = TaskQuery(limit=2, cursor=cursor)
    barrier = threading.Barrier(READERS)  # all threads that read are here, so none of them reads any more
    await asyncio.gather(*(house.store.in_thread(barrier.wait, PATIENCE_S) for _ in range(READERS)))
    for path in (house.store.path("s") / "history").glob("*-cancelled-*"):
        path.unlink()
    page, cursor = await house.service.history("s", query)
    assert len({json.loads(record)["task_id"] for record in [*shown, *page]}) == 6
    assert (await house.service.history("s", TaskQuery(limit=2, cursor=cursor)))[0] == [], "two pages ahead is too far"


async def test_idle_sessions_leave_memory_and_come_back(build: Build) -> None:
    house = build(limits=Limits(resident_sessions=2))
    await house.open(running=False)
    for n in range(6):
        await house.session(f"s{n}", pinned=True)
        await house.store.entry(f"s{n}").ledger.views.flush()  # type: ignore[union-attr]
    await asyncio.gather(*house.store._chores)
    assert len(house.store.resident) <= 3
    views = [await house.service.session(f"s{n}") for n in range(6)]
    assert all(view.policy.pinned for view in views)


async def test_a_poisoned_session_stays_in_memory_until_it_is_well(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd.store.healing.RESUME_S", 0.05)
    house = build(limits=Limits(resident_sessions=1))
    await house.open(running=False)
    await house.session("sick")
    house.disk.refuse_sync = 5
    with pytest.raises(StorageFailed):
        await house.submit(session_id="sick")
    sick = house.store.entry("sick").ledger
    assert sick is not None
    await sick.views.flush()
    house.disk.refuse_sync = None
    await house.session("other")
    await house.store.ledger("other")
    await asyncio.gather(*house.store._chores)
    await until(lambda: house.store.entry("sick").reason is None)
    await house.submit(session_id="sick")


async def test_a_session_that_could_not_be_opened_once_can_be_opened_later(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build()
    await first.open(running=False)
    await first.session()
    await first.close()
    house = build()
    await house.open(running=False)

    def refused(path: object) -> DirectoryLock | None:
        raise StorageFailed("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryLock, "take", refused)
        with pytest.raises(StorageFailed):
            await house.store.ledger("s")
    async with asyncio.timeout(60):
        await house.store.ledger("s")


async def test_live_tasks_are_counted_over_all_sessions_and_boots(build: Build) -> None:
    house = build()
    await house.open(running=False)
    for n in range(3):
        await house.session(f"s{n}")
        await house.submit(session_id=f"s{n}")
    assert house.store.live == 3
    await house.service.cancel_session("s0")
    assert house.store.live == 2
    await house.close()
    again = build()
    await again.open()
    assert again.store.live == 2
    await until(lambda: again.store.live == 0)


# ---------------------------------------------------------------------- edit


async def test_of_two_edits_of_one_version_only_one_is_taken(quiet: House) -> None:
    await quiet.session()
    edits = [quiet.service.edit_session("s", SessionPatch(title=f"t{n}"), {1}) for n in range(2)]
    results = await asyncio.gather(*edits, return_exceptions=True)
    assert [type(each) for each in results].count(PreconditionFailed) == 1


async def test_an_edit_by_hand_on_a_full_disk_is_not_overwritten(quiet: House) -> None:
    await quiet.session()
    path = quiet.store.path("s") / "metadata.json"
    await quiet.store.entry("s").ledger.views.flush()  # type: ignore[union-attr]
    path.write_text("{ not yet")
    quiet.service.now = lambda: "x" * 300  # type: ignore[method-assign]  # no disk takes a name as long
    with pytest.raises(StorageFailed):
        await quiet.service.take_edit_in("s")
    assert path.read_text() == "{ not yet"


async def test_metadata_with_limits_of_its_own_does_not_look_edited(build: Build) -> None:
    house = build()
    await house.open(running=False)
    await house.session(retention=AskedRetention(tasks=AskedKeep(max_count=3)))
    for each in (house, build()):
        if each is not house:
            await house.close()
            await each.open(running=False)
        await each.service.metadata_touched("s")
        assert (await each.service.session("s")).seq == 1


async def test_a_label_that_could_not_be_asked_for_is_refused_by_hand_too(quiet: House) -> None:
    await quiet.session()
    path = quiet.store.path("s") / "metadata.json"
    await quiet.store.entry("s").ledger.views.flush()  # type: ignore[union-attr]
    path.write_text(path.read_text().replace('"labels": {}', '"labels": {"a=b": "c"}'))
    await quiet.service.metadata_touched("s")
    assert quiet.store.entry("s").session.labels == {}
    events = (await quiet.service.events("s", 0, 10)).lines
    assert b"session.edit_refused" in events[-1]


# ---------------------------------------------------------------------- verified


async def test_a_file_that_is_being_written_while_the_store_is_verified_is_no_finding(
    quiet: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One session changes while the files of another are brought up to date, and is at rest again afterwards."""
    for name in ("a", "b"):
        await quiet.session(name)
    changing, other = await quiet.store.ledger("a"), await quiet.store.ledger("b")
    begun, looked = threading.Event(), threading.Event()
    flush, rename, check = other.views.flush, quiet.disk.rename, quiet.store.check

    async def meanwhile() -> None:
        await flush()
        await quiet.submit(session_id="a")

    def held(source: str, target: str) -> None:
        if target.endswith("/a/tasks.json"):
            begun.set()
            assert looked.wait(PATIENCE_S)
        rename(source, target)

    def look() -> CheckReport:
        assert begun.wait(PATIENCE_S)
        report = check()
        looked.set()
        waited_for(lambda: not changing.busy, PATIENCE_S)
        return report

    monkeypatch.setattr(other.views, "flush", meanwhile)
    monkeypatch.setattr(quiet.disk, "rename", held)
    monkeypatch.setattr(quiet.store, "check", look)
    assert [each for each in (await quiet.service.check()).findings if each.session_id] == []


# ---------------------------------------------------------------------- activity


async def test_a_session_was_updated_when_its_tasks_last_moved(build: Build) -> None:
    house = build()
    await house.open()
    for name in ("old", "new"):
        await house.session(name)
    task = await house.ended((await house.submit(session_id="old")).task_id)
    page = await house.service.list_sessions(SessionQuery())
    assert [row.session_id for row in page.data] == ["old", "new"]
    assert page.data[0].updated_at == task.ended_at
    await house.close()
    again = build()
    await again.open()
    assert [row.session_id for row in (await again.service.list_sessions(SessionQuery())).data] == ["old", "new"]


async def test_the_last_activity_is_known_after_a_crash(build: Build) -> None:
    house = build()
    await house.open()
    await house.session()
    task = await house.ended((await house.submit()).task_id)
    entry = house.store.entry("s")
    assert entry.ledger is not None
    entry.ledger.views.abandon()  # as if killed before any view was written
    assert entry.lock is not None
    entry.lock.release()
    again = build()
    await again.open(running=False)
    assert again.store.entry("s").session.updated_at == task.ended_at


async def test_retention_counts_a_sessions_age_from_its_last_activity(house: House) -> None:
    house.clock.ahead = -7200
    await house.session()
    house.clock.ahead = 0
    await house.ended((await house.submit()).task_id)
    retention = Retention(sessions=Keep(max_age_s=3600))  # between creation and end
    house.service.settings = type(house.settings)(data_dir=house.settings.data_dir, retention=retention)
    assert (await house.service.cleanup(dry_run=True)).sessions == ()


async def test_a_session_that_worked_after_retention_looked_is_not_removed(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.session()
    await house.ended((await house.submit()).task_id)
    retention = Retention(sessions=Keep(max_age_s=0.0))
    house.service.settings = type(house.settings)(data_dir=house.settings.data_dir, retention=retention)
    in_thread = house.service.in_thread

    async def meanwhile(work, *args):  # type: ignore[no-untyped-def]
        result = await in_thread(work, *args)
        if work.__name__ == "plan":
            await house.ended((await house.submit()).task_id)
        return result

    monkeypatch.setattr(house.service, "in_thread", meanwhile)
    assert (await house.service.cleanup(dry_run=False)).sessions == ("s",)
    assert "s" in house.store.entries


# ---------------------------------------------------------------------- lists


async def test_since_may_be_given_without_fraction_or_with_another_offset(quiet: House) -> None:
    await quiet.session()
    task = await quiet.submit()
    for at, there in (
        (int(epoch(task.created_at)), True),
        (int(epoch(task.created_at)) + 2, False),
    ):
        utc = rfc3339(at)
        short = f"{utc[:19]}Z"
        east = f"{rfc3339(at + 7200)[:19]}+02:00"
        for since in (short, east):
            rows = (await quiet.service.list_tasks(TaskQuery(since=since))).data
            of_session = (await quiet.service.list_tasks(TaskQuery(since=since), "s")).data
            sessions = (await quiet.service.list_sessions(SessionQuery(since=since))).data
            assert [bool(rows), bool(of_session), bool(sessions)] == [there] * 3, since


async def test_tasks_are_listed_by_their_trigger_and_up_to_a_time(quiet: House) -> None:
    await quiet.session()
    by_api = await quiet.submit()
    nightly = await quiet.submit(trigger=AskedTrigger(type=TriggerType.SCHEDULE))
    for query, expected in (
        (TaskQuery(trigger=(TriggerType.SCHEDULE,)), {nightly.task_id}),
        (TaskQuery(trigger=(TriggerType.API, TriggerType.SCHEDULE)), {by_api.task_id, nightly.task_id}),
        (TaskQuery(trigger=(TriggerType.WEBHOOK,)), set()),
        (TaskQuery(until=by_api.created_at), set()),
        (TaskQuery(until=rfc3339(epoch(nightly.created_at) + 1)), {by_api.task_id, nightly.task_id}),
    ):
        for session_id in (None, "s"):
            assert {task.task_id for task in (await quiet.service.list_tasks(query, session_id)).data} == expected
    for bad in (quiet.service.list_tasks(TaskQuery(until="soon")), quiet.service.history("s", TaskQuery(until="soon"))):
        with pytest.raises(Malformed, match="until"):
            await bad


@pytest.mark.parametrize("since", ["yesterday", "2026-01-01", "2026-01-01T00:00:00", "9999-12-31T23:59:59-10:00"])
async def test_a_since_that_is_no_time_is_named(quiet: House, since: str) -> None:
    await quiet.session()
    with pytest.raises(Malformed, match="since"):
        await quiet.service.list_tasks(TaskQuery(since=since))
    with pytest.raises(Malformed, match="since"):
        await quiet.service.list_sessions(SessionQuery(since=since))
    with pytest.raises(Malformed, match="since"):
        await quiet.service.history("s", TaskQuery(since=since))


@pytest.mark.parametrize("sort", ["created_at", "-created_at"])
@pytest.mark.parametrize("session_id", [None, "s"])
async def test_pages_of_tasks_made_in_one_instant_have_every_task_once(
    quiet: House, monkeypatch: pytest.MonkeyPatch, sort: str, session_id: str | None
) -> None:
    await quiet.session()
    monkeypatch.setattr(quiet.clock, "time", lambda: 1_800_000_000.0)
    made = {(await quiet.submit()).task_id for _ in range(7)}
    seen: list[str] = []
    cursor = None
    while True:
        page = await quiet.service.list_tasks(TaskQuery(limit=2, cursor=cursor, sort=sort), session_id)
        seen += [task.task_id for task in page.data]
        if (cursor := page.next) is None:
            break
    assert len(seen) == 7
    assert set(seen) == made
    assert seen == sorted(seen, reverse=sort.startswith("-"))


async def test_a_session_that_is_being_made_is_listed_once_it_is_there(quiet: House) -> None:
    quiet.disk.go.clear()
    creating = asyncio.create_task(quiet.service.create_session(NewSession(session_id="s"), None))
    await until(lambda: "s" in quiet.store._creating)
    assert (await quiet.service.list_sessions(SessionQuery())).data == ()
    with pytest.raises(SessionNotFound):
        await quiet.service.session("s")
    quiet.disk.go.set()
    await creating
    assert len((await quiet.service.list_sessions(SessionQuery())).data) == 1


async def test_a_session_takes_nothing_once_its_deletion_began(quiet: House) -> None:
    await quiet.session()
    ledger = await quiet.store.ledger("s")
    deleting = asyncio.create_task(quiet.store.delete("s"))
    await asyncio.sleep(0)
    with pytest.raises(SessionReadOnly, match="being deleted"):
        ledger.stage([])
    await deleting
