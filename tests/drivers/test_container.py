"""The driver of containers with a real engine: output, exit codes, stops, and what is left, which is nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentd.drivers.container_engine import Refused, engine_at
from agentd.drivers.container_reaping import Reaped
from agentd.kinds.containers import Assignment, Bind, Operation, Pull, Record
from tests.container_engine import IMAGE, ContainerEngine
from tests.daemon.harness import until
from tests.drivers.harness import PATIENCE_S, with_group_gone
from tests.users import NOBODY, as_root

DRIVER = [sys.executable, "-P", "-m", "agentd.drivers.container"]
#: A container that tells when it runs, and does not care about SIGTERM.
STUBBORN = ("sh", "-c", "trap 'echo asked' TERM; echo runs; while :; do sleep 0.1; done")
SLOW = pytest.mark.slow
POLITE = ("sh", "-c", "trap 'echo bye; exit 7' TERM; echo runs; while :; do sleep 0.1; done")


class Ended:
    """How a driver ended."""

    def __init__(self, code: int, out: bytes, err: bytes, record: Record) -> None:
        self.code, self.out, self.err, self.record = code, out, err, record


class Driver:
    """Drivers of one attempt, with one engine."""

    def __init__(self, root: Path, host: str) -> None:
        self.result = root / "result"
        self.started: list[subprocess.Popen[bytes]] = []
        self.env = {**os.environ, "DOCKER_HOST": host, "AGENTD_RESULT": str(self.result)}

    def start(self, **told: Any) -> subprocess.Popen[bytes]:
        """Start one; it leads a process group of its own."""
        self.result.unlink(missing_ok=True)
        fields = {
            "operation": Operation.RUN, "agent_id": "agent", "boot_id": "boot", "task_id": "task",
            "attempt_id": "task.1", "grace_s": 10.0, **told,
        }  # fmt: skip
        if fields["operation"] is Operation.RUN:
            fields = {"image": IMAGE, "pull": Pull.NEVER, **fields}
        process = subprocess.Popen(
            DRIVER,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(Assignment(**fields)))
        process.stdin.close()
        process.stdin = None
        self.started.append(process)
        return process

    def finish(self, process: subprocess.Popen[bytes]) -> Ended:
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            with_group_gone(process)
        return Ended(process.returncode, out, err, msgspec.json.decode(self.result.read_bytes(), type=Record))

    def end(self) -> None:
        """Whatever the test did: none of them is left."""
        for process in self.started:
            with_group_gone(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def run(self, **told: Any) -> Ended:
        return self.finish(self.start(**told))

    def running(self, **told: Any) -> subprocess.Popen[bytes]:
        """One whose container has said its first line, which is `runs`."""
        process = self.start(**told)
        assert process.stdout is not None
        assert process.stdout.readline() == b"runs\n"
        return process

    def reap(self, *which: str) -> Reaped:
        """Run the program that removes what is left."""
        done = subprocess.run([*DRIVER, "reap", *which], env=self.env, stdout=subprocess.PIPE, timeout=PATIENCE_S)
        reaped = msgspec.json.decode(done.stdout, type=Reaped)
        assert done.returncode == (1 if reaped.problem else 0)
        return reaped


@pytest.fixture
def driver(tmp_path: Path, engine: ContainerEngine) -> Iterator[Driver]:
    driver = Driver(tmp_path, engine.host)
    yield driver
    driver.end()


def test_both_streams_come_apart_and_it_ends_as_its_container(driver: Driver, engine: ContainerEngine) -> None:
    ended = driver.run(command=("sh", "-c", 'echo out; echo err >&2; printf "$A"; exit 3'), env={"A": "b c"})
    assert (ended.code, ended.out, ended.err) == (3, b"out\nb c", b"err\n")
    record = ended.record
    assert (record.exit_code, record.image, record.gone, record.problem) == (3, IMAGE, True, "")
    assert record.container_id is not None
    assert engine.containers() == []


def test_five_megabytes_come_whole(driver: Driver) -> None:
    ended = driver.run(command=("sh", "-c", "dd if=/dev/zero bs=65536 count=80 2>/dev/null | tr '\\0' x; echo end"))
    assert ended.code == 0
    assert ended.out == b"x" * (5 << 20) + b"end\n"


@pytest.mark.slow
def test_with_a_terminal_there_is_one_stream(driver: Driver) -> None:
    ended = driver.run(command=("sh", "-c", "test -t 1 && echo out; echo err >&2"), tty=True)
    assert (ended.code, ended.out, ended.err) == (0, b"out\r\nerr\r\n", b"")


def test_it_sees_its_mounts_and_no_network(driver: Driver, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "file").write_text("kept")
    mounts = (
        Bind(source=str(tmp_path / "open"), target="/open"),
        Bind(source=str(tmp_path / "closed"), target="/closed", read_only=True),
    )
    script = "echo new > /open/file; cat /closed/file; pwd; echo no > /closed/file || echo refused; ls /sys/class/net"
    ended = driver.run(command=("sh", "-c", script), mounts=mounts, workdir="/tmp")
    assert ended.out == b"kept/tmp\nrefused\nlo\n"
    assert (tmp_path / "open" / "file").read_text() == "new\n"
    assert (tmp_path / "closed" / "file").read_text() == "kept"


@pytest.mark.slow
def test_limits_and_the_user_are_those_of_the_container(driver: Driver, engine: ContainerEngine) -> None:
    process = driver.running(
        command=("sh", "-c", "echo runs; id -u; sleep 100"),
        memory_bytes=64 << 20,
        cpus=0.5,
        pids=50,
        user="1234:1234",
        grace_s=0.9,
    )
    [container_id] = until(engine.running)
    host = msgspec.json.decode(engine.podman("inspect", container_id))[0]["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 500_000_000, 50)
    assert process.stdout is not None
    assert process.stdout.readline() == b"1234\n"
    process.send_signal(signal.SIGTERM)
    driver.finish(process)


@pytest.mark.slow
def test_one_that_is_asked_to_end_may_say_so(driver: Driver, engine: ContainerEngine) -> None:
    process = driver.running(command=POLITE)
    process.send_signal(signal.SIGTERM)
    ended = driver.finish(process)
    assert (ended.code, ended.out, ended.record.exit_code, ended.record.gone) == (7, b"bye\n", 7, True)
    assert engine.containers() == []


def test_one_that_ignores_it_is_killed_within_the_grace(driver: Driver, engine: ContainerEngine) -> None:
    process = driver.running(command=STUBBORN, grace_s=3.0)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    ended = driver.finish(process)
    assert time.monotonic() - began > 1.5
    assert (ended.code, ended.out, ended.record.gone) == (137, b"asked\n", True)
    assert engine.containers() == []


@pytest.mark.slow
@pytest.mark.parametrize("grace_s", [PATIENCE_S, 0.9])
def test_a_second_stop_and_a_short_grace_kill_at_once(driver: Driver, engine: ContainerEngine, grace_s: float) -> None:
    process = driver.running(command=STUBBORN, grace_s=grace_s)
    process.send_signal(signal.SIGTERM)
    if grace_s > 1:
        assert process.stdout is not None
        assert process.stdout.readline() == b"asked\n"
        process.send_signal(signal.SIGTERM)
    ended = driver.finish(process)
    assert ended.out == b""
    assert ended.record.gone
    assert engine.containers() == []


@pytest.mark.slow
def test_a_stop_before_there_is_a_container_leaves_none(driver: Driver, engine: ContainerEngine) -> None:
    process = driver.start(command=STUBBORN, pull=Pull.ALWAYS, image="registry.invalid/name:tag")
    assert process.stderr is not None
    process.stderr.readline()  # it is pulling
    process.send_signal(signal.SIGTERM)
    ended = driver.finish(process)
    assert (ended.record.container_id, ended.record.gone) == (None, True)
    assert ended.code in (125, 128 + signal.SIGTERM)  # the pull may have failed first
    assert engine.containers() == []


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"image": "absent:1"}, "there is no image 'absent:1' here, and pull is never"),
        pytest.param(
            {"image": "registry.invalid/absent:1", "pull": Pull.MISSING}, "could not be pulled", marks=pytest.mark.slow
        ),
        pytest.param({"command": ("/absent",)}, "/absent", marks=SLOW),
        ({"mounts": (Bind(source="/absent/file", target="/x"),)}, "mounts[0].source /absent/file does not exist"),
        pytest.param({"network": "absent", "command": ("true",)}, "network", marks=SLOW),
        pytest.param(
            {"operation": Operation.START, "id": "absent"}, "there is no container 'absent'", marks=pytest.mark.slow
        ),
        pytest.param(
            {"operation": Operation.STOP, "id": "absent"}, "there is no container 'absent'", marks=pytest.mark.slow
        ),
        pytest.param(
            {"operation": Operation.LOGS, "id": "absent"}, "there is no container 'absent'", marks=pytest.mark.slow
        ),
    ],
)
def test_what_cannot_be_done_is_said(
    driver: Driver, engine: ContainerEngine, told: dict[str, Any], sentence: str
) -> None:
    ended = driver.run(**told)
    assert (ended.code, ended.record.started, ended.record.gone) == (125, False, True)
    assert sentence in ended.record.problem
    assert f"agentd: {ended.record.problem}" in ended.err.decode()
    assert engine.containers() == []


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ("unix:///absent/socket", "there is no container engine at unix:///absent/socket"),
        ("tcp://127.0.0.1:9", "no container engine answers at tcp://127.0.0.1:9"),
        ("http://me:hidden@127.0.0.1:9", "no container engine answers at http://127.0.0.1:9"),
        ("ssh://me:hidden@host", "DOCKER_HOST is 'ssh://host'"),
    ],
)
def test_no_engine_is_said_with_where_it_was_looked_for(tmp_path: Path, host: str, sentence: str) -> None:
    driver = Driver(tmp_path, host)
    ended = driver.run()
    assert sentence in ended.record.problem
    assert (ended.code, ended.record.started, ended.record.gone) == (125, False, True)
    reaped = driver.reap("--agent", "agent").problem
    assert sentence in reaped
    assert "hidden" not in f"{ended.record.problem} {ended.out!r} {ended.err!r} {reaped}"  # every viewer may read them


@as_root
def test_an_engine_that_this_user_may_not_use_is_said(open_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(open_path / "s"))
        listening.listen()
        os.chmod(open_path / "s", 0o600)

        async def ask() -> None:
            async with engine_at(f"unix://{open_path}/s"):
                raise AssertionError("it may use it")

        asyncio.run(_refused(ask(), 0.1))  # never answered; imports what another user may not read
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            os.write(write, asyncio.run(_refused(ask())).encode())
            os._exit(0)
        os.close(write)
        with open(read) as end:
            said = end.read()
        os.waitpid(child, 0)
    assert f"unix://{open_path}/s may not be used by this user: Permission denied" in said


async def _refused(asking: Coroutine[Any, Any, None], patience_s: float = PATIENCE_S) -> str:
    try:
        async with asyncio.timeout(patience_s):
            await asking
    except (Refused, TimeoutError) as error:
        return str(error)
    return ""


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every user may look into."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


def test_the_daemon_loads_nothing_that_speaks_to_engines() -> None:
    program = "import sys, agentd.daemon; print(sorted(name for name in sys.modules if 'docker' in name))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=PATIENCE_S)
    assert done.stdout.decode().strip() == "['agentd.kinds.docker']"


@pytest.mark.slow
def test_an_existing_container_is_started_read_and_stopped_and_stays(driver: Driver, engine: ContainerEngine) -> None:
    made = engine.podman("create", "--name=theirs", IMAGE, "sh", "-c", "echo once; echo err >&2; exit 4").strip()
    for _ in range(2):
        time_apart = driver.run(operation=Operation.START, id="theirs")
        assert (time_apart.code, time_apart.out, time_apart.err) == (4, b"once\n", b"err\n")
        assert (time_apart.record.container_id, time_apart.record.exit_code) == (made, 4)
    read = driver.run(operation=Operation.LOGS, id="theirs")
    assert (read.code, read.out, read.err) == (0, b"once\nonce\n", b"err\nerr\n")
    assert read.record.exit_code == 4
    stopped = driver.run(operation=Operation.STOP, id="theirs")
    assert (stopped.code, stopped.record.exit_code) == (0, 4)
    assert [each["Id"] for each in engine.containers()] == [made]


@pytest.mark.slow
def test_a_stop_of_one_that_is_not_ours_ends_it_and_never_removes_it(driver: Driver, engine: ContainerEngine) -> None:
    engine.podman("create", "--name=theirs", IMAGE, *STUBBORN)
    process = driver.running(operation=Operation.START, id="theirs", grace_s=3.0)
    process.send_signal(signal.SIGTERM)
    assert driver.finish(process).record.exit_code == 137
    assert [each["State"] for each in engine.containers()] == ["exited"]


@pytest.mark.slow
def test_logs_that_are_followed_can_be_left_and_the_container_runs_on(driver: Driver, engine: ContainerEngine) -> None:
    engine.podman("run", "--detach", "--name=theirs", IMAGE, *STUBBORN)
    process = driver.running(operation=Operation.LOGS, id="theirs", follow=True)
    process.send_signal(signal.SIGTERM)
    assert driver.finish(process).code == 128 + signal.SIGTERM
    assert len(engine.running()) == 1
    process = driver.running(operation=Operation.LOGS, id="theirs", follow=True)
    assert driver.run(operation=Operation.STOP, id="theirs", grace_s=1.0).code == 0
    assert driver.finish(process).code == 0


@pytest.mark.slow
def test_what_a_killed_driver_leaves_is_removed_and_what_others_have_is_not(
    driver: Driver, engine: ContainerEngine
) -> None:
    theirs = engine.podman("run", "--detach", IMAGE, "sleep", "100").strip()
    other = driver.running(command=STUBBORN, agent_id="other", attempt_id="other.1")
    now = driver.running(command=STUBBORN, boot_id="now", attempt_id="now.1")
    process = driver.running(command=STUBBORN)
    process.kill()
    process.communicate()
    left = msgspec.json.decode(driver.result.read_bytes(), type=Record)
    assert not left.gone
    assert len(engine.running()) == 4
    reaped = driver.reap("--agent", "agent", "--attempt", "task.1")
    assert (reaped.removed, reaped.left, reaped.problem) == ((left.container_id,), (), "")
    assert driver.reap("--agent", "agent", "--spare-boot", "now").removed == ()
    assert len(engine.running()) == 3
    assert len(driver.reap("--agent", "agent", "--spare-boot", "later").removed) == 1
    assert "was removed by somebody else" in driver.finish(now).record.problem
    assert len(driver.reap("--agent", "other").removed) == 1
    driver.finish(other)
    assert engine.running() == [theirs]


@pytest.mark.slow
def test_an_engine_that_is_restarted_meanwhile_costs_no_output(driver: Driver, engine: ContainerEngine) -> None:
    script = "echo runs; i=0; while test -e /go/wait; do sleep 0.1; done; echo more; exit 5"
    go = driver.result.parent / "go"
    go.mkdir()
    (go / "wait").touch()
    process = driver.running(command=("sh", "-c", script), mounts=(Bind(source=str(go), target="/go"),))
    engine.stop()
    (go / "wait").unlink()
    engine.start()
    ended = driver.finish(process)
    assert (ended.code, ended.out, ended.record.gone) == (5, b"more\n", True)
    assert engine.containers() == []
