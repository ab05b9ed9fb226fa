"""Server-sent events: parsed however they are cut, and resumed from where they broke off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentd.client import Client, Endpoint, ServerEvent
from agentd.client.streams import MAX_EVENT_BYTES, parsed
from agentd.errors import AgentdError, Forbidden, Unreachable

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def events_in(*blocks: bytes) -> list[ServerEvent]:
    async def each() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    return [event async for event in parsed(each())]


async def test_an_event_has_an_id_a_type_and_data() -> None:
    (event,) = await events_in(b"retry: 1\nid: 7\nevent: task.started\ndata: {}\n\n")
    assert event == ServerEvent(id="7", type="task.started", data=b"{}")


async def test_comments_and_blank_lines_are_no_events() -> None:
    assert await events_in(b": hello\n\n\n\n: \n\nid: 1\n\n") == []


async def test_an_event_without_an_id_has_that_of_the_last() -> None:
    first, second = await events_in(b"id: 1\ndata: a\n\ndata: b\ndata: c\n\n")
    assert (first.id, second.id) == ("1", "1")
    assert second == ServerEvent(id="1", type="message", data=b"b\nc")


@settings(deadline=None)
@given(st.data())
def test_events_are_the_same_however_the_stream_is_cut(data: st.DataObject) -> None:
    text = 'id: 1\r\nevent: ä\r\ndata: {"a": "\u2028é"}\r\n\r\n: c\n\nid: 2\ndata:x\ndata: y\n\n'.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)))))
    blocks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert asyncio.run(events_in(*blocks)) == asyncio.run(events_in(text))


async def test_an_event_without_end_is_refused_before_it_fills_the_memory() -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"data: " + b"x" * (1 << 20)

    with pytest.raises(AgentdError, match=f"larger than {MAX_EVENT_BYTES} bytes"):
        _ = [event async for event in parsed(endless())]


@contextlib.asynccontextmanager
async def serving(*answers: Handler) -> AsyncIterator[tuple[str, list[str]]]:
    """A server whose connections are answered by one handler after the other; what was asked is kept."""
    asked: list[str] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await (left.pop(0) if len(left) > 1 else left[0])(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"http://127.0.0.1:{port}", asked


def sending(*parts: bytes) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"".join(parts))
        await writer.drain()

    return answer


def problem(status: str, body: bytes) -> Handler:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()

    return answer


REFUSED = problem("403 Forbidden", b'{"code": "forbidden", "detail": "no more"}')


async def test_a_lost_stream_is_resumed_behind_the_last_event() -> None:
    lost: list[Unreachable] = []
    first = sending(b"id: 0\nevent: hello\ndata: {}\n\n", b"id: 1\nevent: a\ndata: {}\n\n", b"id: 2\nevent: b\nda")
    second = sending(b"id: 1\nevent: hello\ndata: {}\n\n", b"id: 2\nevent: b\ndata: {}\n\n")
    async with serving(first, second, REFUSED) as (url, asked), Client(url, on_lost=lost.append) as agent:
        seen = []
        with pytest.raises(Forbidden, match="no more"):
            async for event in agent.follow_events("s", after=0):
                seen.append((event.id, event.type))
    assert [each for each in seen if each[1] != "hello"] == [("1", "a"), ("2", "b")]
    assert ["Last-Event-ID: 0" in asked[0], "Last-Event-ID: 1" in asked[1], "Last-Event-ID: 2" in asked[2]] == [
        True
    ] * 3
    assert len(lost) == 2


async def test_a_gap_is_told_and_is_where_the_stream_goes_on() -> None:
    first = sending(b'id: 40\nevent: gap\ndata: {"reason": "pruned", "first": 41}\n\n')
    async with serving(first, REFUSED) as (url, asked), Client(url) as agent:
        seen = []
        with pytest.raises(Forbidden):
            async for event in agent.follow_events("s", after=3):
                seen.append(event)
    assert [event.type for event in seen] == ["gap"]
    assert seen[0].json()["first"] == 41
    assert "Last-Event-ID: 40" in asked[1]


async def test_patience_ends() -> None:
    async with serving(sending()) as (url, asked), Client(url, patience_s=0.3) as agent:
        with pytest.raises(Unreachable, match="closed the stream"):
            async for _ in agent.follow_events("s"):
                raise AssertionError
    assert len(asked) > 1


async def test_without_patience_a_lost_stream_is_an_error_at_once() -> None:
    async with serving(sending()) as (url, asked), Client(url, patience_s=0) as agent:
        with pytest.raises(Unreachable):
            async for _ in agent.follow_events("s"):
                raise AssertionError
    assert len(asked) == 1


async def test_a_daemon_that_comes_back_elsewhere_is_found() -> None:
    async with (
        serving(REFUSED) as (new, asked),
        serving(sending()) as (old, _),
        Client(old, "t", rediscover=lambda: Endpoint(new, "t2")) as agent,
    ):
        with pytest.raises(Forbidden):
            async for _ in agent.follow_events("s"):
                raise AssertionError
    assert "Authorization: Bearer t2" in asked[0]


async def test_requests_that_are_made_while_the_daemon_is_found_again_reach_the_new_one() -> None:
    def told(name: bytes) -> Handler:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            text = b'{"boot_id": "%s"}' % name
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
            await reader.read()  # the connection is kept, as by a daemon that is about to stop

        return answer

    async with (
        serving(told(b"old")) as (old, _),
        serving(told(b"new")) as (new, _),
        Client(old, rediscover=lambda: Endpoint(new, None)) as agent,
    ):
        assert (await agent.status())["boot_id"] == "old"
        _, status = await asyncio.gather(agent.find_again(), agent.status())
        assert status["boot_id"] == "new"


async def test_a_port_that_nobody_listens_on_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as agent:
            with pytest.raises(Unreachable, match="Connection refused"):
                await agent.status()


async def test_a_get_is_repeated_once_when_its_connection_is_lost() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    ok = problem("200 OK", b'{"state": "idle"}')
    async with serving(hang_up, hang_up, ok) as (url, asked), Client(url) as agent:
        assert await agent.status() == {"state": "idle"}
    assert 2 <= len(asked) <= 3  # aiohttp may repeat a GET itself


async def test_an_answer_that_is_not_agentds_is_told_by_its_status() -> None:
    async with serving(problem("502 Bad Gateway", b"<html>")) as (url, _), Client(url) as agent:
        with pytest.raises(Unreachable, match="answered 502 Bad Gateway"):
            await agent.status()
    async with serving(problem("200 OK", b"<html>")) as (url, _), Client(url) as agent:
        with pytest.raises(AgentdError, match="cannot read the answer of /status"):
            await agent.status()
    async with serving(sending(b"not http at all")) as (url, _), Client(url) as agent:
        with pytest.raises(AgentdError):
            await agent.status()


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    elsewhere = problem("307 Temporary Redirect\r\nLocation: http://127.0.0.1:9/", b"")
    async with serving(elsewhere) as (url, asked), Client(url, "t") as agent:
        with pytest.raises(AgentdError, match="answered 307"):
            await agent.status()
    assert len(asked) == 1
