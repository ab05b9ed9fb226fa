"""agentd logs: what tasks wrote, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from benchlib.processes import until
from tests.cli.daemon_process import Agentd
from tests.written import written

LINES = "".join(f"line {i}\n" for i in range(1, 101))


@pytest.fixture(scope="module")
def lines(shared_daemon: Agentd) -> str:
    """A task that wrote a hundred lines, every tenth to stderr."""
    wait = written("$n")
    told = f'*0) echo "line $i" >&2; {wait};; *9) echo "line $i"; {wait};; *) echo "line $i";;'
    script = f"n=0; i=1; while [ $i -le 100 ]; do n=$((n + 6 + ${{#i}})); case $i in {told} esac; i=$((i + 1)); done"
    task_id = shared_daemon.text("submit", "-s", "lines", "-c", script).strip()
    shared_daemon("wait", task_id)
    return task_id


def test_a_log_is_shown_as_the_file_has_it(agentd: Agentd) -> None:
    blob = agentd.home / "raw"
    blob.write_bytes(bytes(range(256)) * 4000 + b"\x1b[31mno end of line")
    task_id = agentd.text("submit", "-s", "raw", "cat", str(blob)).strip()
    agentd("wait", task_id)
    assert agentd("logs", task_id).stdout == blob.read_bytes()
    assert (agentd.data_dir / f"sessions/raw/output/{task_id}.1.log").read_bytes() == blob.read_bytes()
    assert agentd("logs", "-f", task_id).stdout == blob.read_bytes()


def test_the_last_lines(agentd: Agentd, lines: str) -> None:
    assert agentd.text("logs", "-n", "3", lines) == "line 98\nline 99\nline 100\n"
    assert agentd.text("logs", "-n", "1000", lines).count("\n") == 100
    assert agentd.text("logs", "-n", "0", lines) == ""
    assert agentd.text("logs", "-n", "2", "--stream", "err", lines) == "line 90\nline 100\n"


def test_one_stream_alone(agentd: Agentd, lines: str) -> None:
    assert agentd.text("logs", "--stream", "err", lines) == "".join(f"line {i}\n" for i in range(10, 101, 10))
    assert agentd.text("logs", "--stream", "out", lines).count("\n") == 90


def test_a_session_means_its_newest_task_and_nothing_the_newest_of_all(agentd: Agentd) -> None:
    agentd("run", "-s", "newest", "echo", "older")
    agentd("run", "-s", "newest", "echo", "newer")
    assert agentd.text("logs", "newest") == "newer\n"
    assert agentd.text("logs") == "newer\n"


def test_of_several_each_has_a_title(agentd: Agentd) -> None:
    ids = [agentd.text("submit", "-s", "titles", "printf", text).strip() for text in ("a", "b\\n")]
    agentd("wait", *ids)
    assert agentd.text("logs", *ids) == f"==> {ids[0]} <==\na\n\n==> {ids[1]} <==\nb\n"


def test_an_earlier_attempt(agentd: Agentd) -> None:
    command = "echo attempt $AGENTD_ATTEMPT; test $AGENTD_ATTEMPT = 2"
    task_id = agentd.text("submit", "--retries", "1", "-c", command).strip()
    agentd("wait", task_id)
    assert agentd.text("logs", task_id) == "attempt 2\n"
    assert agentd.text("logs", "--attempt", "1", task_id) == "attempt 1\n"
    assert b"must be 1 to 2" in agentd("logs", "--attempt", "3", task_id, code=2).stderr


@pytest.mark.parametrize("stream", [None, "out", "err"])
def test_following_goes_on_to_the_end(agentd: Agentd, stream: str | None) -> None:
    fifo = agentd.home / f"fifo-{stream}"
    os.mkfifo(fifo)
    command = f"echo a; echo A >&2; read x < {fifo}; echo b; echo B >&2"
    task_id = agentd.text("submit", "-c", command).strip()
    only = ["--stream", stream] if stream else []
    with agentd.popen("logs", "-f", *only, task_id) as process:
        assert process.stdout is not None
        process.stdout.read(2 if stream else 4)
        fifo.write_text("x\n")
        rest = process.communicate(timeout=30)[0]
    assert sorted(rest.split()) == {None: [b"B", b"b"], "out": [b"b"], "err": [b"B"]}[stream]
    assert process.returncode == 0


def test_following_from_the_last_lines(agentd: Agentd) -> None:
    fifo = agentd.home / "fifo-last"
    os.mkfifo(fifo)
    task_id = agentd.text("submit", "-c", f"seq 1 50; read x < {fifo}; echo end").strip()
    until(lambda: agentd.text("logs", task_id).endswith("50\n"))
    with agentd.popen("logs", "-f", "-n", "2", task_id) as process:
        assert process.stdout is not None
        assert process.stdout.read(6) == b"49\n50\n"
        fifo.write_text("x\n")
        assert process.communicate(timeout=30)[0] == b"end\n"


def test_ctrl_c_ends_following_and_not_the_task(agentd: Agentd) -> None:
    task_id = agentd.text("submit", "-c", "echo ready; sleep 60").strip()
    with agentd.popen("logs", "-f", task_id) as process:
        assert process.stdout is not None
        process.stdout.read(6)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert agentd.json("show", task_id)["state"] == "running"
    agentd("cancel", task_id)


def test_a_reader_that_has_enough_is_met_with_silence(agentd: Agentd) -> None:
    task_id = agentd.text("submit", "seq", "1", "300000").strip()
    agentd("wait", task_id)
    with agentd.popen("logs", task_id) as process:
        head = subprocess.run(["head", "-n", "1"], stdin=process.stdout, capture_output=True, timeout=30)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert head.stdout == b"1\n"


def test_a_task_that_wrote_nothing_has_an_empty_log(agentd: Agentd) -> None:
    agentd("run", "-s", "silent", "true")
    assert agentd("logs", "silent").stdout == b""
    assert agentd("logs", "-n", "5", "silent").stdout == b""
