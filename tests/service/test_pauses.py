"""The clock on the wall is set: a pause before a retry is as long as it was meant, and no start time is missed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.clock import rfc3339
from agentd.model.requests import NewSession, NewTask
from agentd.model.task import State
from tests.service.lives import EXITS, RETRY, WORKERS, Boot
from tests.service.scripted_engine import ScriptedEngine
from tests.service.stepping import Clock
from tests.store.simdisk import SimDisk


@pytest.fixture
def boot(tmp_path: Path) -> Iterator[Boot]:
    engine = ScriptedEngine(WORKERS, set(), {})
    boot = Boot(1, tmp_path, SimDisk(), Clock(1_790_000_000.0), 1, engine, lambda _: None, lambda *_: None)
    boot.start()
    yield boot
    boot.end()


@pytest.mark.parametrize("jump_s", [-3600.0, 0.0, 3600.0])
def test_a_pause_takes_as_long_whatever_the_clock_is_set_to(boot: Boot, jump_s: float) -> None:
    boot.loop.finished(boot.service.create_session(NewSession(session_id="s"), None))
    new = NewTask(spec={"command": "false"}, retry=RETRY)
    task = boot.loop.finished(boot.service.submit("s", new, None, "test")).value
    boot.loop.advance(1.0)
    boot.loop.call_soon(boot.engine.end, f"{task.task_id}.1", EXITS["failed"])
    boot.loop.advance(0.1)
    boot.clock.ahead += jump_s
    boot.loop.advance(RETRY.backoff_s - 0.2)
    assert not boot.engine.running
    boot.loop.advance(0.3)
    assert list(boot.engine.running) == [f"{task.task_id}.2"]


def test_a_start_time_that_comes_again_after_what_is_needed_has_ended_is_not_missed(boot: Boot) -> None:
    boot.loop.finished(boot.service.create_session(NewSession(session_id="s"), None))
    need = boot.loop.finished(boot.service.submit("s", NewTask(spec={"command": "true"}), None, "test")).value
    later = NewTask(spec={"command": "true"}, needs=(need.task_id,), not_before=rfc3339(boot.clock.time() + 1.0))
    task = boot.loop.finished(boot.service.submit("s", later, None, "test")).value
    boot.loop.advance(2.0)  # it comes while the other one runs,
    boot.clock.ahead -= 3600.0  # and is to come again
    boot.loop.call_soon(boot.engine.end, f"{need.task_id}.1", EXITS["done"])
    boot.loop.advance(3000.0)
    assert boot.loop.finished(boot.service.find(task.task_id)).state is State.WAITING
    boot.loop.advance(700.0)
    assert list(boot.engine.running) == [f"{task.task_id}.1"]
