"""On a terminal: the line that says how it goes, Ctrl-C by the key, colours and short times."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentd.cli.terminal import Sink
from tests.cli.daemon_process import Agentd
from tests.cli.pseudo_terminal import Terminal, screen


def test_a_line_says_how_it_goes_and_leaves_no_trace(agentd: Agentd) -> None:
    fifo = agentd.home / "status-line"
    os.mkfifo(fifo)
    progress = f"{sys.executable} -m agentd.cli.main progress 40 --phase fetch --message 'half\x1b[2J done'"
    with Terminal(agentd, "run", "--", "sh", "-c", f"echo one; {progress}; read x < {fifo}; echo two") as terminal:
        terminal.read_until(b"running 40%")
        terminal.read_until(rb"fetch: half\x1b[2J done")
        fifo.write_text("x\n")
        assert terminal.end() == 0
    assert [line for line in screen(terminal.seen) if line] == ["one", "two"]


def test_the_line_never_stands_in_an_unfinished_line(agentd: Agentd) -> None:
    fifo = agentd.home / "unfinished"
    os.mkfifo(fifo)
    script = f"printf 'password: '; read x < {fifo}; echo; echo end"
    with Terminal(agentd, "run", "--", "sh", "-c", script) as terminal:
        terminal.read_until(b"password: ")
        before = len(terminal.seen)
        fifo.write_text("x\n")
        assert terminal.end() == 0
    assert terminal.seen[before:].startswith(b"\r\n") or b"\x1b[K\r\n" in terminal.seen[before:]
    assert [line for line in screen(terminal.seen) if line] == ["password: ", "end"]


def test_the_key_ctrl_c_stops_the_task(agentd: Agentd) -> None:
    with Terminal(agentd, "run", "--", "sh", "-c", "echo ready; sleep 60") as terminal:
        terminal.read_until(b"ready")
        terminal.press(b"\x03")
        assert terminal.end() == 130
    text = "\n".join(screen(terminal.seen))
    assert "Ctrl-C again leaves it alone" in text
    assert "is cancelled" in text


def test_a_pipe_gets_only_the_output_while_the_terminal_has_the_line(agentd: Agentd) -> None:
    fifo = agentd.home / "line-seen"
    os.mkfifo(fifo)
    args = ("run", "--", "sh", "-c", f"echo one; read x < {fifo}; echo two")
    with Terminal(agentd, *args, stdout=subprocess.PIPE) as terminal:
        terminal.read_until(b"running")
        fifo.write_text("x\n")
        assert terminal.process.stdout is not None
        assert terminal.process.stdout.read() == b"one\ntwo\n"
        terminal.process.stdout.close()
        assert terminal.end() == 0
    assert b"running" in terminal.seen
    assert screen(terminal.seen) == [""]


def test_without_a_terminal_there_is_no_line(agentd: Agentd) -> None:
    assert agentd("run", "sleep", "0.3").stderr == b""


def test_the_queue_has_room_for_its_reasons(own_daemon: Agentd) -> None:
    task = own_daemon.text("submit", "-s", "reasons", "--not-before", "1h", "true").strip()
    own_daemon.text("submit", "-s", "reasons", "--needs", task, "true")
    with Terminal(own_daemon, "queue") as terminal:
        terminal.read_until(f"needs {task}".encode())
        assert terminal.end() == 0
    assert b"PRIORITY" not in terminal.seen
    assert "PRIORITY" in own_daemon.text("queue")


def test_tables_are_coloured_and_short_on_a_terminal_only(agentd: Agentd) -> None:
    agentd("run", "-s", "colours", "true")
    with Terminal(agentd, "ls", "-s", "colours") as terminal:
        terminal.end()
    assert b"\x1b[32mcompleted\x1b[0m" in terminal.seen
    assert re.search(rb"\s(now|\d+[sm])\s", terminal.seen)
    plain = agentd.text("ls", "-s", "colours")
    assert "\x1b" not in plain
    assert re.search(r"\d{4}-\d\d-\d\dT[\d:.]+Z", plain)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(agentd: Agentd, env: dict[str, str]) -> None:
    agentd("run", "-s", "no-colours", "true")
    with Terminal(agentd, "ls", "-s", "no-colours", env=env) as terminal:
        terminal.end()
    assert b"\x1b" not in terminal.seen
    assert b"completed" in terminal.seen


def test_a_long_command_is_cut_to_the_terminal(agentd: Agentd) -> None:
    agentd("run", "-s", "long", "true", "x" * 300)
    with Terminal(agentd, "ls", "-s", "long") as terminal:
        terminal.end()
    assert max(map(len, screen(terminal.seen))) <= 120
    assert "…" in terminal.seen.decode()
    assert "x" * 300 in agentd.text("ls", "-s", "long")


async def test_a_full_pipe_holds_up_the_writer_and_not_the_loop() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader, os.fdopen(writing, "w") as writer:
        sink = Sink(writer)
        data = os.urandom(1 << 20)
        task = asyncio.create_task(sink.write(data))
        ticks = 0
        while ticks < 5:  # the loop runs although nobody reads
            await asyncio.sleep(0)
            ticks += 1
        assert not task.done()
        got = b""
        while len(got) < len(data):
            got += await asyncio.to_thread(os.read, reader.fileno(), 1 << 16)
        await task
        assert got == data


async def test_a_file_is_written_as_it_is(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        sink = Sink(file)
        await sink.write(b"a\n")
        assert sink.at_line_start
        await sink.write(b"\xff" * 10_000)
        assert not sink.at_line_start
    assert (tmp_path / "file").read_bytes() == b"a\n" + b"\xff" * 10_000
