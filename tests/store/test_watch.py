import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agentd.store import watch as module
from agentd.store.watch import MetadataWatch


class Reports:
    """The sessions that were reported, to be waited for."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, session_id: str) -> None:
        self._queue.put_nowait(session_id)

    async def next(self) -> str:
        return await asyncio.wait_for(self._queue.get(), 60)

    @property
    def empty(self) -> bool:
        return self._queue.empty()


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    for name in ("a", "b", "last"):
        make(tmp_path, name)
    return tmp_path


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
async def watch(sessions: Path, reports: Reports) -> AsyncIterator[MetadataWatch]:
    made = MetadataWatch(sessions, reports)
    await made.open(["a", "b", "last"])
    yield made
    await made.close()


def make(sessions: Path, name: str) -> None:
    (sessions / name / "workspace").mkdir(parents=True)
    (sessions / name / "metadata.json").write_text("{}")


async def only(reports: Reports, sessions: Path, *expected: str) -> None:
    """What was reported up to now, in the order of its first change: an edit of `last` ends it."""
    (sessions / "last" / "metadata.json").write_text("end")
    found = []
    while (session_id := await reports.next()) != "last":
        found.append(session_id)
    assert found == list(expected)


async def test_a_file_written_in_place_is_reported(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    with (sessions / "a" / "metadata.json").open("a") as file:
        file.write("edit")
    assert await reports.next() == "a"


async def test_a_file_that_is_replaced_is_reported_each_time(
    watch: MetadataWatch, sessions: Path, reports: Reports
) -> None:
    for n in range(3):
        (sessions / "a" / ".tmp").write_text(str(n))
        (sessions / "a" / ".tmp").rename(sessions / "a" / "metadata.json")
        assert await reports.next() == "a"


async def test_an_edit_is_reported_soon(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    (sessions / "a" / "metadata.json").write_text("edit")
    async with asyncio.timeout(60):
        assert await reports.next() == "a"


async def test_other_files_and_what_lies_beneath_are_not_reported(
    watch: MetadataWatch, sessions: Path, reports: Reports
) -> None:
    (sessions / "a" / "tasks.json").write_text("{}")
    (sessions / "a" / "workspace" / "metadata.json").write_text("{}")
    (sessions / "a" / "metadata.json").read_text()
    await only(reports, sessions)


async def test_many_writes_at_once_are_one_report(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    for n in range(50):
        (sessions / "a" / "metadata.json").write_text(str(n))
    await only(reports, sessions, "a")


async def test_a_session_added_later_is_watched(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    make(sessions, "new")
    watch.add("new")
    watch.add("new")
    (sessions / "new" / "metadata.json").write_text("edit")
    assert await reports.next() == "new"


async def test_a_session_that_is_removed_is_not_watched(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    watch.remove("a")
    watch.remove("a")
    watch.remove("unknown")
    (sessions / "a" / "metadata.json").write_text("edit")
    await only(reports, sessions)


async def test_a_session_that_is_deleted_and_made_again_can_be_added_again(
    watch: MetadataWatch, sessions: Path, reports: Reports
) -> None:
    (sessions / "a").rename(sessions / ".deleted-a")
    make(sessions, "a")
    watch.remove("a")
    watch.add("a")
    (sessions / "a" / "metadata.json").write_text("edit")
    assert await reports.next() == "a"


async def test_a_directory_that_is_gone_is_forgotten(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    os.remove(sessions / "a" / "metadata.json")
    os.rmdir(sessions / "a" / "workspace")
    os.rmdir(sessions / "a")
    await only(reports, sessions)
    make(sessions, "a")
    watch.add("a")
    (sessions / "a" / "metadata.json").write_text("edit")
    assert await reports.next() == "a"


async def test_links_and_missing_directories_are_not_watched(
    watch: MetadataWatch, sessions: Path, reports: Reports
) -> None:
    (sessions / "link").symlink_to(sessions / "a")
    watch.add("missing")
    assert watch.unwatched == 0
    (sessions / "file").touch()
    watch.add("file")
    watch.add("link")
    await only(reports, sessions)


async def test_an_edit_while_sessions_are_being_added_is_not_lost(
    watch: MetadataWatch, sessions: Path, reports: Reports
) -> None:
    names = [f"s{n:04}" for n in range(1200)]
    for name in names:
        (sessions / name).mkdir()
    adding = asyncio.ensure_future(watch.add_all(names))
    while not adding.done():
        # The thread may have made the watch and the loop not know of it yet.
        (sessions / "s0000" / "metadata.json").write_text("edit")
        await asyncio.sleep(0)
    await adding
    assert await reports.next() == "s0000"
    (sessions / "s1199" / "metadata.json").write_text("edit")
    while await reports.next() != "s1199":
        pass


async def test_lost_notices_make_every_session_reported(
    watch: MetadataWatch, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow = module._HEAD.pack(-1, module._OVERFLOW, 0, 0)
    monkeypatch.setattr(os, "read", lambda fd, n: overflow)
    watch._read()
    assert {await reports.next() for _ in range(3)} == {"a", "b", "last"}


async def test_after_the_close_nothing_is_reported(watch: MetadataWatch, sessions: Path, reports: Reports) -> None:
    (sessions / "a" / "metadata.json").write_text("edit")
    await watch.close()
    await watch.close()
    watch.add("b")
    await asyncio.sleep(0)
    assert reports.empty
