"""Programs that fight back: whatever one does, it ends with the right cause, and only when all of it is gone."""

# ruff: noqa: ASYNC220, ASYNC240 - small files are read, and a process is started, at once here

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local import worker
from agentd.engines.local.worker_process import encoded_run
from agentd.model.launch import EndedBy, Launch, ResourceLimits
from tests.users import NOBODY, as_root

from .conftest import until

#: What every Python program here begins with; `up` says that the fight is on.
PRELUDE = """
import ctypes, os, resource, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def up():
    open("up", "w").close()
def forever():
    while True:
        time.sleep(60)
"""

#: They live until they are ended. `$0` is the marker, by which survivors are found.
SHELL = {
    "ignores what can be ignored": "trap '' TERM HUP INT QUIT USR1; touch up; while :; do sleep 1; done; : $0",
    "stops its whole group": "sh -c 'sleep 60; : $0' $0 & touch up; kill -STOP 0; : $0",
    "leaves twice, with a session and an environment of its own": (
        "(env -i /usr/bin/setsid /bin/sh -c '(env -i /usr/bin/setsid /bin/sh -c \"/bin/sleep 60; : $0\" $0 &) ' $0 &);"
        " touch up; sleep 60; : $0"
    ),
    "becomes another program": "touch up; exec -a $0 sleep 60",
    "closes its streams": "exec <&- >&- 2>&-; touch up; sleep 60; : $0",
    "removes its directory": "mkdir gone; cd gone; rmdir ../gone; touch ../up; sleep 60; : $0",
    "never reads": "touch up; sleep 60; : $0",
    "lowers its own limits": "touch up; ulimit -t 1000 -n 16 -f 0 -c 0; nice -n 19 sleep 60; : $0",
    "asks to be spared when memory runs out": "echo 1000 > /proc/self/oom_score_adj; touch up; sleep 60; : $0",
}
PYTHON = {
    "has a name that looks like a state": 'libc.prctl(15, b"a) Z 1 (b", 0, 0, 0); up(); forever()',
    "opens every descriptor": """
files = []
try:
    while True:
        files.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    os.close(files.pop())
    up()
    forever()
""",
    "collects none of its children": """
for _ in range(100):
    if os.fork() == 0:
        os._exit(0)
up()
forever()
""",
    "is a tree 200 deep": """
for _ in range(200):
    if os.fork():
        forever()
os.setsid()
up()
forever()
""",
    "adopts its orphans itself": """
libc.prctl(36, 1, 0, 0, 0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        up()
        forever()
    os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
forever()
""",
    "goes on without its first thread": """
def rest():
    up()
    forever()
threading.Thread(target=rest).start()
libc.syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
""",
    "holds its child as a tracer": """
child = os.fork()
if child == 0:
    os.setsid()
    forever()
libc.ptrace(16, child, 0, 0)
up()
forever()
""",
    "is another user": """
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.getuid() == 0:
        try:
            os.setuid(65534)
        except OSError:
            pass  # there is no other
    os.write(write, b".")
    forever()
os.read(read, 1)
up()
forever()
""",
    "is the first process of its own world": """
CLONE_NEWPID, CLONE_NEWUSER = 0x20000000, 0x10000000
if libc.unshare(CLONE_NEWPID) != 0:
    libc.unshare(CLONE_NEWPID | CLONE_NEWUSER)
if os.fork() == 0:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        up()
    forever()
forever()
""",
}
FIGHTS = {**SHELL, **PYTHON}


def argv(lab: Any, how: str) -> tuple[str, ...]:
    """The program, with the marker in its command line."""
    if how in SHELL:
        return ("bash", "-c", SHELL[how], lab.marker)
    return (lab.python, "-c", PRELUDE + PYTHON[how], lab.marker)


def compile_to(program: Path, source: str) -> None:
    """A program in C."""
    subprocess.run(["cc", "-O2", "-x", "c", "-o", program, "-"], input=source, text=True, check=True)


@pytest.fixture
def lab(lab: Any) -> Any:
    """As it is, with an interpreter that starts at once."""
    lab.python = shutil.which("python3", path="/usr/bin") or lab.launch("").env["PYTHON"]
    return lab


