"""What a launch may be, and what its exit says."""

# ruff: noqa: ASYNC240 - small files are read at once here

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local.attempt import SPAWNED_AFTER_S
from agentd.model.launch import EndedBy, Exit, ResourceLimits

from .conftest import until


async def test_the_exit_code_output_and_usage_are_reported(lab: Any) -> None:
    end, output = await lab.run("echo out; echo err >&2; exit 3")
    assert (end.ended_by, end.exit_code, end.signal) == (EndedBy.EXIT, 3, None)
    assert sorted(output.splitlines()) == [b"err", b"out"]
    assert end.output_bytes == 8
    assert end.duration_s is not None and end.duration_s < 10
    assert end.usage is not None and end.usage.user_s is not None


async def test_the_peak_memory_is_the_tasks_own_or_unknown(lab: Any) -> None:
    end, _ = await lab.run(f"{sys.executable} -c 'x = bytearray(b\"x\") * (64 << 20)'")
    assert end.usage is not None and end.usage.max_rss_bytes is not None and end.usage.max_rss_bytes > 64 << 20
    end, _ = await lab.run("true")  # smaller than the worker it was counted with until its exec
    assert end.usage is not None and end.usage.max_rss_bytes is None


async def test_a_signal_is_reported_as_one(lab: Any) -> None:
    end, _ = await lab.run("kill -TERM $$")
    assert (end.ended_by, end.exit_code, end.signal) == (EndedBy.EXIT, None, 15)


async def test_signals_are_at_their_defaults_in_the_program(lab: Any) -> None:
    end, output = await lab.run("grep -E '^Sig(Ign|Blk)' /proc/self/status")
    assert end.exit_code == 0
    standard = (1 << 31) - 1  # the C library keeps two real-time signals to itself
    assert {int(line.split()[1], 16) & standard for line in output.splitlines()} == {0}


async def test_the_program_leads_a_session_of_its_own_and_holds_no_file_of_the_worker(lab: Any) -> None:
    end, output = await lab.run(
        sys.executable,
        "-c",
        "import os; print(os.getsid(0) == os.getpgrp() == os.getpid(), os.listdir('/proc/self/fd'))",
    )
    assert end.exit_code == 0
    assert output == b"True ['0', '1', '2', '3']\n"  # 3 is the listing itself


async def test_a_long_one_tells_its_pid_and_a_short_one_does_not(lab: Any) -> None:
    short = lab.launch("true")
    ended = await (await lab.start(short))
    long = lab.launch("until [ -e told ]; do sleep 0.01; done")
    future = await lab.start(long)
    await until(lambda: long.attempt_id in lab.spawned)
    (lab.directory / "told").touch()
    end = await future
    assert short.attempt_id not in lab.spawned or ended.duration_s >= SPAWNED_AFTER_S  # a busy machine made it long
    assert lab.spawned[long.attempt_id] == (end.pid, end.pid_started_at)


async def test_the_usage_covers_the_whole_tree(lab: Any) -> None:
    burn = "import time\nt = time.process_time()\nwhile time.process_time() - t < 0.2: pass"
    end, _ = await lab.run("sh", "-c", '"$PYTHON" -c "$0"', burn)
    assert end.usage.user_s + end.usage.system_s >= 0.2


async def test_the_tag_is_in_the_environment_whatever_the_launch_says(lab: Any) -> None:
    _, output = await lab.run("echo $AGENTD_TASK_ID; env | grep -c WORKER", env={"PATH": os.environ["PATH"]})
    assert output == b"task1\n0\n"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cwd": "/nowhere/at/all"}, "cwd /nowhere/at/all does not exist"),
        ({"cwd": "/etc/passwd"}, "cwd /etc/passwd is not a directory"),
        ({"argv": ("/no/such/program",)}, "executable /no/such/program does not exist"),
        ({"argv": ("no-such-program-here", "x")}, "executable 'no-such-program-here' was not found in PATH"),
        ({"argv": ("/etc/passwd",)}, "/etc/passwd is not executable"),
        ({"argv": ("/etc",)}, "/etc is a directory"),
        ({"argv": ("./nonsense",)}, "not a program that the system can run"),
        ({"argv": ("./orphan",)}, "names an interpreter (#!) that does not exist"),
        ({"argv": ("/bin/true", "x" * 200_000)}, "longer than the system allows"),
        ({"argv": ("/bin/true", "a\0b")}, "argv or env is not valid"),
        (
            {"argv": ("/no/such/program",), "limits": ResourceLimits(files=50)},
            "executable /no/such/program does not exist",
        ),
        ({"log_path": "/nowhere/at/all/x.log"}, "output file /nowhere/at/all/x.log cannot be made"),
    ],
)
async def test_what_cannot_be_started_says_why(lab: Any, changes: dict[str, Any], sentence: str) -> None:
    for name, text in (("nonsense", "\x01\x02"), ("orphan", "#!/no/such/interpreter\n")):
        path = lab.directory / name
        path.write_text(text)
        path.chmod(0o755)
    end, _ = await lab.run("true", **changes)
    assert end.ended_by is EndedBy.SPAWN_FAILED
    assert sentence in end.message
    assert (await lab.run("echo fine"))[1] == b"fine\n"  # and the worker serves on


