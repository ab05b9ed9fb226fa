"""Parsers of what agents answer, browsers keep, people type and programs print."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, cast

import click
import msgspec

from agentd.cli.parameters import AGO, AHEAD, DURATION, LABEL
from agentd.cli.wording import printable
from agentd.client import streams, transport
from agentd.errors import AgentdError
from agentd.store import sgr
from faultlib.parser_table import header, parser, request
from webui import contact, identity, links, rows, visit
from webui.api import events as viewer_events
from webui.logs import ansi


async def _blocks(text: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(text), 7):
        yield text[start : start + 7]


async def _all_events(text: bytes) -> list[streams.ServerEvent]:
    return [event async for event in streams.parsed(_blocks(text))]


@parser(
    b'id: 1\nevent: output\ndata: {"attempt":1,"offset":0,"text":"x"}\n\n: \n\n',
    b'event: output\r\ndata: {"attempt":1,"offset":0,"base64":"eA=="}\r\n\r\n',
    b'event: end\ndata: {"task":{}}\n\n',
    b'data: {"base64":"\xff"}\n\n',
    b'event: output\ndata: {"offset":0,"base64":"x"}\n\n',
    b"data: " + b"[" * 5000 + b"\n\n",
)
def event_stream(text: bytes) -> None:
    """What an agent streams, at its client and at the viewer."""
    loop = _loop()
    for event in loop.run_until_complete(_all_events(text)):
        for read in (streams.output_chunk, streams.ended_task, streams.ServerEvent.json):
            with contextlib.suppress(AgentdError):
                read(event)
        frame = viewer_events._frame("one", event, "one:1")
        assert frame.count(b"\n\n") == 1 and frame.endswith(b"\n\n") and b"\r" not in frame


@cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


@parser(
    b'{"code":"invalid","detail":"x","errors":[{"field":"a","message":"b"}]}', b'{"data":[{"task_id":"x"}],"next":null}'
)
def answer(text: bytes) -> None:
    """What an agent answers, at its client."""
    for kind in (transport.Problem, dict[str, Any], streams.EventsPage):
        with contextlib.suppress(AgentdError):
            transport.decoded(cast(Any, kind), text, "/x")


@parser(b'{"data":[{"task_id":"x","state":"running","attempts":[{"n":1}]}],"next":null}', b'{"a":' * 500)
def agent_rows(text: bytes) -> None:
    """The rows that an agent answers, at the viewer."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    rows.rowed(value)
    rows._within(value, 1000)


@parser("Sat, 21 Nov 2026 12:00:00 GMT", "x", "1 Jan 0001 00:00:00 +9999")
def date(text: bytes) -> None:
    """The Date of an agent."""
    given = header(text)
    if given is not None:
        contact.skew_ms(given, 1.0, 2.0)


@parser("wait=5", "respond-async; wait=10", "wait=99999")
def prefer(text: bytes) -> None:
    """Prefer."""
    given = header(text)
    if given is not None:
        assert 0 < visit.patience_s(request(Prefer=given)) <= visit.MAX_PATIENCE_S


@parser(identity.Seals(b"s" * 32).seal(identity.Identity(sid="x", role=3, expires_at=9e9)), "x" * 4000, "\u0661")
def cookie(text: bytes) -> None:
    """A cookie, or a token for scripts, of another secret: nobody's."""
    given = text.decode("utf-8", "replace")
    assert identity.Seals(b"t" * 32).identity(given, 0.0) is None


@parser(links.Links(b"s" * 32, lambda: 1.0).make(), "A" * 60)
def link(text: bytes) -> None:
    """A login link of another secret."""
    assert links.Links(b"t" * 32, lambda: 1.0).take(text.decode("utf-8", "replace")) is None


_LINES = (
    b"\x1b[1;31mred\x1b[0m <b>&",
    b"\x1b]8;;http://x\x07l\x1b]8;;\x07",
    b"a\rb\x1b[2K\r",
    b"\x1b[38;2;1;2;3;48;5;9m\x1b[4:3m",
)


@parser(*_LINES)
def ansi_line(text: bytes) -> None:
    """A line of output as HTML: nothing of it becomes markup."""
    line = text.decode("utf-8", "replace").replace("\n", "")
    html, style = ansi.line(line)
    left = html.replace("</span>", "")
    while (at := left.find('<span class="')) >= 0:
        end = left.index('">', at)
        assert set(left[at + 13 : end]) <= set("abcdefghijklmnopqrstuvwxyz0123456789 ")
        left = left[:at] + left[end + 2 :]
    assert not set("<>\"'\x1b\r") & set(left)
    assert ansi.line(line, style)


@parser(*_LINES)
def colours(text: bytes) -> None:
    """Colours kept from block to block: the same however the text is cut."""
    whole = sgr.after(sgr.PLAIN, text)
    half = sgr.PLAIN
    for start in range(0, len(text), 5):
        half = sgr.after(half, text[start : start + 5])
    assert len(whole.sgr) <= sgr.MOST
    assert half == whole


@parser("a\x1b[2Jb", "\u202ex", b"\xed\xa0\x80", "\x9b31m")
def shown_name(text: bytes) -> None:
    """A name on a terminal."""
    shown = printable(text.decode("utf-8", "surrogateescape"))
    assert shown.isprintable()


@parser("10s", "1.5h", "9" * 400, "\u0661", "2026-01-01T00:00:00Z", "key=value", "1e999d")
def argument(text: bytes) -> None:
    """Durations, times and labels of the command line."""
    given = text.decode("utf-8", "surrogateescape")
    for kind in (DURATION, AGO, AHEAD, LABEL):
        with contextlib.suppress(click.UsageError):
            value = kind.convert(given, None, None)
            if isinstance(value, float):
                assert math.isfinite(value) and value >= 0