@pytest.mark.parametrize("how", FIGHTS)
async def test_a_cancel_ends_it(lab: Any, how: str) -> None:
    stdin = "never read " * 100_000 if how == "never reads" else None
    launch = lab.launch(*argv(lab, how), stdin=stdin)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id)
    end = await asyncio.wait_for(future, 60)
    assert end.ended_by is EndedBy.STOPPED
    assert lab.survivors() == []


#: They leave something behind that only a look at every process finds.
LEFT = {
    "one without its first thread": PYTHON["goes on without its first thread"],
    "one that its own tracer holds": PYTHON["holds its child as a tracer"],
    "one that holds the output": 'up(); os.write(1, b"left"); forever()',
    "one that has no streams": "os.closerange(0, 100); up(); forever()",
}


@pytest.mark.parametrize("what", LEFT)
async def test_what_it_leaves_is_ended(lab: Any, what: str) -> None:
    wait = "while [ ! -e up ]; do sleep 0.01; done"
    program = PRELUDE + LEFT[what]
    script = f'env -i /usr/bin/setsid "$1" -c "$2" "$0" & {wait}; exit 3'
    end = await asyncio.wait_for(await lab.start(lab.launch("sh", "-c", script, lab.marker, lab.python, program)), 60)
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 3)
    assert end.leftovers >= 1
    assert lab.survivors() == []


# ---------------------------------------------------------------------- against its worker

ESCAPED = 'env -i /usr/bin/setsid /bin/sh -c "/bin/sleep 60; : $0" $0 & '


async def test_it_kills_its_worker(lab: Any) -> None:
    end, _ = await lab.run("sh", "-c", ESCAPED + "sleep 0.05; kill -9 $PPID; sleep 60; : $0", lab.marker)
    assert (end.ended_by, "was killed by SIGKILL" in end.message) == (EndedBy.WORKER_LOST, True)
    assert lab.survivors() == []


async def test_it_kills_its_own_group(lab: Any) -> None:
    end, _ = await lab.run("sh", "-c", ESCAPED + "kill -9 0; sleep 60; : $0", lab.marker)
    assert (end.ended_by, end.signal) == (EndedBy.EXIT, signal.SIGKILL)
    assert lab.survivors() == []


async def test_it_stops_its_worker(make_lab: Any) -> None:
    lab = await make_lab(heartbeat_s=0.5)
    end, _ = await lab.run("sh", "-c", ESCAPED + "sleep 0.05; kill -STOP $PPID; sleep 60; : $0", lab.marker)
    assert (end.ended_by, "silent" in end.message) == (EndedBy.WORKER_LOST, True)
    assert lab.survivors() == []


@pytest.mark.parametrize("killed", [True, False], ids=["and kills it", "and waits"])
async def test_it_traces_its_worker_and_never_collects_it(make_lab: Any, killed: bool) -> None:
    """A process that is traced is its tracer's to collect: the engine must not wait for that."""
    lab = await make_lab(heartbeat_s=0.5)
    program = f"""{PRELUDE}
worker = os.getppid()
if libc.ptrace(16, worker, 0, 0) != 0:
    open("refused", "w").close()
elif {killed}:
    os.kill(worker, signal.SIGKILL)
up()
forever()
"""
    launch = lab.launch(lab.launch("").env["PYTHON"], "-c", program, lab.marker)
    future = await lab.start(launch)
    await until(lambda: (lab.directory / "up").exists() or future.done())
    if (lab.directory / "refused").exists():
        lab.engine.stop(launch.attempt_id)
        await future
        pytest.skip("the system does not let a process trace the one that started it")
    end = await asyncio.wait_for(future, 60)
    assert end.ended_by is EndedBy.WORKER_LOST
    assert lab.survivors() == []
    assert (await lab.run("echo fine"))[1] == b"fine\n"


# ---------------------------------------------------------------------- not ours to end

ROOTED = r"""
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>
int main(int count, char **arguments) {
    setgid(0);
    setuid(0); /* all of its users: now no signal of the one who started it reaches it */
    signal(SIGTERM, SIG_IGN);
    close(creat(arguments[1], 0600));
    for (;;) pause();
}
"""


