"""Sessions as archives over HTTP, and what a session that works gives of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from agentd.config import Limits

from .conftest import Serve
from .talk import Api, until


async def working(api: Api, session_id: str = "s") -> list[str]:
    """A session with a task that ended, one that runs and one that is queued; their ids."""
    await api.ask("POST", "/sessions", {"session_id": session_id, "title": "old"})
    path = f"/sessions/{session_id}/task"
    specs = ({"command": "echo one; echo two >&2"}, {"command": "echo begun; exec sleep 600"}, {"command": "true"})
    tasks = [(await api.ask("POST", path, {"spec": spec})).json["task_id"] for spec in specs]
    await api.get(f"/tasks/{tasks[0]}/wait?timeout_s=60")

    async def begun() -> bool:
        return b"begun" in (await api.ask("GET", f"/tasks/{tasks[1]}/output")).body

    await until(begun)
    await api.ask("PUT", f"/sessions/{session_id}/artifacts/deep/a%20b", b"x" * 700_000)
    return tasks


async def test_a_session_that_works_moves_to_where_it_was_deleted_and_nothing_starts(api: Api) -> None:
    done, runs, waits = await working(api)
    exported = await api.ask("GET", "/sessions/s/export")
    assert exported.status == 200
    assert exported.headers["Content-Type"] == "application/x-tar"
    assert exported.headers["Content-Disposition"] == 'attachment; filename="s.tar"'
    assert (await api.ask("HEAD", "/sessions/s/export")).body == b""
    before = await api.get(f"/tasks/{done}")
    output = (await api.ask("GET", f"/tasks/{done}/output")).body

    refused = await api.ask("PUT", "/sessions/s/import", exported.body)
    assert (refused.status, refused.code) == (409, "session_exists")
    assert "delete it first" in refused.json["detail"]
    assert (await api.get(f"/tasks/{runs}"))["state"] == "running"

    await api.ask("DELETE", "/sessions/s?force=true")
    made = await api.ask("PUT", "/sessions/s/import", exported.body)
    assert made.status == 201, made.body
    assert (made.headers["Location"], made.json["title"]) == ("/sessions/s", "old")
    assert (made.json["state"], made.json["counts"]) == ("idle", {"completed": 1, "cancelled": 2})
    assert await api.get(f"/tasks/{done}") == before
    assert (await api.ask("GET", f"/tasks/{done}/output")).body == output
    assert (await api.ask("GET", f"/tasks/{runs}/output")).body == b"begun\n"
    for task_id in (runs, waits):
        task = await api.get(f"/tasks/{task_id}")
        assert task["state"] == "cancelled"
        assert "an import starts nothing" in task["cause"]["message"]
    assert (await api.ask("GET", "/sessions/s/artifacts/deep/a%20b")).body == b"x" * 700_000
    report = await api.ask("POST", "/admin/check")
    assert report.json["findings"] == []

    again = await api.ask("POST", f"/tasks/{waits}/retry")
    assert again.status == 201
    assert (await api.get(f"/tasks/{again.json['task_id']}/wait?timeout_s=60"))["state"] == "completed"


async def test_an_import_is_announced(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    archive = (await api.ask("GET", "/sessions/s/export")).body
    await api.ask("DELETE", "/sessions/s")
    async with api.stream("/events") as stream:
        await stream.until("hello")
        await api.ask("PUT", "/sessions/s/import", archive)
        events = await stream.until("session.imported")
    assert (events[-1].json["session_id"], events[-1].json["seq"]) == ("s", 1)


async def test_what_is_no_archive_of_the_session_is_refused_and_leaves_nothing(api: Api, tmp_path: Path) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    archive = (await api.ask("GET", "/sessions/s/export")).body
    for session_id, body in (("t", archive), ("u", archive[:-2000]), ("v", b"x" * 5000), ("w", b"")):
        refused = await api.ask("PUT", f"/sessions/{session_id}/import", body)
        assert (refused.status, refused.code) == (422, "invalid"), session_id
    assert (await api.ask("PUT", "/sessions/.x/import", archive)).status == 422
    packed = await api.ask("PUT", "/sessions/s2/import", archive, headers={"Content-Encoding": "gzip"})
    assert packed.status == 415
    assert os.listdir(tmp_path / "data/sessions") == ["s"]


async def test_an_archive_over_the_limit_is_refused_also_when_it_does_not_say_its_length(
    serve: Serve, tmp_path: Path
) -> None:
    api = await serve(Limits(import_bytes=10_000))
    body = bytes(20_000)
    assert (await api.ask("PUT", "/sessions/s/import", body)).status == 413

    async def blocks() -> AsyncIterator[bytes]:
        yield b"x" * 5000
        yield b"x" * 15_000

    answer = await api.ask("PUT", "/sessions/s/import", blocks())
    assert answer.status in (413, 422)  # whichever is seen first
    assert os.listdir(tmp_path / "data/sessions") == []


async def test_an_import_whose_client_leaves_is_forgotten_and_its_name_is_free(api: Api, tmp_path: Path) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    archive = (await api.ask("GET", "/sessions/s/export")).body
    await api.ask("DELETE", "/sessions/s")
    begun = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield archive[:1024]
        begun.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(api.ask("PUT", "/sessions/s/import", half()))
    await begun.wait()
    sessions = tmp_path / "data/sessions"
    await until(lambda: os.listdir(sessions) == [".new-s"])
    taken = await api.ask("POST", "/sessions", {"session_id": "s"})
    assert (taken.status, taken.code) == (409, "session_exists")
    upload.cancel()
    await until(lambda: os.listdir(sessions) == [])
    async with asyncio.timeout(60):
        while (again := await api.ask("PUT", "/sessions/s/import", archive)).status == 409:
            pass  # the files go a moment before the name
    assert again.status == 201
