"""Event streams: replay and then live, without a hole or a double."""

from __future__ import annotations

import asyncio
import json

import pytest

from agentd.config import Http, Limits
from agentd.http import sse

from .conftest import Serve
from .talk import Api, Event, until


async def lines_of(api: Api, session_id: str) -> list[bytes]:
    """The session's journal as the page route gives it."""
    body = (await api.ask("GET", f"/sessions/{session_id}/events?limit=1000")).body
    page = json.loads(body)
    assert page["next"] is None
    rows = body[len(b'{"data":[') : body.rindex(b'],"next"')]
    return [] if not rows else [b'{"seq":' + part for part in (b"," + rows).split(b',{"seq":')[1:]]


async def test_a_page_has_the_journals_lines_and_where_to_go_on(api: Api) -> None:
    await api.run("true", session_id="s")
    first = await api.get("/sessions/s/events?limit=2")
    assert [each["seq"] for each in first["data"]] == [1, 2]
    assert [each["type"] for each in first["data"]] == ["session.created", "task.created"]
    rest = await api.get(f"/sessions/s/events?after={first['next']}")
    assert rest["data"][0]["seq"] == 3
    assert rest["data"][-1]["seq"] == rest["seq"]
    assert (rest["next"], rest["gap"]) == (None, None)
    assert (await api.get(f"/sessions/s/events?after={rest['seq']}"))["data"] == []
    assert (await api.ask("GET", "/sessions/s/events?after=-1")).fields.keys() == {"after"}
    assert (await api.ask("GET", "/sessions/nope/events")).code == "session_not_found"
    stream = await api.ask("GET", "/sessions/nope/events", headers={"Accept": "text/event-stream"})
    assert stream.code == "session_not_found"


async def test_the_first_event_is_hello_with_where_things_stand(api: Api) -> None:
    await api.run("true", session_id="s")
    seq = (await api.get("/sessions/s"))["seq"]
    async with api.stream(f"/sessions/s/events?after={seq}") as stream:
        hello = await stream.next()
    assert hello is not None
    assert hello.type == "hello"
    assert hello.id == str(seq)
    assert hello.json["seq"] == seq
    assert hello.json["boot_id"] == api.daemon.service.boot_id


async def test_a_replay_goes_on_live_byte_for_byte_without_hole_or_double(api: Api) -> None:
    for n in range(3):
        await api.run(f"echo {n}", session_id="s")
    async with api.stream("/sessions/s/events") as stream:
        busy = [asyncio.create_task(api.run("true", session_id="s")) for _ in range(10)]
        await asyncio.gather(*busy)
        last = (await api.get("/sessions/s"))["seq"]
        events: list[Event] = []
        while not events or events[-1].id != str(last):
            event = await stream.next()
            assert event is not None
            events.append(event)
    assert events.pop(0).type == "hello"
    assert [int(event.id or 0) for event in events] == list(range(1, last + 1))
    assert [event.text for event in events] == await lines_of(api, "s")
    assert all(event.type == event.json["type"] for event in events)


@pytest.mark.parametrize("way", ["header", "query"])
async def test_a_reader_comes_back_to_where_it_was(api: Api, way: str) -> None:
    await api.run("true", session_id="s")
    path = "/sessions/s/events?after=2" if way == "query" else "/sessions/s/events?after=0"
    async with api.stream(path, last_id="2" if way == "header" else None) as stream:
        await stream.next()
        event = await stream.next()
    assert event is not None
    assert event.id == "3"


async def test_a_position_that_never_was_gives_a_gap_and_all_there_is(api: Api) -> None:
    await api.run("true", session_id="s")
    async with api.stream("/sessions/s/events?after=999999") as stream:
        hello, gap, first = [await stream.next() for _ in range(3)]
    assert hello is not None and gap is not None and first is not None
    assert (gap.type, gap.json["reason"], gap.json["first"]) == ("gap", "foreign", 1)
    assert first.id == "1"