@as_root
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
async def test_what_became_root_is_running_until_it_ends_and_its_worker_says_so(tmp_path: Path) -> None:
    """As with sudo under a daemon that is not root: it cannot be ended, and so it is not said to have ended."""
    interpreter = shutil.which("python3", path="/usr/bin")
    if interpreter is None:
        pytest.skip("needs an interpreter that everybody may run")
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o777)
        shutil.copytree(Path(worker.__file__).parent, place / "local")
        program = place / "rooted"
        compile_to(program, ROOTED)
        program.chmod(0o4755)
        ours, theirs = socket.socketpair()
        command = [interpreter, "-I", "-S", str(place / "local" / "worker.py"), "0.05"]
        process = subprocess.Popen(command, stdin=theirs.fileno(), user=NOBODY, group=NOBODY, extra_groups=[])
        theirs.close()
        ours.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=ours)
        rooted = 0
        try:
            await _told(reader, "ready")
            launch = Launch(
                attempt_id="t.1",
                task_id="t",
                argv=(str(program), str(place / "up")),
                env={},
                cwd=name,
                grace_s=0.05,
                max_result_bytes=1000,
                result_path=f"{name}/result",
                log_path=f"{name}/log",
                index_path=f"{name}/idx",
            )
            writer.write(encoded_run(launch))
            rooted = (await _told(reader, "spawned"))["pid"]
            await until((place / "up").exists)
            if Path(f"/proc/{rooted}").stat().st_uid != 0:
                pytest.skip("no program becomes root here: nosuid, or no new privileges")
            writer.write(b'{"stop": "t.1", "grace_s": 0.05}\n')
            for _ in range(10):  # it goes on to say that it lives, and does not say that the attempt ended
                await _told(reader, "alive", never="exit")
            os.kill(rooted, signal.SIGKILL)
            assert (await _told(reader, "exit"))["exit"]["ended_by"] == "stopped"
        finally:
            writer.close()
            process.kill()
            await asyncio.to_thread(process.wait)
            with contextlib.suppress(ProcessLookupError):
                os.kill(rooted or 1 << 22, signal.SIGKILL)


async def _told(reader: asyncio.StreamReader, what: str, never: str = "") -> Any:
    """The next message of this type."""
    while True:
        line = await asyncio.wait_for(reader.readline(), 60)
        assert line, "the worker has left"
        message = json.loads(line)
        assert message["type"] != never
        if message["type"] == what:
            return message


# ---------------------------------------------------------------------- more than there is


async def test_it_writes_as_fast_as_it_can(lab: Any) -> None:
    end, output = await lab.run("sh", "-c", "cat /dev/zero; : $0", lab.marker, max_output_bytes=200_000_000)
    assert end.ended_by is EndedBy.OUTPUT_LIMIT
    assert (end.output_bytes, len(output)) == (200_000_000, 200_000_000)
    assert lab.survivors() == []


async def test_it_takes_more_memory_than_it_may(lab: Any) -> None:
    """The limit is one of address space: the program is told no, and what it makes of that is its own exit."""
    limits = ResourceLimits(memory_bytes=256 << 20)
    end, output = await lab.run(lab.python, "-c", "x = bytearray(1 << 30)", limits=limits)
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 1)
    assert b"MemoryError" in output


async def test_it_takes_more_time_than_it_may(lab: Any) -> None:
    limits = ResourceLimits(cpu_s=1)
    end, _ = await lab.run("sh", "-c", "while :; do :; done; : $0", lab.marker, limits=limits)
    assert (end.ended_by, end.signal) == (EndedBy.EXIT, signal.SIGXCPU)


BOMB = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def respawn(left):
    for n in range(left):
        if os.fork() == 0:
            if n % 3 == 0:
                os.setsid()
            end = time.monotonic() + 120
            while time.monotonic() < end:
                child = os.fork()
                if child == 0:
                    time.sleep(0.2)
                    os._exit(0)
                os.waitpid(child, 0)
            os._exit(0)
