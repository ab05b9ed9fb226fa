"""What a dead daemon leaves is ended: by its workers at once, and by the next daemon if they could not."""

# ruff: noqa: ASYNC220 - processes are started at once here

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.engines.local import orphans, process_tree
from agentd.engines.local.orphans import end_leftovers
from agentd.engines.local.worker import ORPHAN_GRACE_S
from benchlib.processes import alive, marked

from .conftest import until
from .test_trees import ESCAPES

DAEMON = """
import asyncio, os, sys
from agentd.clock import SystemClock
from agentd.config import Workers
from agentd.engines.local.pool import LocalEngine
from agentd.model.launch import Launch

async def main(directory, agent_id, script, marker):
    engine = LocalEngine(Workers(min=1, max=1), agent_id, "boot", SystemClock())
    free = asyncio.Event()
    engine.on_free = free.set
    await engine.open()
    await free.wait()
    launch = Launch(
        attempt_id="t1.1", task_id=agent_id + "-t1", argv=("/bin/sh", "-c", script, marker),
        env={"PATH": os.environ["PATH"]}, cwd=directory,
        log_path=directory + "/log", index_path=directory + "/idx", result_path=directory + "/result",
    )
    worker = engine.claim()
    future = engine.start(worker, launch, lambda pid, started_at: print(pid, started_at, flush=True))
    print(engine.workers()[0].pid, flush=True)
    await future

asyncio.run(main(*sys.argv[1:]))
"""


