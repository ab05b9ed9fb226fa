"""The sandbox of a task, under a real daemon: what it keeps from its task, and that it ends as any other."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local import system
from agentd.errors import Invalid
from agentd.kinds.registry import kinds
from agentd.kinds.sandbox import options
from benchlib.processes import every_pid
from tests.daemon.harness import RealDaemon, until

FACTS = system.found(options)
needs_bubblewrap = pytest.mark.skipif(not FACTS.sandbox, reason=FACTS.sandbox_problem)

Ran = tuple[dict[str, Any], str]
Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    """One for all tests that do not kill it."""
    daemon = RealDaemon(tmp_path_factory.mktemp("sandbox") / "data", workers={"grace_s": 0.3})
    try:
        yield daemon.start()
    finally:
        daemon.end()


@pytest.fixture
def run(daemon: RealDaemon) -> Run:
    """Runs a line for sh in a sandbox: the task at its end, and what it said."""

    def run(command: str, *, sandbox: Any = "bubblewrap", session: str = "inside", **fields: Any) -> Ran:
        task_id = begin(daemon, command, sandbox=sandbox, session=session, **fields)
        task = daemon.wait(task_id)
        return task, daemon.request("GET", f"/tasks/{task_id}/output").body.decode()

    return run


def begin(daemon: RealDaemon, command: str, *, sandbox: Any, session: str, **fields: Any) -> str:
    spec = {"command": command, "sandbox": sandbox, **fields.pop("spec", {})}
    answer = daemon.request("POST", "/tasks", {"spec": spec, "session_id": session, **fields})
    assert answer.status == 201, answer.body
    task_id: str = answer.json["task_id"]
    return task_id


def session_dir(daemon: RealDaemon, session: str) -> Path:
    return daemon.data_dir / "sessions" / session


@needs_bubblewrap
def test_it_writes_to_its_session_and_leaves_its_result(daemon: RealDaemon, run: Run) -> None:
    script = "echo made > file; echo kept > $AGENTD_ARTIFACTS/a; echo '{\"n\": 1}' > $AGENTD_RESULT; pwd; mktemp"
    task, output = run(script)
    assert task["state"] == "completed", (task, output)
    own = session_dir(daemon, "inside")
    assert (own / "workspace" / "file").read_text() == "made\n"
    assert (own / "artifacts" / "a").read_text() == "kept\n"
    assert task["result"] == {"n": 1}
    place, temporary = output.split()
    assert place == str(own / "workspace")
    assert not os.path.exists(temporary)


@needs_bubblewrap
def test_without_a_result_there_is_none(daemon: RealDaemon, run: Run) -> None:
    task, _ = run("true", session="silent")
    assert (task["state"], task["result"], task["cause"]["message"]) == ("completed", None, "exited with code 0")
    assert not list((session_dir(daemon, "silent") / "output").glob("*.result.json"))


@needs_bubblewrap
@pytest.mark.parametrize(
    "attempt",
    [
        "echo x > /etc/agentd-was-here",
        'echo x > "$HOME/agentd-was-here"',
        "echo x > $DATA/token",
        "echo x > $DATA/new",
        "mkdir $DATA/sessions/new",
        "echo x >> $DATA/sessions/inside/history/events-000001.jsonl",
        "ln -s $OUTSIDE link && echo x > link/new",
        "ln -s / root && echo x > root$OUTSIDE/new",
        "echo x > /proc/1/root$OUTSIDE/new",
        "echo x > /proc/self/cwd/../../../../../../../../../..$OUTSIDE/new",
        "mount -o remount,rw /",
        "umount $DATA",
        "umount -l /tmp",
        "unshare -m true && exit 0",
        "mknod disk b 8 0",
        "echo 1 > /proc/sys/kernel/sysrq",
        "echo b > /proc/sysrq-trigger",
        "mv $AGENTD_RESULT moved",
    ],
)
def test_nothing_is_changed_outside(daemon: RealDaemon, run: Run, tmp_path: Path, attempt: str) -> None:
    token = (daemon.data_dir / "token").read_bytes()
    where = {"DATA": str(daemon.data_dir), "OUTSIDE": str(tmp_path)}
    task, output = run(attempt, spec={"env": where})
    assert task["state"] == "failed", (task["cause"], output)
    assert (daemon.data_dir / "token").read_bytes() == token
    assert not list(tmp_path.iterdir())
    assert not (daemon.data_dir / "new").exists()
    assert not (daemon.data_dir / "sessions" / "new").exists()


@needs_bubblewrap
@pytest.mark.parametrize(
    "attempt",
    [
        "cat $DATA/token",
        "cat $DATA/agent.json",
        "cat $OTHER/workspace/secret",
        "ls $OTHER",
        "cat $DATA/sessions/inside/metadata.json",
        "ln -s $OTHER/workspace/secret link && cat link",
        "cat ../../neighbour/workspace/secret",
        "cat /proc/1/root$OTHER/workspace/secret",
        "cat /proc/*/root$DATA/token",
        "cat /proc/$DAEMON/environ",
        "grep -rs hidden-word $DATA",
    ],
)
def test_nothing_of_others_is_read(daemon: RealDaemon, run: Run, attempt: str) -> None:
    other = session_dir(daemon, "neighbour")
    if not other.exists():
        made = daemon.shell("neighbour", "echo hidden-word > secret")
        assert daemon.wait(made["task_id"])["state"] == "completed"
    where = {"DATA": str(daemon.data_dir), "OTHER": str(other), "DAEMON": str(daemon.agent["pid"])}
    task, output = run(attempt, spec={"env": where})
    assert task["state"] == "failed", (task["cause"], output)
    assert "hidden-word" not in output
    assert daemon.token not in output


@needs_bubblewrap
def test_it_sees_only_its_own_processes_and_signals_no_other(daemon: RealDaemon, run: Run) -> None:
    _, output = run(f"ls /proc | grep -c '^[0-9]'; kill -9 {daemon.agent['pid']}; echo $?")
    seen, code = output.split()[0], output.split()[-1]
    assert int(seen) < 10
    assert code != "0"
    assert daemon.get("/healthz") is not None


@needs_bubblewrap
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here to open a socket with")
def test_there_is_no_network_unless_it_is_allowed(daemon: RealDaemon, run: Run) -> None:
    host, port = daemon.agent["url"].removeprefix("http://").split(":")
    dial = {"argv": ["bash", "-c", f"exec 3<>/dev/tcp/{host}/{port}"], "command": None}
    task, output = run("", spec=dial)
    assert task["state"] == "failed", output
    task, output = run("", spec=dial, sandbox={"type": "bubblewrap", "network": True})
    assert task["state"] == "completed", output


@needs_bubblewrap
def test_it_is_not_told_the_way_to_the_daemon_by_which_it_could_have_a_task_without_a_sandbox(run: Run) -> None:
    _, output = run("env", sandbox={"type": "bubblewrap", "network": True})
    assert "AGENTD_TASK_ID=" in output
    assert "AGENTD_TOKEN=" not in output
    assert "AGENTD_URL=" not in output


@needs_bubblewrap
def test_a_socket_of_another_program_in_tmp_is_not_there(run: Run, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        assert run(f"test -e {tmp_path}/s")[0]["state"] == "failed"


@needs_bubblewrap
@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)])
def test_its_exit_code_comes_through_and_a_signal_as_a_shell_says_it(run: Run, script: str, code: int) -> None:
    task, _ = run(script)
    assert (task["state"], task["cause"]["exit_code"]) == ("failed", code)


@needs_bubblewrap
def test_what_it_used_comes_through(run: Run) -> None:
    task, output = run("i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
    assert task["state"] == "completed", output
    usage = task["attempts"][-1]["usage"]
    assert usage["user_s"] + usage["system_s"] > 0.05


@needs_bubblewrap
def test_a_program_that_is_not_there_says_so(run: Run) -> None:
    task, output = run("", spec={"argv": ["/no/such/program"], "command": None})
    assert task["cause"]["exit_code"] == 127
    assert "/no/such/program" in output


def left_of(daemon: RealDaemon, task_id: str) -> list[int]:
    """Processes that still have the mark of the task in their command line."""
    return [pid for pid in every_pid() if f"mark-{task_id}".encode() in command_line(pid)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


LINGERS = """
sh -c 'trap "" TERM HUP; while :; do sleep 1; done' mark-$AGENTD_TASK_ID &
setsid sh -c 'trap "" TERM HUP; while :; do sleep 1; done' mark-$AGENTD_TASK_ID &
trap 'echo asked to end; exit 5' TERM
echo ready
while :; do sleep 0.05; done
"""


def lingering(daemon: RealDaemon, **fields: Any) -> str:
    task_id = begin(daemon, LINGERS, sandbox="bubblewrap", session="lingers", **fields)
    until(lambda: b"ready" in daemon.request("GET", f"/tasks/{task_id}/output").body)
    assert len(until(lambda: found if len(found := left_of(daemon, task_id)) >= 2 else None)) >= 2
    return task_id


@needs_bubblewrap
def test_a_cancelled_one_is_asked_first_and_ends_whole(daemon: RealDaemon) -> None:
    task_id = lingering(daemon)
    daemon.request("POST", f"/tasks/{task_id}/cancel")
    assert daemon.wait(task_id)["state"] == "cancelled"
    assert b"asked to end" in daemon.request("GET", f"/tasks/{task_id}/output").body
    assert left_of(daemon, task_id) == []


@needs_bubblewrap
def test_a_timeout_ends_it_whole(daemon: RealDaemon) -> None:
    task_id = lingering(daemon, timeout_s=1)
    assert daemon.wait(task_id)["state"] == "timeout"
    assert left_of(daemon, task_id) == []


@needs_bubblewrap
def test_what_outlives_its_first_process_is_ended_with_it(daemon: RealDaemon) -> None:
    script = "setsid sleep 600 mark-$AGENTD_TASK_ID & sh -c 'while :; do sleep 1; done' mark-$AGENTD_TASK_ID & exit 0"
    task_id = begin(daemon, script, sandbox="bubblewrap", session="lingers")
    assert daemon.wait(task_id)["state"] == "completed"
    assert left_of(daemon, task_id) == []


@needs_bubblewrap
def test_a_killed_worker_leaves_nothing(daemon: RealDaemon) -> None:
    task_id = lingering(daemon)
    worker = next(each for each in daemon.workers() if each["task_id"] == task_id)
    os.kill(worker["pid"], 9)
    assert daemon.wait(task_id)["cause"]["code"] == "worker_lost"
    assert left_of(daemon, task_id) == []


@needs_bubblewrap
def test_a_killed_daemon_leaves_nothing(tmp_path: Path) -> None:
    daemon = RealDaemon(tmp_path / "data").start()
    try:
        task_id = lingering(daemon)
        daemon.kill9()
        until(lambda: not left_of(daemon, task_id))
    finally:
        daemon.end()


@needs_bubblewrap
def test_a_terminal_and_an_input_work_inside(daemon: RealDaemon) -> None:
    spec = {"tty": True, "interactive": True}
    task_id = begin(daemon, "stty size; read x; echo got $x", sandbox="bubblewrap", session="typed", spec=spec)
    until(lambda: b"24 80" in daemon.request("GET", f"/tasks/{task_id}/output").body)
    assert daemon.request("POST", f"/tasks/{task_id}/input", {"data": "word\n"}).status == 200
    assert daemon.wait(task_id)["state"] == "completed"
    assert b"got word" in daemon.request("GET", f"/tasks/{task_id}/output").body


@pytest.mark.parametrize(
    ("kind", "spec"), [("shell", {"command": "true"}), ("agent", {"agent": "claude", "prompt": "hi"})]
)
def test_where_there_is_none_the_task_is_refused_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, spec: dict[str, Any]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checked = kinds(None, system.found(options))[kind]
    with pytest.raises(Invalid, match="apt install bubblewrap") as refused:
        checked.check({**spec, "sandbox": "bubblewrap"})
    assert refused.value.errors[0].field == "spec.sandbox"
    checked.check(spec)


def test_one_that_does_not_work_is_refused_with_its_own_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2; exit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    facts = system.found(options)
    assert not facts.sandbox
    assert "No permissions to create new namespace" in facts.sandbox_problem


@pytest.mark.parametrize("sandbox", ["docker", {"type": "other"}, {"network": 1}, {"more": True}, True])
def test_what_is_no_sandbox_is_refused(sandbox: Any) -> None:
    with pytest.raises(Invalid):
        kinds()["shell"].check({"command": "true", "sandbox": sandbox})


@needs_bubblewrap
def test_an_agent_works_in_one(tmp_path: Path) -> None:
    script = "cat > /dev/null; echo x > inside; cat $DATA/token && exit 1; echo x > /etc/agentd-x && exit 1; env"
    daemon = RealDaemon(tmp_path / "data", agents={"robot": ["/bin/sh", "-c", script]}).start()
    try:
        spec = {"agent": "robot", "prompt": "go", "sandbox": "bubblewrap", "env": {"DATA": str(daemon.data_dir)}}
        answer = daemon.request("POST", "/tasks", {"kind": "agent", "spec": spec, "session_id": "s"})
        assert answer.status == 201, answer.body
        task = daemon.wait(answer.json["task_id"])
        output = daemon.request("GET", f"/tasks/{task['task_id']}/output").body
        assert task["state"] == "completed", (task["cause"], output)
        assert (daemon.data_dir / "sessions/s/workspace/inside").read_text() == "x\n"
        assert daemon.token.encode() not in output
        assert b"AGENTD_TOKEN=" not in output
    finally:
        daemon.end()
