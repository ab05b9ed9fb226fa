"""The frames of an engine, cut anywhere, are the output that was put into them."""

from __future__ import annotations

import asyncio
import os
import select
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.drivers import container_logs
from agentd.drivers.container_engine import Away, Engine, Refused
from agentd.drivers.container_logs import Frames, Output
from benchlib.processes import PATIENCE_S

WRITTEN = st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=12)


def framed(written: list[tuple[int, bytes]]) -> bytes:
    return b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4) + data for stream, data in written)


def of(stream: int, written: list[tuple[int, bytes]]) -> bytes:
    return b"".join(data for each, data in written if each == stream)


@given(WRITTEN, st.lists(st.integers(0, 600)))
def test_frames_cut_anywhere_give_what_was_written(written: list[tuple[int, bytes]], cuts: list[int]) -> None:
    data = framed(written)
    frames = Frames(raw=False)
    places = sorted({0, len(data), *(min(cut, len(data)) for cut in cuts)})
    found = [piece for a, b in pairwise(places) for piece in frames.feed(data[a:b])]
    for stream in (1, 2):
        assert of(stream, found) == of(stream, written)


@given(st.binary(max_size=100))
def test_a_terminal_has_no_frames(data: bytes) -> None:
    assert of(1, Frames(raw=True).feed(data)) == data


def test_a_frame_that_says_gigabytes_is_passed_on_as_it_comes() -> None:
    frames = Frames(raw=False)
    assert frames.feed(b"\1\0\0\0\xff\xff\xff\xff" + b"x" * 10) == [(1, b"x" * 10)]
    assert frames.feed(b"y") == [(1, b"y")]


@pytest.mark.parametrize("data", [b"hello there", b"\3\0\0\0\0\0\0\1x", b"\1\0\1\0\0\0\0\1x"])
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(Refused, match="form that is not known"):
        Frames(raw=False).feed(data)


@contextmanager
def streams() -> Iterator[dict[int, int]]:
    """Pipes for stdout and stderr; the ends to read from, by the streams, also afterwards."""
    pipes = {1: os.pipe(), 2: os.pipe()}
    kept = {1: os.dup(1), 2: os.dup(2)}
    for stream, (_, end) in pipes.items():
        os.dup2(end, stream)
        os.close(end)
    try:
        yield {stream: end for stream, (end, _) in pipes.items()}
    finally:
        for stream, end in kept.items():
            os.dup2(end, stream)
            os.close(end)


class Flaky(Engine):
    """Sends so many bytes each time, then the connection is lost."""

    def __init__(self, data: bytes, steps: list[int]) -> None:
        self.data, self.steps = data, steps

    async def output(self, container_id: str, *, follow: bool) -> AsyncIterator[bytes]:
        if self.steps:
            yield self.data[: self.steps.pop(0)]
            raise Away("gone")
        yield self.data


@given(WRITTEN, st.lists(st.integers(0, 600), max_size=4))
def test_connections_lost_anywhere_neither_double_nor_lose_output(
    written: list[tuple[int, bytes]], steps: list[int]
) -> None:
    async def take() -> None:
        output, engine = Output(), Flaky(framed(written), list(steps))
        while engine.steps:
            with pytest.raises(Away):
                await output.take(engine, "c", raw=False, follow=True)
        await output.take(engine, "c", raw=False, follow=True)

    with pytest.MonkeyPatch.context() as patch, streams() as ends:
        patch.setattr(container_logs, "READ_S", 0.0)  # nobody reads before the end
        asyncio.run(take())
    for stream in (1, 2):
        with open(ends[stream], "rb") as end:
            assert end.read() == of(stream, written)


def test_streams_that_take_turns_are_read_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_logs, "READ_S", PATIENCE_S)
    written = [(1 + n % 2, b"%d " % n) for n in range(100)]
    whole = b"".join(data for _, data in written)
    found: list[bytes] = []

    def read(out: int, err: int) -> None:
        waiting = select.poll()
        for end in (out, err):
            waiting.register(end, select.POLLIN)
        while sum(map(len, found)) < len(whole):
            found.extend(os.read(end, 65536) for end, _ in sorted(waiting.poll(), reverse=True))

    with streams() as ends:
        reader = threading.Thread(target=read, args=ends.values(), daemon=True)
        reader.start()
        asyncio.run(Output().take(Flaky(framed(written), []), "c", raw=False, follow=True))
        reader.join(PATIENCE_S)
    for end in ends.values():
        os.close(end)
    assert b"".join(found) == whole
