"""What commands exit with, and what they say on stderr."""

from __future__ import annotations

import subprocess

import pytest

from agentd import errors
from agentd.cli import exits
from agentd.model.task import Cause, CauseCode, State
from tests.cli.daemon_process import AGENTD, Agentd
from tests.cli.test_wording import task


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Unreachable("x"), 3),
        (errors.SessionNotFound("x"), 4),
        (errors.TaskNotFound("x"), 4),
        (errors.RouteNotFound("x"), 4),
        (errors.Invalid("x"), 2),
        (errors.Malformed("x"), 2),
        (errors.Unauthorized("x"), 2),
        (errors.Forbidden("x"), 2),
        (errors.AlreadyRunning("x"), 2),
        (errors.ConfigInvalid("x"), 2),
        (errors.InvalidTransition("x"), 1),
        (errors.StorageFull("x"), 1),
        (errors.AgentdError("x"), 1),
    ],
)
def test_every_error_has_an_exit_code(error: errors.AgentdError, code: int) -> None:
    assert exits.code_of(error) == code


@pytest.mark.parametrize(
    ("state", "cause", "code"),
    [
        (State.COMPLETED, Cause(code=CauseCode.OK, message="", exit_code=0), 0),
        (State.FAILED, Cause(code=CauseCode.EXIT_CODE, message="", exit_code=7), 7),
        (State.FAILED, Cause(code=CauseCode.SIGNAL, message="", signal=15), 143),
        (State.FAILED, Cause(code=CauseCode.WORKER_LOST, message=""), 1),
        (State.TIMEOUT, Cause(code=CauseCode.TIMEOUT, message="", signal=9), 1),
        (State.CANCELLED, Cause(code=CauseCode.CANCELLED_BY_USER, message="", exit_code=0), 1),
    ],
)
def test_a_task_that_did_not_complete_never_exits_with_zero(state: State, cause: Cause, code: int) -> None:
    assert exits.code_of_task(task(state=state, cause=cause)) == code


@pytest.mark.parametrize("args", [["ls"], ["show", "x"], ["logs"], ["run", "true"], ["wait", "x"], ["status"]])
def test_without_a_daemon_every_command_exits_with_3_and_says_what_to_do(no_daemon: Agentd, args: list[str]) -> None:
    done = no_daemon(*args, code=3)
    assert done.stdout == b""
    assert b"no daemon found" in done.stderr
    assert b"start one with `agentd serve`" in done.stderr


def test_a_port_that_nobody_listens_on_exits_with_3(no_daemon: Agentd) -> None:
    assert b"no answer from http://127.0.0.1:1" in no_daemon("ls", "--url", "http://127.0.0.1:1", code=3).stderr


def test_a_daemon_that_has_ended_is_named(own_daemon: Agentd) -> None:
    own_daemon.end()
    assert b"has ended; start it with `agentd serve --data-dir" in own_daemon("ls", code=3).stderr


def test_a_wrong_token_is_named_and_not_shown(agentd: Agentd) -> None:
    done = agentd("ls", code=2, AGENTD_URL=agentd.agent["url"], AGENTD_TOKEN="wrong-secret")
    assert b"AGENTD_TOKEN" in done.stderr
    assert b"wrong-secret" not in done.stderr


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:99999", "http://user:secret@127.0.0.1:1", "http://127.0.0.1:x"]
)
def test_a_url_that_is_none_is_a_wrong_call(no_daemon: Agentd, url: str) -> None:
    done = no_daemon("ls", code=2, AGENTD_URL=url, AGENTD_TOKEN="t")
    assert done.stderr.startswith(b"agentd: ")
    assert done.stderr.count(b"\n") == 1
    assert b"secret" not in done.stderr


def test_a_token_that_no_header_can_hold_is_a_wrong_call(no_daemon: Agentd) -> None:
    done = no_daemon("ls", code=2, AGENTD_URL="http://127.0.0.1:1", AGENTD_TOKEN="se\ncret")
    assert done.stderr == b"agentd: the token holds a control character; set AGENTD_TOKEN to one line\n"


def test_an_id_that_is_no_text_is_not_found(agentd: Agentd) -> None:
    assert b"is not an id" in agentd("workers", "restart", "\udcff", code=4).stderr