async def test_arguments_that_are_no_unicode_are_a_failed_spawn(lab: Any) -> None:
    end, _ = await lab.run("echo", "\udcff")
    assert end.ended_by is EndedBy.SPAWN_FAILED


async def test_input_larger_than_any_pipe_arrives_whole(lab: Any) -> None:
    text = "0123456789abcde\n" * 100_000
    end, output = await lab.run("sleep 0.05; cat", stdin=text)
    assert end.exit_code == 0
    assert output == text.encode()


async def test_input_that_nobody_reads_does_not_matter(lab: Any) -> None:
    end, output = await lab.run("echo done", stdin="x" * 1_000_000)
    assert (end.exit_code, output) == (0, b"done\n")


async def test_without_input_there_is_none(lab: Any) -> None:
    _, output = await lab.run("wc -c; readlink /proc/self/fd/0")
    assert output.split() == [b"0", b"/dev/null"]


async def test_limits_hold_for_the_program_and_not_for_the_worker(lab: Any) -> None:
    limits = ResourceLimits(memory_bytes=512 << 20, cpu_s=7, files=50)
    _, output = await lab.run("ulimit -v; ulimit -t; ulimit -n", limits=limits)
    assert output.split() == [b"524288", b"7", b"50"]
    assert (await lab.run("ulimit -v"))[1] == b"unlimited\n"


async def test_memory_beyond_the_limit_is_refused(lab: Any) -> None:
    end, output = await lab.run(
        sys.executable, "-c", "bytearray(1 << 30)", limits=ResourceLimits(memory_bytes=256 << 20)
    )
    assert end.exit_code == 1
    assert b"MemoryError" in output


async def test_processor_time_beyond_the_limit_ends_it(lab: Any) -> None:
    end, _ = await lab.run("while :; do :; done", limits=ResourceLimits(cpu_s=1))
    assert end.signal == 24  # SIGXCPU


async def test_a_terminal_is_one(lab: Any) -> None:
    end, output = await lab.run("tty; test -t 1 && stty size; echo >/dev/tty x; echo e >&2", tty=True)
    assert end.exit_code == 0
    lines = output.split(b"\r\n")
    assert lines[0].startswith(b"/dev/pts/")
    assert lines[1:] == [b"24 80", b"x", b"e", b""]
    index = Path(lab.directory / "task1.idx").read_text()
    assert '"s":"err"' not in index


async def test_a_terminal_with_limits_is_one_too(lab: Any) -> None:
    end, output = await lab.run("echo >/dev/tty x; ulimit -n", tty=True, limits=ResourceLimits(files=50))
    assert (end.exit_code, output) == (0, b"x\r\n50\r\n")


async def test_input_is_typed_into_a_terminal_and_ends(lab: Any) -> None:
    end, output = await lab.run("stty -echo; echo ready; cat", tty=True, stdin="one\ntwo")
    assert end.exit_code == 0
    assert output.replace(b"\r", b"").split(b"\n")[-3:] == [b"one", b"two", b""]


async def test_the_result_file_is_handed_over(lab: Any) -> None:
    end, _ = await lab.run("printf '{\"a\": 1}' > task1.result")
    assert (end.result, end.message) == ('{"a": 1}', "")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("head -c 2000 /dev/zero > task1.result", "larger than 1000 bytes"),
        ("mkfifo task1.result", "not a regular file"),
        ("mkdir task1.result", "not a regular file"),
        ("ln -s /etc/passwd task1.result", "was not read"),
    ],
)
async def test_a_result_file_that_cannot_be_one_is_named(lab: Any, command: str, sentence: str) -> None:
    end, _ = await lab.run(command, max_result_bytes=1000)
    assert end.exit_code == 0
    assert end.result is None
    assert sentence in end.message