respawn(MANY)
up()
forever()
"""


@pytest.mark.parametrize("many", [50, pytest.param(300, marks=pytest.mark.slow)])
async def test_it_respawns_what_is_killed(lab: Any, many: int) -> None:
    launch = lab.launch(lab.python, "-c", PRELUDE + BOMB.replace("MANY", str(many)), lab.marker)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id)
    end = await asyncio.wait_for(future, 60)
    assert end.ended_by is EndedBy.STOPPED
    assert end.leftovers >= many
    assert lab.survivors() == []


WANDERER = r"""
#define _GNU_SOURCE
#include <signal.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    time_t end = time(0) + 120;
    signal(SIGCHLD, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    while (time(0) < end) {
        if (fork()) _exit(0); /* the child goes on, in a session of its own: no pid and no group stands still */
        setsid();
    }
}
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
async def test_it_is_another_process_every_tenth_of_a_millisecond(lab: Any) -> None:
    program = lab.directory / f"wanderer-{lab.marker}"
    compile_to(program, WANDERER)
    launch = lab.launch("sh", "-c", f"for i in 1 2 3 4; do {program} & done; touch up; wait; sleep 60", lab.marker)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id)
    assert (await asyncio.wait_for(future, 60)).ended_by is EndedBy.STOPPED
    assert lab.survivors() == []


# ---------------------------------------------------------------------- against its files

RESULTS = {
    "a pipe": ("mkfifo $R", "it is not a regular file"),
    "a directory": ("mkdir $R", "it is not a regular file"),
    "a link to something secret": ("ln -s /etc/passwd $R", "the result file was not read"),
    "a gigabyte": ("truncate -s 1G $R", "it is larger than"),
    "something unreadable": ("ln -s $R $R", "the result file was not read"),
}


@pytest.mark.parametrize("what", RESULTS)
async def test_its_result_is(lab: Any, what: str) -> None:
    script, says = RESULTS[what]
    launch = lab.launch(f"R={lab.directory}/result; {script}; echo done")
    launch = lab.launch(f"R={launch.result_path}; {script}; echo done", result_path=launch.result_path)
    end = await asyncio.wait_for(await lab.start(launch), 60)
    assert (end.exit_code, end.result) == (0, None)
    assert says in end.message


async def test_its_result_is_a_pit(lab: Any) -> None:
    launch = lab.launch("true")
    script = f"printf '[%.0s' $(seq 50000) > {launch.result_path}; printf ']%.0s' $(seq 50000) >> {launch.result_path}"
    end = await asyncio.wait_for(await lab.start(lab.launch(script, result_path=launch.result_path)), 60)
    assert end.result is not None
    assert len(end.result) == 100_000


INSTEAD: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a link": lambda place: place.symlink_to("secret"),
    "a directory": Path.mkdir,
    "a link to a device": lambda place: place.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("which", ["log_path", "index_path"])
@pytest.mark.parametrize("what", INSTEAD)
async def test_something_else_is_in_the_place_of_its_output(lab: Any, which: str, what: str) -> None:
    """Nothing is written through it, and nobody waits for its other end."""
    (lab.directory / "secret").write_text("untouched")
    launch = lab.launch("echo hello; sleep 0.05; echo again")
    INSTEAD[what](Path(getattr(launch, which)))
    end = await asyncio.wait_for(await lab.start(launch), 60)
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 0)
    assert (lab.directory / "secret").read_text() == "untouched"
    if which == "log_path":
        assert end.message.startswith("12 bytes of output were lost: ")
        assert end.output_bytes == 0
    else:
        assert Path(launch.log_path).read_bytes() == b"hello\nagain\n"


async def test_it_deletes_its_log(lab: Any) -> None:
    path = lab.directory / "its.log"
    launch = lab.launch(f"echo one; while [ ! -s {path} ]; do :; done; rm {path}; echo two", log_path=str(path))
    end = await asyncio.wait_for(await lab.start(launch), 60)
    assert (end.ended_by, end.exit_code, end.output_bytes) == (EndedBy.EXIT, 0, 8)
    assert not path.exists()


def test_every_fight_is_in_the_table_of_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    missing = [how for how in FIGHTS if how not in page]
    assert missing == []
