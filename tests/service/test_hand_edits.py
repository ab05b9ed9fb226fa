"""An edit of metadata.json by hand is never overwritten, however close to the daemon's own writing it comes."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from agentd.model.requests import PolicyChanges, SessionPatch
from agentd.model.session import Policy, Session, SessionChanges
from agentd.store.edits import edited, rebased
from agentd.store.views import metadata_fields

from .conftest import Build
from .house import House, TroubledDisk, until


class CrowdedDisk(TroubledDisk):
    """Somebody edits metadata.json in the very moment in which the daemon has written its own beside it."""

    exchanges = True
    path = Path()  #: of metadata.json

    def __init__(self) -> None:
        super().__init__()
        self.edits: list[dict[str, object]] = []

    def exchange(self, one: str, other: str) -> bool:
        if self.exchanges:
            self._edit(Path(other))
            return super().exchange(one, other)
        return False

    def fsync(self, fd: int, point: str) -> None:
        super().fsync(fd, point)
        if not self.exchanges and point == "view.metadata":
            self._edit(self.path)

    def _edit(self, path: Path) -> None:
        if self.edits:
            path.write_text(json.dumps({**json.loads(path.read_bytes()), **self.edits.pop(0)}))


@pytest.fixture(params=[True, False], ids=["files change places", "they cannot"])
async def crowded(build: Build, request: pytest.FixtureRequest) -> House:
    house = build()
    disk = house.disk = house.store._disk = CrowdedDisk()
    disk.exchanges = request.param
    disk.path = house.store.path("s") / "metadata.json"
    await house.open(running=False)
    return house


async def test_an_edit_in_the_moment_of_writing_is_taken_in_and_the_change_that_was_written_stays(
    crowded: House,
) -> None:
    assert isinstance(crowded.disk, CrowdedDisk)
    found: list[str] = []
    crowded.store.on_edited = found.append
    await crowded.session()
    crowded.disk.edits = [{"title": "by hand", "policy": {"tasks_kept": 7}}]
    await crowded.service.edit_session("s", SessionPatch(policy=PolicyChanges(max_parallel=5), archived=True), None)
    await until(lambda: found)
    assert json.loads((crowded.store.path("s") / "metadata.json").read_bytes())["title"] == "by hand"
    await crowded.service.metadata_touched("s")
    session = crowded.store.entry("s").session
    assert (session.title, session.policy.tasks_kept) == ("by hand", 7)
    assert (session.policy.max_parallel, session.archived) == (5, True)
    ledger = await crowded.store.ledger("s")
    await ledger.views.flush()
    written = json.loads((crowded.store.path("s") / "metadata.json").read_bytes())
    assert (written["title"], written["policy"]["max_parallel"], written["seq"]) == ("by hand", 5, session.seq)
    assert not [each for each in (await crowded.service.check()).findings if each.session_id]


async def test_of_two_edits_the_later_one_counts(build: Build) -> None:
    house = build()
    house.disk = house.store._disk = CrowdedDisk()
    await house.open(running=False)
    await house.session()
    house.disk.edits = [{"title": "one"}, {"title": "two"}]
    await house.service.edit_session("s", SessionPatch(archived=True), None)
    await house.service.metadata_touched("s")
    session = house.store.entry("s").session
    assert (session.title, session.archived) == ("two", True)


async def test_an_edit_that_the_disk_refuses_to_record_is_taken_in_once_it_does(quiet: House) -> None:
    await quiet.session()
    path = quiet.store.path("s") / "metadata.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), "title": "patient"}))
    quiet.disk.refuse_write = 28
    looking = asyncio.create_task(quiet.service.metadata_touched("s"))
    ledger = await quiet.store.ledger("s")
    for _ in range(20):
        await asyncio.sleep(0.005)  # a look at the file, and a commit that is refused
    assert ledger.session.title is None
    quiet.disk.refuse_write = None
    await looking
    assert ledger.session.title == "patient"


def test_an_edit_of_an_older_text_changes_only_what_it_set() -> None:
    base = Session(session_id="s", created_at="", updated_at="", title="old", labels={"a": "1"})
    head = replace(base, title="new", policy=Policy(max_parallel=9, tasks_kept=5), archived=True)
    text = metadata_fields(replace(base, policy=Policy(tasks_kept=50)))
    changes = edited(base, msgspec.json.encode(text))
    assert changes is not None
    left = rebased(changes, base, head)
    assert left == SessionChanges(policy=Policy(max_parallel=9, tasks_kept=50))
    assert rebased(SessionChanges(title="new"), base, head) is None
