"""An attempt is over when its whole tree is gone, whatever the tree does about it."""

# ruff: noqa: ASYNC240 - small files are read at once here

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from agentd.model.launch import EndedBy
from benchlib.processes import children, stat_of

from .conftest import until

#: Each leaves `sleep` under the marker behind, if it can; $0 is the marker.
ESCAPES = {
    "in the background": 'sh -c "sleep 60; : $0" & ',
    "in a session of its own": 'setsid sh -c "sleep 60; : $0" & ',
    "twice removed": '(setsid sh -c "(sleep 60; : $0) & sleep 60; : $0" &) & ',
    "with a cleared environment": 'env -i /usr/bin/setsid /bin/sh -c "sleep 60; : $0" & ',
    "deaf to SIGTERM": "setsid sh -c \"trap '' TERM HUP; while :; do sleep 1; done; : $0\" & ",
    "stopped": 'setsid sh -c "kill -STOP \\$\\$; : $0" & ',
}


def lives(lab: Any, count: int) -> bool:
    return len(lab.survivors()) >= count


def state(pid: int) -> str:
    return (stat_of(pid) or [""])[0]


@pytest.mark.parametrize("how", ESCAPES)
async def test_what_outlives_a_clean_exit_is_ended_and_counted(lab: Any, how: str) -> None:
    end, _ = await lab.run("sh", "-c", ESCAPES[how] + "sleep 0.1; exit 0", lab.marker)
    assert (end.ended_by, end.exit_code) == (EndedBy.EXIT, 0)
    assert end.leftovers >= 1
    assert lab.survivors() == []


@pytest.mark.parametrize("how", ESCAPES)
async def test_a_stop_ends_everything(lab: Any, how: str) -> None:
    launch = lab.launch("sh", "-c", ESCAPES[how] + "touch up; wait; sleep 60", lab.marker)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    await until(lambda: lives(lab, 2))
    lab.engine.stop(launch.attempt_id)
    end = await future
    assert end.ended_by is EndedBy.STOPPED
    assert lab.survivors() == []


@pytest.mark.parametrize("how", ESCAPES)
async def test_a_timeout_ends_everything(lab: Any, how: str) -> None:
    end, _ = await lab.run("sh", "-c", ESCAPES[how] + "sleep 60", lab.marker, timeout_s=0.2)
    assert end.ended_by is EndedBy.TIMEOUT
    assert 0.2 <= end.duration_s < 60
    assert lab.survivors() == []


async def test_the_helpers_of_a_script_may_finish_what_they_write(lab: Any) -> None:
    leftovers, tries = 1, 0
    while leftovers:  # a busy machine may give one no turn in its moment
        assert (tries := tries + 1) <= 20
        end, _ = await lab.run("bash", "-c", "exec > >(cat > copy); echo all of it")
        leftovers = end.leftovers
    assert (lab.directory / "copy").read_text() == "all of it\n"


async def test_leftovers_may_clean_up_and_their_output_is_kept(lab: Any) -> None:
    script = (
        "(trap 'echo bye; exit' TERM; touch up; while :; do sleep 0.01; done) & while [ ! -e up ]; do sleep 0.01; done"
    )
    end, output = await lab.run(script, grace_s=50.0)
    assert end.exit_code == 0
    assert b"bye\n" in output
    assert end.leftovers >= 1


async def test_a_tree_that_heeds_sigterm_leaves_long_before_the_grace_is_over(lab: Any) -> None:
    launch = lab.launch("trap 'echo heard; exit 5' TERM; touch up; while :; do sleep 0.01; done", grace_s=60.0)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id)
    end = await future
    assert (end.ended_by, end.exit_code) == (EndedBy.STOPPED, 5)
    assert b"heard\n" in Path(launch.log_path).read_bytes()


async def test_a_stopped_first_process_is_woken_to_hear_sigterm(lab: Any) -> None:
    launch = lab.launch("trap 'exit 5' TERM; touch up; kill -STOP $$; sleep 60", grace_s=60.0)
    future = await lab.start(launch)
    await until(lambda: launch.attempt_id in lab.spawned and state(lab.spawned[launch.attempt_id][0]) == "T")
    lab.engine.stop(launch.attempt_id)
    assert (await future).exit_code == 5


async def test_a_shorter_grace_overrules_a_longer_one(lab: Any) -> None:
    launch = lab.launch("trap '' TERM; touch up; while :; do sleep 0.01; done")
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    lab.engine.stop(launch.attempt_id, 600.0)
    lab.engine.stop(launch.attempt_id, 0.0)
    end = await future
    assert (end.ended_by, end.signal) == (EndedBy.STOPPED, signal.SIGKILL)


async def test_stopping_what_is_unknown_or_over_does_nothing(lab: Any) -> None:
    lab.engine.stop("nobody.1")
    launch = lab.launch("true")
    end = await (await lab.start(launch))
    lab.engine.stop(launch.attempt_id)
    assert end.ended_by is EndedBy.EXIT
    assert (await lab.run("echo fine"))[1] == b"fine\n"


async def test_a_program_that_forks_faster_than_one_can_read_is_ended(lab: Any) -> None:
    bomb = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
end = time.monotonic() + 120
while time.monotonic() < end:
    if os.fork():  # the parent leaves, the child goes on: a pid that never stands still
        os._exit(0)
    if os.getpid() % 7 == 0:
        os.setsid()
"""
    script = f"for i in 1 2 3; do $PYTHON -c '{bomb}' $0 & done; touch up; wait; sleep 60"
    launch = lab.launch("sh", "-c", script, lab.marker)
    future = await lab.start(launch)
    await until((lab.directory / "up").exists)
    await asyncio.sleep(0.2)
    lab.engine.stop(launch.attempt_id, 0.0)
    async with asyncio.timeout(60):
        await future
    assert lab.survivors() == []


async def test_a_timeout_holds_while_the_daemon_is_busy(lab: Any) -> None:
    launch = lab.launch("sh", "-c", "sleep 60; : $0", lab.marker, timeout_s=0.1)
    future = await lab.start(launch)
    await until(lambda: launch.attempt_id in lab.spawned)
    deadline = time.monotonic() + 60
    while lab.survivors() and time.monotonic() < deadline:
        time.sleep(0.01)  # noqa: ASYNC251 - the loop is blocked on purpose
    assert lab.survivors() == []
    assert (await future).ended_by is EndedBy.TIMEOUT


async def test_no_zombie_is_left_in_the_worker(lab: Any) -> None:
    await lab.run("sh", "-c", ESCAPES["twice removed"] + "sleep 0.05", lab.marker)
    workers = {view.pid for view in lab.engine.workers()}
    assert not workers & children().keys()