async def test_a_pruned_position_gives_a_gap_and_what_is_left(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.run("true", session_id="s")
    real = api.daemon.service.events

    async def pruned(session_id: str, after: int, limit: int) -> object:
        page = await real(session_id, max(after, 2), limit)
        return type(page)(lines=page.lines, next=page.next, gap=3 if after < 2 else None, seq=page.seq)

    monkeypatch.setattr(api.daemon.service, "events", pruned)
    async with api.stream("/sessions/s/events") as stream:
        _, gap, first = [await stream.next() for _ in range(3)]
    assert gap is not None and first is not None
    assert (gap.type, gap.json["reason"], gap.json["first"], gap.id) == ("gap", "pruned", 3, "2")
    assert first.id == "3"


@pytest.mark.parametrize("last_id", ["x", "-1", "1" * 30, "1.5"])
async def test_an_id_that_is_none_is_refused(api: Api, last_id: str) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    for path in ("/sessions/s/events", "/events"):
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
        if path == "/events" and last_id == "-1":
            continue  # position 1 of a boot without a name
        answer = await api.ask("GET", path, headers=headers)
        assert (answer.status, answer.code) == (400, "malformed"), path


async def test_all_sessions_share_one_stream_with_the_daemons_own_events(api: Api) -> None:
    async with api.stream("/events") as stream:
        hello = await stream.next()
        assert hello is not None
        await api.ask("POST", "/sessions", {"session_id": "a"})
        await api.ask("POST", "/sessions", {"session_id": "b"})
        await api.ask("DELETE", "/sessions/a")
        events = await stream.until("session.deleted")
    told = [(event.type, event.json.get("session_id")) for event in events if event.type.startswith("session.")]
    assert told == [("session.created", "a"), ("session.created", "b"), ("session.deleted", "a")]
    async with api.stream("/events", last_id=hello.id) as stream:
        again = await stream.until("session.deleted")
    assert again[0].type == "hello"
    assert [event for event in again if event.type.startswith("session.")] == [
        event for event in events if event.type.startswith("session.")
    ]


async def test_an_id_of_another_boot_gives_a_gap_and_all_of_this_one(serve: Serve) -> None:
    api = await serve()
    async with api.stream("/events") as stream:
        hello = await stream.next()
    assert hello is not None
    await api.stop()
    api = await serve()
    async with api.stream("/events", last_id=hello.id) as stream:
        _, gap, first = [await stream.next() for _ in range(3)]
    assert gap is not None and first is not None
    assert (gap.type, gap.json["reason"]) == ("gap", "restarted")
    assert first.type == "agent.recovered"


async def test_an_id_that_the_ring_no_longer_has_gives_a_gap(serve: Serve) -> None:
    api = await serve(Limits(event_ring=4))
    await api.run("true")
    async with api.stream("/events?after=0") as stream:
        _, gap = [await stream.next() for _ in range(2)]
    assert gap is not None
    assert (gap.type, gap.json["reason"]) == ("gap", "pruned")


async def test_a_deleted_session_ends_its_stream(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})
    async with api.stream("/sessions/s/events") as stream:
        await stream.until("session.created")
        await api.ask("DELETE", "/sessions/s")
        assert [event.type for event in await stream.rest()] == ["session.deleted"]


async def test_a_quiet_stream_has_heartbeats(api: Api) -> None:
    async with api.stream("/events?after=0") as stream:
        await stream.until("worker.started")
        reading = asyncio.create_task(stream.next())
        await until(lambda: stream.comments >= 2)
        assert not reading.done()
        reading.cancel()


async def test_streams_end_when_the_daemon_does(api: Api) -> None:
    async with api.stream("/events") as stream:
        await stream.next()
        await api.stop()
        assert "agent.draining" in [event.type for event in await stream.rest()]


async def test_a_reader_that_is_too_slow_is_cut_off_and_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALLED_S", 0.2)
    api = await serve(Limits(sse_buffer=10), Http(port=0, heartbeat_s=5))
    bus = api.daemon.service.bus
    line = b'{"type":"session.updated","padding":"%s"}' % (b"x" * 20_000)
    async with api.stream("/events") as stream:
        await stream.next()
        async with asyncio.timeout(60):
            while bus.dropped == 0:
                for _ in range(5):
                    bus.publish(None, 0, line)
                await asyncio.sleep(0.001)
        await until(lambda: bus.subscribers == 0)
        assert bus.dropped == 1


async def test_the_number_of_streams_is_bounded(serve: Serve) -> None:
    api = await serve(Limits(sse_clients=2))
    async with api.stream("/events") as one, api.stream("/events") as two:
        await one.next()
        await two.next()
        answer = await api.ask("GET", "/events")
        assert (answer.status, answer.code) == (503, "unavailable")
        assert "sse_clients" in answer.json["detail"]

    async def has_room() -> bool:
        return (await api.ask("GET", "/events", headers={"Last-Event-ID": "x"})).status != 503

    await until(has_room)


async def test_a_hundred_readers_all_get_everything(api: Api) -> None:
    await api.ask("POST", "/sessions", {"session_id": "s"})

    async def read() -> list[str | None]:
        async with api.stream("/sessions/s/events") as stream:
            return [event.id for event in await stream.until("task.finished")][1:]

    readers = [asyncio.create_task(read()) for _ in range(100)]
    await api.run("true", session_id="s")
    seen = await asyncio.gather(*readers)
    assert all(each == [str(n) for n in range(1, len(each) + 1)] for each in seen)


async def test_a_stream_whose_reader_has_gone_ends_at_once_and_not_at_its_next_heartbeat(serve: Serve) -> None:
    api = await serve(Limits(), Http(port=0, heartbeat_s=30))
    bus = api.daemon.service.bus
    async with api.stream("/events") as stream:
        await stream.next()
        assert bus.subscribers == 1
    await until(lambda: bus.subscribers == 0)
