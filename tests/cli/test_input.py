"""agentd run -i and agentd input: what is typed reaches the task."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import termios
from typing import Any

from benchlib.processes import until
from tests.cli.daemon_process import Agentd
from tests.cli.pseudo_terminal import Terminal


def running(agentd: Agentd, session: str) -> str:
    """The one task of the session, once it runs."""

    def found() -> str | None:
        tasks = agentd.json("ls", "-s", session)["data"]
        return tasks[0]["task_id"] if tasks and tasks[0]["state"] == "running" else None

    task_id: str = until(found)
    return task_id


def test_standard_input_of_run_is_the_tasks(agentd: Agentd) -> None:
    agentd("sessions", "create", "piped")
    done = agentd("run", "-i", "-s", "piped", "--", "sort", "-n", input=b"3\n1\n2\n" * 20_000)
    assert done.stdout == b"1\n" * 20_000 + b"2\n" * 20_000 + b"3\n" * 20_000


def test_a_task_that_stops_reading_does_not_hold_run_up(agentd: Agentd) -> None:
    done = agentd("run", "-i", "--", "head", "-n", "1", input=b"first\n" + b"x" * 3_000_000)
    assert done.stdout == b"first\n"


def test_a_file_is_an_input_too(agentd: Agentd) -> None:
    file = agentd.home / "words"
    file.write_bytes(b"a file")
    with open(file, "rb") as stdin, agentd.popen("run", "-i", "--", "cat", stdin=stdin) as process:
        assert process.communicate(timeout=60) == (b"a file", b"")


def test_lines_are_sent_to_a_task_that_runs(agentd: Agentd) -> None:
    agentd("submit", "-i", "-s", "lines", "--", "cat")
    task_id = running(agentd, "lines")
    agentd("input", task_id, "one")
    agentd("input", "-n", task_id, "tw")
    agentd("input", task_id, "-", input=b"o\nthree\n")
    agentd("input", "--eof", task_id)
    assert agentd("logs", "-f", task_id).stdout == b"one\ntwo\nthree\n"
    assert b"only a running one" in agentd("input", task_id, "late", code=1).stderr


def test_nothing_to_send_is_a_mistake(agentd: Agentd) -> None:
    assert b"say what to send" in agentd("input", "aaaaaaaaaaaaaa", code=2).stderr


def test_keys_pass_through_a_terminal_and_its_size_follows(agentd: Agentd) -> None:
    script = "stty size; trap 'stty size' WINCH; stty -icanon; dd bs=1 count=1 2>&-; echo"
    script += '; stty icanon; while :; do read x; [ "$x" = end ] && exit; echo got $x; done'
    with Terminal(agentd, "run", "-i", "--tty", "--", "sh", "-c", script) as terminal:
        terminal.read_until(b"24 100")
        terminal.press(b"k")  # no line end: a key is enough
        terminal.read_until(b"100\r\nkk\r\n")
        fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 90, 0, 0))
        os.kill(terminal.process.pid, signal.SIGWINCH)
        terminal.press(b"\n")
        terminal.read_until(b"40 90")
        terminal.press(b"word\r")
        terminal.read_until(b"got word")
        terminal.press(b"end\r")
        assert terminal.end() == 0


def test_ctrl_c_asks_the_task_to_stop_and_leaves_the_terminal_as_it_was(agentd: Agentd) -> None:
    master, slave = os.openpty()  # the slave stays open here, so that it can be looked at afterwards
    try:
        before = termios.tcgetattr(slave)
        files: dict[str, Any] = {"stdin": slave, "stdout": slave, "stderr": slave}
        with Terminal(agentd, "run", "-i", "--tty", "--", "sh", "-c", "echo ready; cat", **files) as terminal:
            os.dup2(master, terminal.master)
            terminal.read_until(b"ready")
            assert not termios.tcgetattr(slave)[3] & termios.ICANON
            terminal.press(b"\x03")
            terminal.read_until(b"is cancelled")
            assert terminal.process.wait(60) == 130
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)