class Dead:
    """A daemon that is killed while it runs a task, and what it knew."""

    def __init__(self, directory: Path, script: str) -> None:
        self.marker = uuid.uuid4().hex
        self.agent_id = "agent-" + uuid.uuid4().hex
        self.task_id = self.agent_id + "-t1"
        self.daemon = subprocess.Popen(
            [sys.executable, "-c", DAEMON, str(directory), self.agent_id, script, self.marker],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert self.daemon.stdout is not None
        self.worker = int(self.daemon.stdout.readline())
        self.pid, self.started_at = map(int, self.daemon.stdout.readline().split())

    def tree(self) -> list[int]:
        return [pid for pid in marked(self.marker) if pid != self.daemon.pid]

    def is_up(self) -> bool:
        return len(self.tree()) >= 2

    def is_gone(self) -> bool:
        return not self.tree() and not alive(self.worker)

    def kill(self) -> None:
        self.daemon.kill()
        self.daemon.wait()
        assert self.daemon.stdout is not None
        self.daemon.stdout.close()

    def attempt(self) -> tuple[str, int | None, int | None]:
        return self.task_id, self.pid, self.started_at

    def end(self) -> None:
        if self.daemon.poll() is None:
            self.kill()
        for pid in (self.worker, *self.tree()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


@pytest.fixture
def make_dead(tmp_path: Path) -> Iterator[Callable[[str], Dead]]:
    """Makes daemons that can be killed, and ends all that they left."""
    made: list[Dead] = []

    def make(script: str) -> Dead:
        made.append(Dead(tmp_path, script))
        return made[-1]

    yield make
    for dead in made:
        dead.end()


@pytest.mark.parametrize("how", ESCAPES)
async def test_the_workers_of_a_killed_daemon_end_their_trees_and_leave(make_dead: Any, how: str) -> None:
    dead = make_dead(ESCAPES[how] + "sleep 60")
    await until(dead.is_up)
    dead.kill()
    await until(dead.is_gone, 50)


async def test_sigterm_hurries_a_worker_whose_daemon_is_gone(make_dead: Any) -> None:
    async def took_s(*, hurried: bool) -> float:
        dead = make_dead("trap '' TERM; " + ESCAPES["deaf to SIGTERM"] + "while :; do sleep 1; done; : $0")
        await until(dead.is_up)
        dead.kill()
        begun = time.monotonic()
        if hurried:
            os.kill(dead.worker, signal.SIGTERM)
        await until(dead.is_gone)
        return time.monotonic() - begun

    took = [await took_s(hurried=True)]
    slow = ORPHAN_GRACE_S  # at least; what other load adds is added to both
    while took[-1] >= slow:
        slow = max(slow, await took_s(hurried=False))
        assert len(took) < 5, f"as slow as without a signal, {slow}: {took}"
        took.append(await took_s(hurried=True))


async def test_sigterm_does_not_make_a_worker_leave_its_daemon(lab: Any) -> None:
    launch = lab.launch("sleep 0.2; echo done")
    future = await lab.start(launch)
    os.kill(lab.worker_pid(launch.task_id), signal.SIGTERM)
    assert (await future).exit_code == 0


@pytest.mark.parametrize("how", ESCAPES)
async def test_a_worker_that_cannot_act_is_ended_with_its_tree_by_the_next_daemon(
    make_dead: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "KILL_S", 60.0)
    dead = make_dead(ESCAPES[how] + "sleep 60")
    await until(dead.is_up)
    os.kill(dead.worker, signal.SIGSTOP)
    dead.kill()
    begun = time.monotonic()
    ended = await asyncio.to_thread(end_leftovers, dead.agent_id, [dead.attempt()])
    assert time.monotonic() - begun < 60.0  # it was not waited for in vain
    assert ended >= 3  # the worker, and two at least of a tree that may still be growing
    assert dead.tree() == []
    assert not alive(dead.worker)
    assert await asyncio.to_thread(end_leftovers, dead.agent_id, [dead.attempt()]) == 0


@pytest.mark.parametrize("how", ESCAPES)
async def test_what_is_left_without_any_worker_is_found_by_its_tag_or_its_brand(make_dead: Any, how: str) -> None:
    dead = make_dead(ESCAPES[how] + "sleep 60")
    await until(dead.is_up)
    os.kill(dead.daemon.pid, signal.SIGSTOP)  # so that it does not clean up
    os.kill(dead.worker, signal.SIGKILL)
    dead.kill()
    await until(dead.is_up)  # still; one that is being executed shows no command line for a moment
    await asyncio.to_thread(end_leftovers, dead.agent_id, [(dead.task_id, None, None)])
    assert dead.tree() == []


async def test_what_cleared_its_environment_is_found_by_its_session(make_dead: Any) -> None:
    dead = make_dead('env -i /bin/sh -c "sleep 60; : $0" & env -i /bin/sleep 60')
    await until(dead.is_up)
    os.kill(dead.daemon.pid, signal.SIGSTOP)
    os.kill(dead.worker, signal.SIGKILL)
    os.kill(dead.pid, signal.SIGKILL)  # the leader of the session is gone, its members are not
    dead.kill()
    await until(lambda: len(dead.tree()) == 1)
    assert await asyncio.to_thread(end_leftovers, dead.agent_id, [dead.attempt()]) >= 1
    assert dead.tree() == []


async def test_a_stranger_with_the_number_of_an_old_process_is_spared(lab: Any) -> None:
    agent_id, task_id = uuid.uuid4().hex, uuid.uuid4().hex
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        started_at = process_tree.started_at(stranger.pid)
        assert started_at is not None
        for recorded in (started_at - 1, started_at + 1, None):
            assert await asyncio.to_thread(end_leftovers, agent_id, [(task_id, stranger.pid, recorded)]) == 0
        assert stranger.poll() is None
        assert await asyncio.to_thread(end_leftovers, agent_id, [(task_id, stranger.pid, started_at)]) == 1
    finally:
        stranger.kill()
        stranger.wait()


async def test_the_new_daemon_spares_itself_and_what_it_runs_under() -> None:
    mine = uuid.uuid4().hex
    code = (
        f"from agentd.engines.local.orphans import end_leftovers\nprint(end_leftovers('a', [('{mine}', None, None)]))"
    )
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", '"$0" -c "$1"; echo shell lives', sys.executable, code,
        env={**os.environ, "AGENTD_TASK_ID": mine, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert output == b"0\nshell lives\n"


async def test_a_tag_is_found_wherever_it_stands_in_the_environment() -> None:
    for env, value in (
        ({"TAG": "first", "B": "2"}, "first"),
        ({"A": "1", "TAG": "last"}, "last"),
        ({"A": "1", "XTAG": "no", "B": "TAG=no"}, None),
        ({"TAG": ""}, ""),
    ):
        process = subprocess.Popen(["/bin/sleep", "60"], env=env)
        try:
            await until(Path("/proc", str(process.pid), "environ").read_bytes)  # it is being executed
            assert process_tree.tag(process.pid, b"TAG") == value
        finally:
            process.kill()
            process.wait()
    assert process_tree.tag(process.pid, b"TAG") is None