async def test_an_attempt_is_started_once_however_often_it_is_asked_for(lab: Any) -> None:
    launch = lab.launch("echo once; while ! test -e go; do sleep 0.01; done")
    first = await lab.start(launch)
    second = await lab.start(launch)
    assert second is first
    assert lab.engine.attach(launch.attempt_id) is first
    (lab.directory / "go").touch()
    end = await first
    third = await (await lab.start(launch))
    assert third == end
    assert Path(launch.log_path).read_bytes() == b"once\n"
    with pytest.raises(KeyError):
        lab.engine.attach(launch.attempt_id)


async def test_a_hundred_run_at_once(make_lab: Any) -> None:
    lab = await make_lab(max=100, min=2)
    launches = [lab.launch(f"echo {n}; read x < gate; exit {n}") for n in range(100)]
    os.mkfifo(lab.directory / "gate")
    futures = [await lab.start(launch) for launch in launches]
    assert lab.engine.capacity().busy == 100
    assert lab.engine.claim() is None
    gate = await asyncio.to_thread(os.open, lab.directory / "gate", os.O_WRONLY)
    os.write(gate, b"go\n" * 100)
    async with asyncio.timeout(60):
        ends = await asyncio.gather(*futures)
    os.close(gate)
    assert [end.exit_code for end in ends] == list(range(100))
    assert [Path(launch.log_path).read_text() for launch in launches] == [f"{n}\n" for n in range(100)]


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """The file that moves a process into a control group of 64 MiB."""
    for root, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", root, f"agentd-test-{os.getpid()}")
        try:
            group.mkdir()
            (group / limit).write_text(str(64 << 20))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group / "cgroup.procs"
        group.rmdir()
        return
    pytest.skip("control groups need more rights")


async def test_the_kernel_ending_it_for_lack_of_memory_is_told_from_any_other_kill(
    lab: Any, small_memory: Path
) -> None:
    hog = f"echo $$ > {small_memory} && until [ -e go ]; do sleep 0.01; done && exec $PYTHON -c 'bytearray(1 << 30)'"

    async def grown(command: str) -> Exit:
        launch = lab.launch(command)
        future = await lab.start(launch)
        await until(lambda: launch.attempt_id in lab.spawned)  # its worker has counted the kills before it
        (lab.directory / "go").touch()
        end: Exit = await future
        (lab.directory / "go").unlink()
        return end

    end = await grown(hog)
    assert (end.ended_by, end.signal) == (EndedBy.OUT_OF_MEMORY, 9)
    end = await grown(f"sh -c '{hog.replace(chr(39), chr(34))}'; exit $?")
    assert (end.ended_by, end.exit_code) == (EndedBy.OUT_OF_MEMORY, 137)
    end, _ = await lab.run("sleep 0.05; kill -9 $$")
    assert (end.ended_by, end.signal) == (EndedBy.EXIT, 9)


async def test_an_engine_in_a_task_ends_with_it(lab: Any) -> None:
    """A daemon under test runs in a task of the daemon that the developer uses."""
    program = """
import asyncio, os, sys
from agentd.clock import SystemClock
from agentd.config import Workers
from agentd.engines.local.pool import LocalEngine
from agentd.model.launch import Launch

async def main(directory, marker):
    engine = LocalEngine(Workers(min=1), "inner", "boot", SystemClock())
    free = asyncio.Event()
    engine.on_free = free.set
    await engine.open()
    await free.wait()
    await engine.start(engine.claim(), Launch(
        attempt_id="i.1", task_id="i", argv=("/bin/sh", "-c", "setsid sleep 60 & touch up; sleep 60; : $0", marker),
        env={"PATH": os.environ["PATH"]}, cwd=directory,
        log_path=directory + "/i.log", index_path=directory + "/i.idx", result_path=directory + "/i.result",
    ), print)

asyncio.run(main(*sys.argv[1:]))
"""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])}
    launch = lab.launch(sys.executable, "-c", program, str(lab.directory), lab.marker, env=env)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id)
    assert (await future).ended_by is EndedBy.STOPPED
    assert lab.survivors() == []
