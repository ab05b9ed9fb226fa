"""How the output of a task grows, as a stream of its size."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentd.http import growth

from .talk import Api, Event, until


def told(events: list[Event]) -> list[Any]:
    """What the growth events say."""
    return [event.json for event in events if event.type == "growth"]


async def test_a_task_that_has_ended_is_told_of_once(api: Api) -> None:
    task = (await api.run("seq 1 1000; echo problem >&2"))["task_id"]
    async with api.stream(f"/tasks/{task}/output/growth") as stream:
        events = await stream.rest()
    assert [event.type for event in events] == ["hello", "growth", "end"]
    assert [event.id for event in events] == [None] * 3
    assert events[0].json.keys() == {"seq", "boot_id", "attempt"}
    assert events[1].json == {"attempt": 1, "size": 3901, "total_lines": 1001, "ended": True}
    assert events[2].json["task"]["state"] == "completed"
    async with api.stream(f"/tasks/{task}/output/growth?stream=err") as stream:
        assert told(await stream.rest()) == [{"attempt": 1, "size": 8, "total_lines": 1, "ended": True}]


async def test_growth_is_told_as_it_happens(api: Api, tmp_path: Path) -> None:
    go = tmp_path / "go"
    task = await api.start(f"echo one; while ! [ -e {go} ]; do sleep 0.02; done; echo two; exec sleep 30")
    async with api.stream(f"/tasks/{task['task_id']}/output/growth") as stream:
        events = await stream.until("growth")
        while told(events)[-1]["total_lines"] < 1:
            events += await stream.until("growth")
        go.touch()
        (more,) = await stream.until("growth")
        assert more.json == {"attempt": 1, "size": 8, "total_lines": 2, "ended": False}
        await api.ask("DELETE", f"/tasks/{task['task_id']}")
        rest = await stream.rest()
    assert told(rest)[-1]["ended"]
    assert rest[-1].json["task"]["state"] == "cancelled"


async def test_a_log_that_grows_fast_is_told_of_a_few_times_a_second_and_whole_at_the_end(api: Api) -> None:
    task = await api.start("i=0; while [ $i -lt 100 ]; do echo line; sleep 0.01; i=$((i + 1)); done")
    async with api.stream(f"/tasks/{task['task_id']}/output/growth") as stream:
        events = told(await stream.rest())
    assert events[-1] == {"attempt": 1, "size": 500, "total_lines": 100, "ended": True}
    sizes = [each["size"] for each in events]
    assert sizes == sorted(sizes)
    ended = await api.get(f"/tasks/{task['task_id']}")
    assert len(events) <= 3 + ended["duration_s"] / growth.GROWTH_S


async def test_each_attempt_is_told_of(api: Api, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = f"echo $AGENTD_ATTEMPT; while ! [ -e {go} ]; do sleep 0.02; done; exit 1"
    body = {"command": command, "retry": {"max": 1, "backoff_s": 0}}
    task = (await api.ask("POST", "/tasks/shell", body)).json["task_id"]
    async with api.stream(f"/tasks/{task}/output/growth") as stream:
        await stream.until("hello")  # it begins with the attempt that runs then
        go.touch()
        events = told(await stream.rest())
    assert [each["attempt"] for each in events if each["ended"]] == [1, 2]
    assert all(each["size"] == 2 for each in events if each["ended"])
    async with api.stream(f"/tasks/{task}/output/growth?attempt=1") as stream:
        assert told(await stream.rest()) == [{"attempt": 1, "size": 2, "total_lines": 1, "ended": True}]


async def test_a_task_that_waits_has_nothing_yet_and_is_followed_from_its_start(api: Api) -> None:
    blocker = await api.start("sleep 30", session_id="s")
    queued = (await api.ask("POST", "/sessions/s/task", {"spec": {"command": "echo ran"}})).json["task_id"]
    async with api.stream(f"/tasks/{queued}/output/growth") as stream:
        first = told(await stream.until("growth"))
        assert first == [{"attempt": 1, "size": 0, "total_lines": 0, "ended": False}]
        await api.ask("DELETE", f"/tasks/{blocker['task_id']}")
        assert told(await stream.rest())[-1] == {"attempt": 1, "size": 4, "total_lines": 1, "ended": True}


async def test_a_silent_log_has_heartbeats(api: Api) -> None:
    task = await api.start("sleep 600")
    async with api.stream(f"/tasks/{task['task_id']}/output/growth") as stream:
        rest = asyncio.create_task(stream.rest())
        await until(lambda: stream.comments >= 2)
        await api.ask("DELETE", f"/tasks/{task['task_id']}")
        assert (await rest)[-1].json["task"]["state"] == "cancelled"


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [("attempt=2", 422, "attempt"), ("attempt=0", 400, "attempt"), ("stream=x", 400, "stream")],
)
async def test_what_is_not_there_to_follow_is_named(api: Api, query: str, status: int, field: str) -> None:
    task = (await api.run("true"))["task_id"]
    answer = await api.ask("GET", f"/tasks/{task}/output/growth?{query}")
    assert (answer.status, list(answer.fields)) == (status, [field])
    assert (await api.ask("GET", "/tasks/nope/output/growth")).status == 404
