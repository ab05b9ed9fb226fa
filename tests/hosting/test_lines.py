"""The log of the daemon and that of the viewer: nobody can stop either by not reading it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import pty
from collections.abc import Callable, Iterator

import pytest
import structlog

import agentd.log
import webui.log
from agentd.config import Log
from hosting.lines import REPEAT_S, Lines

pytestmark = pytest.mark.usefixtures("logging_as_before")

Configure = Callable[[int], None]


def daemons(fd: int) -> None:
    agentd.log.configure(Log(), fd)


def viewers(fd: int) -> None:
    webui.log.configure("info", "auto", fd)


both = pytest.mark.parametrize("configure", [daemons, viewers])


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    os.close(reading)
    os.close(writing)


@both
def test_what_a_library_repeats_is_one_line_however_often_the_log_was_configured(
    configure: Configure, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    configure(writing)
    configure(writing)
    assert REPEAT_S > 1
    for _ in range(3):
        logging.getLogger("asyncio").error("once")
    logging.getLogger("asyncio").error("and another")
    lines = [json.loads(line) for line in os.read(reading, 65_536).splitlines()]
    assert [line["message"] for line in lines] == ["once", "and another"]


@both
def test_a_terminal_gets_lines_for_people(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    try:
        configure(theirs)
        structlog.get_logger().info("agent.draining", drain_s=10.0)
        text = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert "agent.draining" in text
    assert "drain_s=10.0" in text
    assert "\x1b" not in text
    assert not text.startswith("{")


@both
def test_a_reader_that_stops_reading_is_told_how_many_lines_it_missed(
    configure: Configure, pipe: tuple[int, int]
) -> None:
    reading, writing = pipe
    room = fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 8192)
    configure(writing)
    for _ in range(50):
        structlog.get_logger().info("x" * 10_000)
    os.read(reading, room)
    structlog.get_logger().info("back")
    torn, note, back = os.read(reading, room).decode().split("\n")[-4:-1]
    assert not torn.endswith("}")
    assert json.loads(note) == {"event": "log.dropped", "level": "warning", "lines": 50}
    assert json.loads(back)["event"] == "back"


def test_a_reader_that_has_gone_stops_nothing() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        lines = Lines(writing)
        lines.write("one\n")
        lines.write("two\n")
        assert lines.dropped == 2
    finally:
        os.close(writing)
