"""Whatever happens in whatever order: each attempt ends once, and nothing survives."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from typing import Any

import pytest

from agentd.model.launch import EndedBy, Launch

from .conftest import until
from .test_trees import ESCAPES


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_attempt_ends_once_and_nothing_survives(make_lab: Any, seed: int) -> None:
    dice = random.Random(seed)
    lab = await make_lab(min=1, max=6, max_restarts=1000, max_tasks=3, idle_s=0.05, heartbeat_s=0.2)
    ends: dict[str, list[EndedBy]] = {}

    async def attempt(launch: Launch) -> None:
        future = await lab.start(launch)
        end = await future
        ends.setdefault(launch.attempt_id, []).append(end.ended_by)

    def strike() -> None:
        views = lab.engine.workers()
        if dice.random() < 0.97:  # most workers get as far as to work, also where strikes are faster than a start
            views = [view for view in views if view.state != "starting"]
        match dice.choice(["kill", "freeze", "stop", "term", "scale", "nothing", "nothing"]):
            case "kill" if views:
                send(dice.choice(views).pid, signal.SIGKILL)
            case "freeze" if views:
                send(dice.choice(views).pid, signal.SIGSTOP)
            case "term" if views:
                send(dice.choice(views).pid, signal.SIGTERM)
            case "stop":
                lab.engine.stop(f"task{dice.randint(1, 40)}.1", dice.choice([0.0, 0.05, None]))
            case "scale":
                lab.engine.scale(dice.randint(0, 2), dice.randint(2, 6))

    launches = []
    for _ in range(40):
        script = dice.choice(list(ESCAPES.values())) + dice.choice(["true", "sleep 0.1", "yes", "sleep 60", "exit 3"])
        timeout_s = dice.choice([0.05, 0.3, 1.0])
        launches.append(
            lab.launch("sh", "-c", script, lab.marker, timeout_s=timeout_s, max_output_bytes=100_000, grace_s=0.05)
        )
    async with asyncio.timeout(200), asyncio.TaskGroup() as group:
        running = [group.create_task(attempt(launch)) for launch in launches]
        while not all(task.done() for task in running):
            await asyncio.sleep(dice.random() * 0.05)
            strike()
    assert {name: len(found) for name, found in ends.items()} == {launch.attempt_id: 1 for launch in launches}
    # Worn workers that were frozen while they left are killed a little later; of the trees nothing may be left at all.
    assert lab.survivors() == []
    lab.engine.scale(1, 2)
    ended_by = EndedBy.WORKER_LOST
    async with asyncio.timeout(120):
        while ended_by is EndedBy.WORKER_LOST:  # a frozen idle one, or one that had no turn for three heartbeats
            end, output = await lab.run("echo fine")
            ended_by = end.ended_by
    assert (ended_by, output) == (EndedBy.EXIT, b"fine\n")
    await until(lambda: lab.engine.capacity().busy == 0)


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # a worker that was lost and not replaced yet
