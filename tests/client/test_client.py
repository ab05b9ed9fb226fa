"""The client against a real daemon: every route, and every error as the class it was."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from agentd.client import Client, OutputChunk
from agentd.errors import (
    ArtifactNotFound,
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    Malformed,
    NotFound,
    PreconditionFailed,
    SessionExists,
    SessionNotFound,
    TaskNotFound,
    Unauthorized,
    WorkerNotFound,
)
from agentd.model.output import OutputGrowth
from agentd.model.reports import ProgressReport
from agentd.model.requests import NewSession, NewTask, Scale, SessionPatch, SessionQuery, TaskQuery, Window
from agentd.model.session import SessionState
from agentd.model.task import State, Task
from tests.cli.daemon_process import Agentd


def shell(command: str, session_id: str | None = None) -> NewTask:
    return NewTask(spec={"command": command}, session_id=session_id)


async def ended(agent: Client, command: str, session_id: str | None = None) -> Task:
    return await agent.wait((await agent.submit(shell(command, session_id))).task_id)


async def test_the_agent_tells_of_itself(agent: Client, daemon: Agentd) -> None:
    assert (await agent.status())["boot_id"] == daemon.agent["boot_id"]
    assert await agent.healthy()
    assert "agentd_" in await agent.metrics()
    assert (await agent.openapi())["openapi"].startswith("3.1")


async def test_a_session_from_beginning_to_end(agent: Client) -> None:
    made = await agent.create_session(NewSession(session_id="whole", title="T"))
    assert (made.session_id, made.title, made.state) == ("whole", "T", SessionState.IDLE)
    with pytest.raises(SessionExists, match="whole"):
        await agent.create_session(NewSession(session_id="whole"))
    edited = await agent.edit_session("whole", SessionPatch(title=None, labels={"a": "b"}), if_seq=made.seq)
    assert (edited.title, edited.labels) == (None, {"a": "b"})
    with pytest.raises(PreconditionFailed):
        await agent.edit_session("whole", SessionPatch(title="late"), if_seq=made.seq)
    await agent.edit_session("whole", SessionPatch(archived=True))
    assert "whole" not in [s.session_id async for s in agent.each_session()]
    assert "whole" in [s.session_id async for s in agent.each_session(SessionQuery(archived=None))]
    await agent.delete_session("whole")
    with pytest.raises(SessionNotFound):
        await agent.session("whole")


async def test_a_task_from_beginning_to_end(agent: Client) -> None:
    task = await agent.submit(shell("echo out; exit 3"), session_id="client-task")
    task = await agent.wait(task.task_id)
    assert task == await agent.task(task.task_id)
    assert (task.state, task.cause and task.cause.exit_code) == (State.FAILED, 3)
    with pytest.raises(InvalidTransition):
        await agent.cancel(task.task_id)
    with pytest.raises(InvalidTransition):
        await agent.report_progress(task.task_id, ProgressReport(progress=1))
    again = await agent.wait((await agent.retry(task.task_id)).task_id)
    assert again.retry_of == task.task_id
    history = await agent.history("client-task")
    assert {each.task_id for each in history.data} == {task.task_id, again.task_id}


async def test_a_wait_gives_up_at_its_timeout(agent: Client) -> None:
    task = await agent.submit(shell("sleep 60"))
    assert not (await agent.wait(task.task_id, 0.05)).terminal
    await agent.cancel(task.task_id)
    assert (await agent.wait(task.task_id)).state is State.CANCELLED


async def test_all_tasks_of_a_session_are_cancelled(agent: Client) -> None:
    for _ in range(2):
        await agent.submit(shell("sleep 60", "cancel-two"))
    assert len(await agent.cancel_session("cancel-two")) == 2


async def test_pages_are_walked_to_the_end(agent: Client) -> None:
    made = [(await ended(agent, "true", "pages")).task_id for _ in range(5)]
    page = await agent.tasks(TaskQuery(limit=2), session_id="pages")
    assert len(page.data) == 2
    assert page.next is not None
    assert [t.task_id async for t in agent.each_task(TaskQuery(limit=2), session_id="pages")] == made[::-1]
    assert [t.task_id async for t in agent.each_task(TaskQuery(limit=2, sort="created_at"), session_id="pages")] == made
    assert (await agent.tasks(TaskQuery(state=(State.FAILED, State.TIMEOUT)), session_id="pages")).data == ()


async def test_one_key_is_one_task_and_another_body_a_conflict(agent: Client) -> None:
    first = await agent.submit(shell("true", "keys"), key="k")
    assert (await agent.submit(shell("true", "keys"), key="k")).task_id == first.task_id
    with pytest.raises(IdempotencyConflict):
        await agent.submit(shell("false", "keys"), key="k")


async def test_errors_name_their_fields(agent: Client) -> None:
    with pytest.raises(Invalid) as caught:
        await agent.submit(NewTask(spec={"argv": []}))
    assert type(caught.value) is Invalid
    assert any("argv" in error.field for error in caught.value.errors)
    with pytest.raises(Malformed):
        await agent.tasks(TaskQuery(cursor="bogus"))


@pytest.mark.parametrize("name", ["absent", "a/b", "../x", "%2e%2e", "ä", "a?b#c", "..", ""])
async def test_no_name_leads_anywhere_else(agent: Client, name: str) -> None:
    for call in (agent.session, agent.task, agent.restart_worker):
        with pytest.raises(NotFound):
            await call(name)


async def test_what_is_not_there_is_told_by_kind(agent: Client) -> None:
    with pytest.raises(TaskNotFound):
        await agent.task("0" * 14)
    with pytest.raises(WorkerNotFound):
        await agent.restart_worker("w-none")
    await agent.create_session(NewSession(session_id="no-artifacts"))
    with pytest.raises(ArtifactNotFound):
        await agent.delete_artifact("no-artifacts", "a/b")


async def test_without_a_token_nothing_but_health_is_told(daemon: Agentd) -> None:
    async with Client(daemon.agent["url"]) as nobody:
        assert await nobody.healthy()
        with pytest.raises(Unauthorized):
            await nobody.status()


async def test_output_is_read_whole_from_a_byte_and_from_the_end(agent: Client) -> None:
    task = await ended(agent, "printf 0123456789; printf err >&2", "bytes")

    async def read(**which: object) -> bytes:
        return b"".join([block async for block in agent.output(task.task_id, **which)])  # type: ignore[arg-type]

    assert await read(stream="out") == b"0123456789"
    assert await read(stream="err") == b"err"
    assert await read(stream="out", start=7) == b"789"
    assert await read(start=-2) == (await read())[-2:]
    assert await read(start=13) == b""
    assert await read(start=1000) == b""
    assert (await agent.search_output(task.task_id, "345")).total == 1


async def test_lines_are_read_by_number(agent: Client) -> None:
    task = await ended(agent, "seq 1 1000", "lines")
    window = await agent.output_lines(task.task_id, line=500, count=2)
    assert [line.text for line in window.lines] == ["500", "501"]
    assert (await agent.output_lines(task.task_id, line=-1)).lines[0].text == "1000"
    (line,) = (await agent.output_lines(task.task_id, line=-1, stream="out", detail=True)).lines
    assert (line.text, line.stream) == ("1000", "out")
    assert (await agent.output_lines(task.task_id, stream="err")).total_lines == 0


async def test_growth_is_followed_to_the_task(agent: Client) -> None:
    task = await agent.submit(shell("seq 1 10"))
    *grown, last = [part async for part in agent.follow_growth(task.task_id)]
    assert grown[-1] == OutputGrowth(attempt=1, size=21, total_lines=10, ended=True)
    assert isinstance(last, Task)
    assert last.state is State.COMPLETED


@pytest.mark.parametrize("data", [b"", b"text \xe2\x82\xac", bytes(range(256)) * 1000, b"\xe2\x82"])
async def test_followed_output_is_byte_for_byte(agent: Client, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "data").write_bytes(data)
    task = await agent.submit(shell(f"cat {tmp_path / 'data'}"))
    parts = [part async for part in agent.follow_output(task.task_id)]
    assert b"".join(part.data for part in parts[:-1] if isinstance(part, OutputChunk)) == data
    last = parts[-1]
    assert isinstance(last, Task)
    assert last.state is State.COMPLETED


async def test_events_are_paged_and_followed(agent: Client) -> None:
    task = await ended(agent, "true", "events")
    page = await agent.events("events", limit=2)
    assert [event["type"] for event in page.data] == ["session.created", "task.created"]
    assert page.next == 2
    seen = []
    async with aclosing(agent.follow_events("events", after=2)) as events:
        async for event in events:
            seen.append(event.type)
            if event.type == "task.finished":
                assert event.json()["task_id"] == task.task_id
                break
    assert seen[0] == "hello"
    assert int(event.id or 0) == page.seq


async def test_the_stream_of_a_deleted_session_ends(agent: Client) -> None:
    await agent.create_session(NewSession(session_id="deleted"))

    async def follow() -> list[str]:
        seen = []
        async for event in agent.follow_events("deleted"):
            seen.append(event.type)
            connected.set()
        return seen

    connected = asyncio.Event()
    following = asyncio.create_task(follow())
    await connected.wait()
    await agent.delete_session("deleted")
    async with asyncio.timeout(60):
        assert "hello" in await following


async def test_artifacts_are_written_read_listed_and_deleted(agent: Client) -> None:
    await agent.create_session(NewSession(session_id="artifacts"))
    blob = os.urandom(300_000)

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(blob), 50_000):
            yield blob[start : start + 50_000]

    await agent.write_artifact("artifacts", "a/streamed ä.bin", blocks())
    await agent.write_artifact("artifacts", "plain", b"text")
    found = await agent.artifacts("artifacts")
    assert {view.path: view.size for view in found.data} == {"a/streamed ä.bin": len(blob), "plain": 4}
    got = b"".join([block async for block in agent.read_artifact("artifacts", "a/streamed ä.bin")])
    assert got == blob
    await agent.delete_artifact("artifacts", "plain")
    with pytest.raises(ArtifactNotFound):
        _ = [block async for block in agent.read_artifact("artifacts", "plain")]


async def test_workers_queue_and_care(agent: Client) -> None:
    assert (await agent.scale(Scale(min=1))).max >= 1
    assert all(worker.pid > 0 for worker in await agent.workers())
    blocker = await agent.submit(shell("sleep 60", "care"))
    waiting = await agent.submit(NewTask(spec={"command": "true"}, needs=(blocker.task_id,), session_id="care"))
    queue = await agent.queue(Window(limit=1000))
    assert waiting.task_id in [item.task_id for item in queue.data]
    await agent.cancel_session("care")
    assert (await agent.cleanup(dry_run=True)).dry_run
    assert (await agent.check()).findings == ()


async def test_a_unix_socket_is_as_good_as_a_port(tmp_path: Path) -> None:
    own = Agentd(tmp_path)
    own.settings["AGENTD_HTTP_SOCKET"] = str(tmp_path / "s")
    try:
        await asyncio.to_thread(own.start)
        async with Client(f"unix://{tmp_path / 's'}", own.token) as agent:
            assert (await ended(agent, "true")).state is State.COMPLETED
        assert "completed" in await asyncio.to_thread(
            own.text, "ls", "--url", f"unix://{tmp_path / 's'}", AGENTD_TOKEN=own.token
        )
    finally:
        await asyncio.to_thread(own.end)


async def test_a_shutdown_ends_the_daemon(tmp_path: Path) -> None:
    own = Agentd(tmp_path)
    try:
        await asyncio.to_thread(own.start)
        async with Client(own.agent["url"], own.token) as agent:
            await agent.shutdown()
        assert own.process is not None
        assert await asyncio.to_thread(own.process.wait, 60) == 0
    finally:
        await asyncio.to_thread(own.end)


async def test_a_batch_is_submitted_whole_and_once(agent: Client) -> None:
    batch = [shell("true") for _ in range(5)]
    made = await agent.submit_batch(batch, session_id="batched", key="batch")
    assert [task.session_id for task in made] == ["batched"] * 5
    assert await agent.submit_batch(batch, session_id="batched", key="batch") == made
    with pytest.raises(Invalid) as raised:
        await agent.submit_batch([*batch, NewTask(spec={"comand": "x"})], session_id="batched")
    assert [each.field for each in raised.value.errors] == ["[5].spec.comand"]
    assert len((await agent.tasks(session_id="batched")).data) == 5
