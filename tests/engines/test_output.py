"""The log is what a terminal would show; the index says who wrote what."""

# ruff: noqa: ASYNC240 - small files are read at once here

from __future__ import annotations

import asyncio
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.clock import epoch
from agentd.engines.local.attempt import SPAWNED_AFTER_S
from agentd.engines.local.recorder import CHUNK_BYTES, COALESCE_S
from agentd.model.launch import EndedBy
from tests.written import written

from .conftest import until


def index_of(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


async def test_the_index_covers_the_log_without_a_hole_and_names_the_streams(lab: Any) -> None:
    out, err = written("$((12 * i - 6))", "task1.log"), written("$((12 * i))", "task1.log")
    launch = lab.launch(f"for i in 1 2 3; do echo out $i; {out}; sleep 0.02; echo err $i >&2; {err}; sleep 0.02; done")
    end = await (await lab.start(launch))
    chunks = index_of(launch.index_path)
    assert [chunk["s"] for chunk in chunks] == ["out", "err"] * 3
    log = Path(launch.log_path).read_bytes()
    assert log == b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"
    position = 0
    for chunk in chunks:
        assert chunk["o"] == position
        position += chunk["n"]
    assert position == len(log) == end.output_bytes
    times = [epoch(chunk["t"]) for chunk in chunks]
    assert times == sorted(times) and times[-1] - times[0] >= 0.08
    assert {len(chunk["t"]) for chunk in chunks} == {27}


async def test_the_files_are_for_their_owner_alone(lab: Any) -> None:
    launch = lab.launch("echo x")
    await (await lab.start(launch))
    for path in (launch.log_path, launch.index_path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


async def test_a_short_silent_command_leaves_no_file(lab: Any) -> None:
    launch = lab.launch("true")
    end = await (await lab.start(launch))
    assert end.output_bytes == 0
    assert not Path(launch.log_path).exists() or end.duration_s >= SPAWNED_AFTER_S  # it was no short one
    assert not Path(launch.index_path).exists()


async def test_a_silent_command_has_a_log_to_follow_while_it_runs(lab: Any) -> None:
    launch = lab.launch("sleep 60")
    future = await lab.start(launch)
    await until(Path(launch.log_path).exists)
    assert Path(launch.log_path).read_bytes() == b""
    lab.engine.stop(launch.attempt_id, 0)
    await future
    assert not Path(launch.index_path).exists()


async def test_a_line_can_be_read_in_the_log_and_in_the_index_while_the_task_runs(lab: Any) -> None:
    launch = lab.launch("echo hello; sleep 60")
    future = await lab.start(launch)
    await until(lambda: Path(launch.log_path).exists() and Path(launch.log_path).read_bytes() == b"hello\n")
    await until(lambda: Path(launch.index_path).exists() and index_of(launch.index_path))
    assert index_of(launch.index_path)[0]["n"] == 6
    assert not future.done()
    lab.engine.stop(launch.attempt_id, 0)
    await future


async def test_a_link_in_place_of_the_log_is_not_followed(lab: Any) -> None:
    launch = lab.launch("echo x")
    target = lab.directory / "precious"
    target.write_text("mine")
    os.symlink(target, launch.log_path)
    end = await (await lab.start(launch))
    assert end.exit_code == 0
    assert "2 bytes of output were lost: a link, or something that is no file, is in the place" in end.message
    assert target.read_text() == "mine"


async def test_bytes_that_are_no_text_and_very_long_lines_are_kept_as_they_are(lab: Any) -> None:
    blob = bytes(range(256)) * 4096
    (lab.directory / "blob").write_bytes(blob)
    all_of_it = written(len(blob) + 10_000_000, "task1.log")
    end, output = await lab.run(f"cat blob; head -c 10000000 /dev/zero | tr '\\0' x; {all_of_it}; cat blob >&2")
    assert output == blob + b"x" * 10_000_000 + blob
    assert end.output_bytes == len(output)


async def test_a_large_log_has_a_small_index(lab: Any) -> None:
    launch = lab.launch("head -c 100000000 /dev/zero")
    end = await (await lab.start(launch))
    assert end.output_bytes == os.stat(launch.log_path).st_size == 100_000_000
    chunks = index_of(launch.index_path)
    assert len(chunks) <= 2 * (100_000_000 / CHUNK_BYTES) + end.duration_s / COALESCE_S + 1
    assert os.stat(launch.index_path).st_size < 80 * len(chunks)
    assert sum(chunk["n"] for chunk in chunks) == 100_000_000


@pytest.mark.parametrize("size", [1, 1000, 70_000, 3_000_000])
async def test_the_log_holds_exactly_the_limit(lab: Any, size: int) -> None:
    end, output = await lab.run("yes", max_output_bytes=size)
    assert end.ended_by is EndedBy.OUTPUT_LIMIT
    assert end.output_bytes == len(output) == size


async def test_output_of_exactly_the_limit_is_allowed(lab: Any) -> None:
    end, output = await lab.run("head -c 5000 /dev/zero", max_output_bytes=5000)
    assert (end.ended_by, end.exit_code, len(output)) == (EndedBy.EXIT, 0, 5000)


async def test_one_byte_more_in_the_last_moment_is_too_much(lab: Any) -> None:
    end, output = await lab.run("head -c 5001 /dev/zero", max_output_bytes=5000)
    assert (end.ended_by, len(output)) == (EndedBy.OUTPUT_LIMIT, 5000)


async def test_a_pipe_that_a_stranger_holds_is_not_waited_for(lab: Any) -> None:
    """The task hands its standard output to a process that is none of its own, over a socket."""
    stranger = """
import array, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("door")
server.listen()
print("open", flush=True)
peer, _ = server.accept()
_, parts, _, _ = peer.recvmsg(1, socket.CMSG_SPACE(4))
held = array.array("i", parts[0][2])[0]
print("held", flush=True)
sys.stdin.read()
"""
    visitor = """
import array, socket
peer = socket.socket(socket.AF_UNIX)
peer.connect("door")
print("handed over", flush=True)
peer.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", stranger, cwd=lab.directory, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert await process.stdout.readline() == b"open\n"
        end, output = await lab.run(sys.executable, "-c", visitor)
        assert await process.stdout.readline() == b"held\n"
        assert (end.exit_code, output) == (0, b"handed over\n")
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting needs more rights")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


#: Writes more than the disk takes, then one byte: when that was read, all before it was kept, or lost.
FILLS = """
import fcntl, os, termios, time
for size in (250_000, 1):
    while size:
        size -= os.write(1, bytes(size))
    while any(fcntl.ioctl(1, termios.FIONREAD, bytes(4))):
        time.sleep(0.01)
open("full", "w").close()
while not os.path.exists("room"):
    time.sleep(0.01)
print("last")
"""


async def test_a_full_disk_costs_output_and_not_the_task(lab: Any, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * 100_000)
    places = {"log_path": str(small_disk / "log"), "index_path": str(small_disk / "idx")}
    launch = lab.launch(sys.executable, "-c", FILLS, **places)
    future = await lab.start(launch)
    await until((lab.directory / "full").exists)
    assert os.statvfs(small_disk).f_bfree == 0
    (small_disk / "ballast").unlink()
    (lab.directory / "room").touch()
    end = await future
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 0)
    log = Path(launch.log_path).read_bytes()
    assert log.endswith(b"\0last\n")
    lost = 250_001 - (len(log) - 5)
    assert 0 < lost < 250_000
    assert f"{lost} bytes of output were lost: No space left on device" in end.message
    chunks = index_of(launch.index_path)
    assert sum(chunk.get("lost", 0) for chunk in chunks) == lost
    assert "lost" not in chunks[-1]  # what followed, in one chunk or several, stands after the gap
    assert chunks[-1]["o"] + chunks[-1]["n"] == len(log)
    assert sum(chunk.get("n", 0) for chunk in chunks) == len(log)


async def test_where_the_disk_takes_no_line_of_the_index_the_end_says_of_how_many_bytes(
    lab: Any, small_disk: Path
) -> None:
    fill = small_disk / "ballast"
    with pytest.raises(OSError, match="No space left"), fill.open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(4096))
    launch = lab.launch(f"echo out; {written(4, 'task1.log')}; echo error >&2", index_path=str(small_disk / "idx"))
    end = await (await lab.start(launch))
    assert Path(launch.log_path).read_bytes() == b"out\nerror\n"
    assert Path(launch.index_path).read_bytes() == b""
    assert end.message == "the stream of 10 bytes of output is not known: No space left on device"
