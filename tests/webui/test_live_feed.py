"""The streams of agents behind an open page: those that fall silent are found out, and bad ones do no harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from agentd.client import ServerEvent
from tests.daemon.harness import until
from webui import feed as feeds
from webui.contact import Contact, Status
from webui.feed import Feed
from webui.upstream import Agent, Upstream

from .bad_agents import BadAgent


@pytest.fixture
def agent() -> Iterator[BadAgent]:
    with BadAgent("one", sessions=1) as agent:
        yield agent


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent is soon asked whether it is there; to answer it has as long as a busy machine needs."""
    monkeypatch.setattr(feeds, "HELLO_S", 60.0)
    monkeypatch.setattr(feeds, "SILENCE_S", 0.1)
    monkeypatch.setattr(feeds, "PROBE_S", 60.0)
    monkeypatch.setattr(feeds, "ROSTER_S", 0.05)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as upstream:
        yield upstream


def configured(agent: BadAgent) -> Agent:
    return Agent(name=agent.name, url=agent.url, token=agent.token)


def followed(upstream: Upstream, *agents: Agent, **more: Any) -> Feed:
    return Feed(upstream, lambda: agents, lambda agent: agent.token, **more)


async def contact(feed: Feed, accept: Callable[[Contact], bool] = lambda _: True) -> Contact:
    """The next contact that is as wanted."""
    async with asyncio.timeout(60):
        while True:
            found = await feed.next()
            assert found is not None
            if isinstance(found[1], Contact) and accept(found[1]):
                return found[1]


@pytest.mark.parametrize(
    ("mode", "status", "code"),
    [
        ("stream_garbage", "incompatible", "bad_shape"),
        ("stream_never", "unreachable", "read_timeout"),
        ("stream_bad_ids", "unreachable", "closed"),
        ("stream_endless_line", "incompatible", "bad_body"),
        ("silent", "unreachable", "read_timeout"),
        ("closes", "unreachable", "closed"),
        ("html", "incompatible", "bad_body"),
        ("half_json", "incompatible", "bad_body"),
        ("redirect", "incompatible", "redirect"),
        ("error_500", "error", "http_error"),
        ("draining", "error", "http_error"),
        ("token_rejected", "unauthorized", "token_rejected"),
        ("forbidden", "unauthorized", "forbidden"),
    ],
)
async def test_a_bad_stream_is_said_with_its_reason_and_a_good_one_follows_it(
    upstream: Upstream, agent: BadAgent, mode: str, status: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.mode = mode
    if code == "read_timeout":
        monkeypatch.setattr(feeds, "HELLO_S", 0.3)
    async with followed(upstream, configured(agent)) as feed:
        found = await contact(feed, lambda each: each.status is not Status.FRESH)
        assert (found.status, found.reason_code) == (status, code)
        agent.mode = "good"
        monkeypatch.setattr(feeds, "HELLO_S", 60.0)
        assert (await contact(feed, lambda each: each.status is Status.FRESH)).answered_at is not None


async def test_a_quiet_agent_is_asked_whether_it_is_there_and_its_stream_stays(
    upstream: Upstream, agent: BadAgent
) -> None:
    async with followed(upstream, configured(agent)) as feed:
        assert (await contact(feed)).status is Status.FRESH
        async with asyncio.timeout(60):
            while agent.requests.count("/healthz") < 3:
                assert (found := await feed.next(0.02)) is None or isinstance(found[1], ServerEvent)
        assert agent.requests.count("/events") == 1


async def test_an_agent_that_falls_silent_is_found_out_and_heals(
    upstream: Upstream, agent: BadAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with followed(upstream, configured(agent)) as feed:
        await contact(feed)
        agent.mode = "silent"
        monkeypatch.setattr(feeds, "PROBE_S", 0.2)
        found = await contact(feed)
        assert (found.reason_code, found.reason) == ("read_timeout", "it fell silent, and does not answer")
        agent.mode = "good"
        assert (await contact(feed)).status is Status.FRESH


async def test_what_is_wrong_may_change_and_still_began_when_it_began(upstream: Upstream, agent: BadAgent) -> None:
    agent.mode = "closes"
    async with followed(upstream, configured(agent)) as feed:
        first = await contact(feed)
        agent.mode = "error_500"
        second = await contact(feed)
        assert (first.reason_code, second.reason_code) == ("closed", "http_error")
        assert first.tried_at == second.tried_at


async def test_a_reader_that_is_behind_is_told_that_it_missed_something(upstream: Upstream, agent: BadAgent) -> None:
    agent.mode = "stream_flood"
    async with followed(upstream, configured(agent)) as feed:
        await asyncio.to_thread(until, lambda: feed.lost)
        assert await feed.next() is not None


async def test_agents_come_and_go_while_a_feed_is_open(upstream: Upstream, agent: BadAgent) -> None:
    agents: list[Agent] = []
    async with Feed(upstream, lambda: tuple(agents), lambda agent: agent.token) as feed:
        assert await feed.next(0.1) is None
        agents.append(configured(agent))
        assert (await contact(feed)).status is Status.FRESH
        agents.clear()
        assert (await contact(feed)).reason_code == "removed"
        await asyncio.to_thread(until, lambda: not agent.streams)


async def test_what_a_reader_of_an_answer_fails_with_is_not_counted_to_the_agent(
    upstream: Upstream, agent: BadAgent
) -> None:
    for error in (aiohttp.ClientConnectionResetError("the browser left"), BrokenPipeError(), ValueError("a bug")):
        with pytest.raises(type(error)):
            async with upstream.exchange(configured(agent), "GET", "/status", token=agent.token):
                raise error