@pytest.mark.parametrize("args", [["status"], ["ls", "-o", "json"], ["run", "echo", "x"], ["--help"]])
def test_a_full_disk_under_stdout_is_said_in_one_line(agentd: Agentd, args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*AGENTD, *args], cwd=agentd.home, env=agentd.env, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == exits.FAILED
    assert done.stderr.endswith(b"agentd: the output cannot be written: No space left on device\n")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("args", ["ls", "ls -o json", "run echo x"])
def test_a_closed_stdout_is_no_output_wanted(agentd: Agentd, args: str) -> None:
    line = f'exec "$@" {args} >&-'
    done = subprocess.run(["sh", "-c", line, "sh", *AGENTD], cwd=agentd.home, env=agentd.env, capture_output=True)
    assert (done.returncode, done.stderr.count(b"Traceback")) == (0, 0), done


def test_a_url_without_its_token_is_refused(agentd: Agentd) -> None:
    done = agentd("ls", code=2, AGENTD_URL=agentd.agent["url"], AGENTD_DATA_DIR="/nowhere")
    assert b"AGENTD_TOKEN" in done.stderr


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["bogus"], b"there is no command 'bogus'"),
        (["lgos"], b"there is no command 'lgos'; did you mean 'logs'?"),
        (["ls", "--bogus"], b"No such option"),
        (["ls", "--state", "bogus"], b"Invalid value"),
        (["ls", "--since", "bogus"], b"is neither"),
        (["run"], b"Missing argument"),
        (["submit"], b"say what to run"),
        (["submit", "-c", "x", "--spec", "{}"], b"say what to run, once"),
        (["submit", "--spec", "["], b"is not a JSON object"),
        (["submit", "--spec", "@/no/such/file"], b"cannot read"),
        (["submit", "--kind", "bogus", "true"], b"bogus"),
        (["submit", "--needs", "bogus", "-s", "x", "true"], b"bogus"),
        (["submit", "-c", ""], b"command"),
        (["sessions", "create", ".hidden"], b"session_id"),
        (["sessions", "edit"], b"Missing argument"),
        (["workers", "scale"], b"--min"),
        (["progress", "40"], b"--task ID"),
        (["progress", "--task", "x", "101"], b"101"),
        (["completion", "tcsh"], b"tcsh"),
    ],
)
def test_a_wrong_call_exits_with_2_or_4_and_says_what_is_wrong(agentd: Agentd, args: list[str], says: bytes) -> None:
    done = agentd(*args, code=None)
    assert done.returncode == (4 if "--needs" in args else 2), done
    assert done.stdout == b""
    assert says in done.stderr


def test_what_is_not_text_is_refused(agentd: Agentd) -> None:
    assert b"is not text" in agentd("run", "echo", b"\xff".decode("utf-8", "surrogateescape"), code=2).stderr


@pytest.mark.parametrize(
    "args", [["show", "nothing"], ["logs", "nothing"], ["cancel", "zzzz"], ["retry", "0" * 14], ["rm", "nothing"]]
)
def test_what_does_not_exist_exits_with_4(agentd: Agentd, args: list[str]) -> None:
    done = agentd(*args, code=4)
    assert args[1].encode() in done.stderr


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", "a b", "ä", "%2e%2e", "\x1b[31m", "x" * 300])
def test_a_strange_name_is_just_not_there(agentd: Agentd, name: str) -> None:
    done = agentd("show", name, code=4)
    assert b"\x1b" not in done.stderr


def test_what_cannot_be_done_now_exits_with_1(agentd: Agentd) -> None:
    agentd("run", "-s", "ended", "true")
    (task,) = agentd.json("ls", "-s", "ended")["data"]
    assert b"nothing to cancel" in agentd("cancel", task["task_id"], code=1).stderr


def test_of_several_what_can_be_done_is_done(agentd: Agentd) -> None:
    task_id = agentd.text("submit", "sleep", "60").strip()
    done = agentd("cancel", "zzzz", task_id, "-o", "name", code=4)
    assert done.stdout.decode().split() == [task_id]
    agentd("wait", task_id, code=1)


def test_waiting_exits_with_how_it_ended(agentd: Agentd) -> None:
    good, bad = (agentd.text("submit", name).strip() for name in ("true", "false"))
    slow = agentd.text("submit", "sleep", "60").strip()
    assert agentd.json("wait", good)["data"][0]["state"] == "completed"
    assert [t["state"] for t in agentd.json("wait", good, bad, code=1)["data"]] == ["completed", "failed"]
    done = agentd("wait", "--timeout", "200ms", good, slow, code=124)
    assert b"1 of 2 not ended" in done.stderr
    agentd("cancel", slow)
