"""agentd run: as if the command ran here."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from benchlib.processes import until
from tests.cli.daemon_process import Agentd
from tests.written import written

ALL_BYTES = bytes(range(256)) * 40


def read_until(process: subprocess.Popen[bytes], text: bytes) -> bytes:
    """What a command writes, up to and with the text."""
    assert process.stdout is not None
    seen = b""
    while text not in seen:
        block = os.read(process.stdout.fileno(), 65536)
        assert block, (seen, process.stderr.read() if process.stderr else b"")
        seen += block
    return seen


def test_both_streams_come_out_byte_for_byte_and_apart(agentd: Agentd) -> None:
    blob = agentd.home / "blob"
    blob.write_bytes(ALL_BYTES * 30)
    done = agentd("run", "--", "sh", "-c", f"cat {blob}; cat {blob} >&2; printf end; printf fin >&2")
    assert done.stdout == ALL_BYTES * 30 + b"end"
    assert done.stderr == ALL_BYTES * 30 + b"fin"


def test_output_is_shown_once_it_is_known_of_which_stream_it_is_and_not_at_the_end_only(agentd: Agentd) -> None:
    go, log = agentd.home / "go", '"$AGENTD_ARTIFACTS/../output/$AGENTD_TASK_ID.1.log"'
    held_up = f"until [ -s {log} ]; do :; done; kill -STOP $PPID; sleep 0.5; kill -CONT $PPID"
    script = f"echo ready; {held_up}; for i in $(seq 600); do [ -e {go} ] && break; sleep 0.1; done"
    with agentd.popen("run", "-s", "held-up", "--", "sh", "-c", script) as process:
        read_until(process, b"ready\n")
        (task,) = agentd.json("ls", "-s", "held-up")["data"]
        go.touch()
        assert process.wait(60) == 0
    assert task["state"] == "running"


def test_in_one_place_both_streams_keep_their_order(agentd: Agentd) -> None:
    first, both = written("$((12 * i - 6))"), written("$((12 * i))")
    script = f"for i in 1 2 3 4 5; do echo out $i; {first}; echo err $i >&2; {both}; done"
    with agentd.popen("run", "--", "sh", "-c", script, stderr=subprocess.STDOUT) as process:
        shown, _ = process.communicate(timeout=30)
    assert shown.decode().splitlines() == [f"{stream} {i}" for i in range(1, 6) for stream in ("out", "err")]


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (["true"], 0, b""),
        (["sh", "-c", "exit 7"], 7, b""),
        (["sh", "-c", "kill -KILL $$"], 137, b"SIGKILL"),
        (["sh", "-c", "kill -TERM $$"], 143, b"SIGTERM"),
        (["/no/such/program"], 1, b"/no/such/program"),
    ],
)
def test_the_exit_code_is_that_of_the_command(agentd: Agentd, argv: list[str], code: int, says: bytes) -> None:
    done = agentd("run", *argv, code=code)
    assert says in done.stderr
    assert bool(done.stderr) is bool(says)


def test_a_timeout_is_told_and_is_a_failure(agentd: Agentd) -> None:
    done = agentd("run", "--timeout", "300ms", "--", "sleep", "60", code=1)
    assert b" timeout: " in done.stderr


def test_options_behind_the_command_are_the_commands(agentd: Agentd) -> None:
    assert agentd.text("run", "echo", "-n", "-o", "json", "--help") == "-o json --help"


def test_the_session_is_made_if_it_is_absent_and_used_if_it_is_there(agentd: Agentd) -> None:
    agentd("run", "-s", "run-twice", "--", "sh", "-c", "echo kept > file")
    assert agentd.text("run", "-s", "run-twice", "--", "cat", "file") == "kept\n"
    assert len(agentd.json("sessions", "show", "run-twice")["tasks"]) == 2


def test_environment_directory_and_input_are_passed(agentd: Agentd) -> None:
    script = "pwd; echo $A-$B; cat"
    done = agentd(
        *("run", "-C", "/", "-e", "A=1", "-e", "B", "--stdin", "-", "--", "sh", "-c", script),
        input="ä\n".encode(),
        B="2",
    )
    assert done.stdout.decode() == "/\n1-2\nä\n"
    assert b"C is not set here" in agentd("run", "-e", "C", "true", code=2).stderr


def test_every_attempt_is_shown_and_the_last_one_counts(agentd: Agentd) -> None:
    script = "echo attempt $AGENTD_ATTEMPT; echo e$AGENTD_ATTEMPT >&2; test $AGENTD_ATTEMPT = 3"
    spec = ("run", "--retries", "5", "--", "sh", "-c", script)
    done = agentd(*spec)
    assert done.stdout == b"attempt 1\nattempt 2\nattempt 3\n"
    assert done.stderr == b"e1\ne2\ne3\n"


def test_output_is_shown_while_the_command_runs(agentd: Agentd) -> None:
    fifo = agentd.home / "go-on"
    os.mkfifo(fifo)
    with agentd.popen("run", "--", "sh", "-c", f"echo first; read x < {fifo}; echo second") as process:
        assert read_until(process, b"\n") == b"first\n"
        fifo.write_text("x\n")
        assert process.communicate(timeout=30)[0] == b"second\n"
        assert process.returncode == 0


def test_detached_it_prints_the_id_and_leaves(agentd: Agentd) -> None:
    task_id = agentd.text("run", "-d", "--", "sleep", "0.2").strip()
    assert json.loads(agentd.text("-o", "json", "run", "-d", "--", "true"))["state"] == "queued"
    agentd("wait", task_id)


def test_ctrl_c_asks_the_task_to_stop_and_goes_on_showing_it(agentd: Agentd) -> None:
    script = "trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    with agentd.popen("run", "-s", "ctrl-c-once", "--", "sh", "-c", script) as process:
        read_until(process, b"ready\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert out == b"stopping\n"
    assert process.returncode == 130
    assert b"to stop; Ctrl-C again leaves it alone" in err
    (task,) = agentd.json("ls", "-s", "ctrl-c-once")["data"]
    assert (task["state"], task["cause"]["code"]) == ("cancelled", "cancelled_by_user")


def test_a_second_ctrl_c_leaves_the_task_and_says_how_to_get_back(agentd: Agentd) -> None:
    fifo = agentd.home / "left-alone"
    os.mkfifo(fifo)
    script = f"trap '' TERM; echo ready; read x < {fifo}"
    with agentd.popen("run", "-s", "ctrl-c-twice", "--", "sh", "-c", script) as process:
        read_until(process, b"ready\n")
        (task,) = agentd.json("ls", "-s", "ctrl-c-twice")["data"]
        process.send_signal(signal.SIGINT)
        until(lambda: agentd.json("show", task["task_id"])["cancel_requested_at"])
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"agentd logs -f {task['task_id']}".encode() in err
    assert agentd.json("show", task["task_id"])["state"] == "running"
    fifo.write_text("x\n")
    agentd("wait", task["task_id"], code=1)


def test_when_nobody_reads_the_task_goes_on(agentd: Agentd) -> None:
    fifo = agentd.home / "nobody-reads"
    os.mkfifo(fifo)
    script = f"echo first; read x < {fifo}; echo second"
    with agentd.popen("run", "-s", "no-reader", "--", "sh", "-c", script) as process:
        read_until(process, b"first\n")
        assert process.stdout is not None
        process.stdout.close()
        fifo.write_text("x\n")
        assert process.wait(60) == 141
        assert process.stderr is not None
        assert b"goes on" in process.stderr.read()
    (task,) = agentd.json("ls", "-s", "no-reader")["data"]
    agentd("wait", task["task_id"])


def test_the_end_of_its_client_is_not_the_end_of_a_task(agentd: Agentd) -> None:
    with agentd.popen("run", "-s", "orphaned", "--", "sh", "-c", "echo ready; sleep 0.3") as process:
        read_until(process, b"ready\n")
        process.kill()
        process.wait(60)
    (task,) = agentd.json("ls", "-s", "orphaned")["data"]
    agentd("wait", task["task_id"])


def test_a_daemon_that_dies_and_comes_back_is_waited_for(own_daemon: Agentd) -> None:
    with own_daemon.popen("run", "--", "sh", "-c", "echo ready; sleep 60") as process:
        read_until(process, b"ready\n")
        own_daemon.end(signal.SIGKILL)
        own_daemon.start()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"trying again" in err
    assert b" failed: " in err


def test_a_slow_reader_loses_nothing(agentd: Agentd) -> None:
    with agentd.popen("run", "--", "sh", "-c", "seq 1 200000") as process:
        seen = read_until(process, b"\n")
        assert process.stdout is not None
        until(lambda: agentd.json("ls", "-n", "1")["data"][0]["state"] == "completed")
        seen += process.stdout.read()
        assert process.wait(30) == 0
    assert seen == b"".join(b"%d\n" % i for i in range(1, 200_001))
