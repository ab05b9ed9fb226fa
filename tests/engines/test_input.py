"""What a task is given to read while it runs, and the size of its terminal."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local.pool import INPUT_MOST
from agentd.errors import Conflict, InputFull
from agentd.model.launch import EndedBy, Launch

from .conftest import until

PIECE = 64 << 10


def log_of(launch: Launch) -> bytes:
    path = Path(launch.log_path)
    return path.read_bytes() if path.exists() else b""


def give(lab: Any, launch: Launch, data: bytes = b"", *, eof: bool = False) -> int:
    waiting: int = lab.engine.input(launch.attempt_id, data, eof=eof)
    return waiting


async def test_what_is_given_is_read_in_order_until_the_end(lab: Any) -> None:
    launch = lab.launch("cat", interactive=True)
    future = await lab.start(launch)
    give(lab, launch, b"one\n")
    await until(lambda: log_of(launch) == b"one\n")
    give(lab, launch, b"two\n")
    give(lab, launch, b"three\n", eof=True)
    end = await future
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 0)
    assert log_of(launch) == b"one\ntwo\nthree\n"


async def test_the_given_text_comes_first(lab: Any) -> None:
    launch = lab.launch("cat", interactive=True, stdin="first\n")
    future = await lab.start(launch)
    give(lab, launch, b"then\n", eof=True)
    await future
    assert log_of(launch) == b"first\nthen\n"


async def test_much_arrives_whole_however_slowly_it_is_read(lab: Any) -> None:
    launch = lab.launch("dd bs=100 count=1 2>&-; sleep 0.05; cat | sha256sum", interactive=True)
    future = await lab.start(launch)
    whole = b"".join(b"%07d\n" % n for n in range(500_000))
    at = 0
    async with asyncio.timeout(60):
        while at < len(whole):
            try:
                give(lab, launch, whole[at : at + PIECE])
                at += PIECE
            except InputFull:
                await asyncio.sleep(0.005)
    give(lab, launch, eof=True)
    assert (await future).exit_code == 0
    assert log_of(launch) == whole[:100] + hashlib.sha256(whole[100:]).hexdigest().encode() + b"  -\n"


async def test_one_that_does_not_read_is_given_so_much_and_holds_nobody_up(lab: Any) -> None:
    launch = lab.launch("until [ -e go ]; do sleep 0.01; done; wc -c", interactive=True)
    future = await lab.start(launch)
    sent = 0
    with pytest.raises(InputFull, match="has not read"):
        while True:
            give(lab, launch, b"x" * PIECE)
            sent += PIECE
    assert sent <= INPUT_MOST + (1 << 20)  # a pipe's worth beside
    running = lab.engine._spoken_to(launch.attempt_id)[0]
    await until(lambda: running.taken > 0)  # the pipe took some: there is room again
    assert give(lab, launch, b"y") <= INPUT_MOST
    (lab.directory / "go").touch()
    await until(lambda: running.sent == running.taken)
    assert give(lab, launch, eof=True) == 0
    await future
    assert log_of(launch).split() == [b"%d" % (sent + 1)]


async def test_one_that_does_not_read_is_stopped_as_every_other(lab: Any) -> None:
    launch = lab.launch("sleep 600", interactive=True)
    future = await lab.start(launch)
    for _ in range(16):
        give(lab, launch, b"x" * PIECE)
    lab.engine.stop(launch.attempt_id)
    assert (await future).ended_by is EndedBy.STOPPED


async def test_after_the_end_nothing_more_is_taken(lab: Any) -> None:
    launch = lab.launch("cat; until [ -e go ]; do sleep 0.01; done", interactive=True)
    future = await lab.start(launch)
    give(lab, launch, eof=True)
    with pytest.raises(Conflict, match="closed"):
        give(lab, launch, b"late")
    (lab.directory / "go").touch()
    assert (await future).exit_code == 0
    with pytest.raises(KeyError):
        give(lab, launch, b"later")


async def test_an_input_that_the_task_closed_is_told_of(lab: Any) -> None:
    launch = lab.launch("exec <&-; until [ -e go ]; do sleep 0.01; done", interactive=True)
    future = await lab.start(launch)
    running = lab.engine._spoken_to(launch.attempt_id)[0]
    await until(lambda: not running.input_open)
    with pytest.raises(Conflict, match="closed"):
        give(lab, launch, b"x")
    (lab.directory / "go").touch()
    assert (await future).exit_code == 0


async def test_one_that_is_not_interactive_takes_nothing(lab: Any) -> None:
    launch = lab.launch("until [ -e go ]; do sleep 0.01; done")
    future = await lab.start(launch)
    with pytest.raises(Conflict, match="interactive: true"):
        give(lab, launch, b"x")
    with pytest.raises(Conflict, match="terminal"):
        lab.engine.resize(launch.attempt_id, 10, 10)
    (lab.directory / "go").touch()
    await future


async def test_a_terminal_is_typed_into_and_ends_as_for_a_person(lab: Any) -> None:
    launch = lab.launch("stty -echo; echo ready; cat; echo over", interactive=True, tty=True)
    future = await lab.start(launch)
    await until(lambda: b"ready" in log_of(launch))
    give(lab, launch, b"one\n")
    await until(lambda: b"one" in log_of(launch))
    give(lab, launch, b"no line", eof=True)
    await future
    assert log_of(launch).replace(b"\r", b"").endswith(b"one\nno line\nover\n")


async def test_a_key_interrupts_what_runs_in_a_terminal(lab: Any) -> None:
    launch = lab.launch(
        "trap 'echo caught; exit 3' INT; echo ready; while :; do read x; done", interactive=True, tty=True
    )
    future = await lab.start(launch)
    await until(lambda: b"ready" in log_of(launch))
    give(lab, launch, b"\x03")
    end = await future
    assert end.exit_code == 3
    assert b"caught" in log_of(launch)


async def test_a_terminal_has_its_size_and_is_told_of_another(lab: Any) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do read x && exit; done"
    launch = lab.launch(script, interactive=True, tty=True, tty_size=(50, 132))
    future = await lab.start(launch)
    await until(lambda: b"50 132" in log_of(launch))
    lab.engine.resize(launch.attempt_id, 7, 33)
    give(lab, launch, b"\n")
    await future
    assert b"7 33" in log_of(launch)


async def test_a_kept_open_input_does_not_keep_an_ended_task(lab: Any) -> None:
    end, output = await lab.run("read x; echo $x", interactive=True, stdin="hi\n")
    assert (end.exit_code, output) == (0, b"hi\n")
    end, _ = await lab.run("true", interactive=True)
    assert end.exit_code == 0
