"""The frames of an engine, cut anywhere, are the output that was put into them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentd.drivers.container_engine import Away, Engine, Refused
from agentd.drivers.container_logs import Frames, Output

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
    ends = {1: os.pipe(), 2: os.pipe()}
    kept = {1: os.dup(1), 2: os.dup(2)}

    async def take() -> None:
        output, engine = Output(), Flaky(framed(written), list(steps))
        while engine.steps:
            with pytest.raises(Away):
                await output.take(engine, "c", raw=False, follow=True)
        await output.take(engine, "c", raw=False, follow=True)

    for stream in (1, 2):
        os.dup2(ends[stream][1], stream)
    try:
        asyncio.run(take())
    finally:
        for stream in (1, 2):
            os.dup2(kept[stream], stream)
            os.close(kept[stream])
            os.close(ends[stream][1])
    for stream in (1, 2):
        with open(ends[stream][0], "rb") as end:
            assert end.read() == of(stream, written)
