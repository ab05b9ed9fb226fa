"""Runs of workflows: what starts when, what is recorded; a stop or a crash at any point loses and doubles nothing."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentd.config import Limits, Workers
from agentd.errors import (
    Draining,
    IdempotencyConflict,
    Invalid,
    InvalidTransition,
    QueueFull,
    RunNotFound,
    SessionActive,
    SessionReadOnly,
    WorkflowInvalid,
)
from agentd.model.reports import ProgressReport, ReportedUsage
from agentd.model.requests import AskedBudget, NewTask, PolicyChanges, SessionPatch, TaskQuery
from agentd.model.run import RunState
from agentd.model.run_views import NewRun, RunQuery, RunView, StepState, StepView
from agentd.model.task import Task, TriggerType
from agentd.service import run_driver, workflows

from .conftest import Build
from .house import House, key_of, until

WORKERS = Workers(min=2, max=4, grace_s=0.2)


async def begun(house: House, source: str, session_id: str = "s", key: str | None = None, **inputs: Any) -> RunView:
    new = NewRun(source=source, inputs=inputs)
    return (await house.service.run_workflow(session_id, new, key_of(key) if key else None, "test")).value


async def ended(house: House, run: RunView) -> RunView:
    """The run once it has ended."""
    ledger = await house.store.ledger(run.session_id)
    await until(lambda: not ledger.runs[run.run_id].live)
    return await house.service.workflow_run(run.run_id)


async def done(house: House, source: str, **inputs: Any) -> RunView:
    return await ended(house, await begun(house, source, **inputs))


def steps(run: RunView) -> dict[str, StepView]:
    assert isinstance(run.steps, tuple)
    return {step.id: step for step in run.steps}


def states(run: RunView) -> dict[str, str]:
    return {name: step.state.value for name, step in steps(run).items()}


async def tasks_of(house: House, run: RunView) -> dict[str, list[Task]]:
    """All tasks of the run by step, the finished ones from their records too."""
    found: dict[str, list[Task]] = {}
    page = await house.service.list_tasks(TaskQuery(limit=1000, sort="created_at"), run.session_id)
    for task in page.data:
        if task.workflow is not None and task.workflow.run_id == run.run_id:
            found.setdefault(task.workflow.step, []).append(task)
    return found


@pytest.fixture
async def open_house(build: Build) -> House:
    house = build(workers=WORKERS)
    await house.open()
    await house.session(max_parallel=4)
    return house


JOIN = """
name: join
inputs: {who: {default: world}}
steps:
  - {id: a, run: 'echo "said=hello" >> "$AGENTD_OUTPUT"; echo a > "$AGENTD_ARTIFACTS/a"', outputs: [said]}
  - {id: b, run: 'until [ -e "$AGENTD_ARTIFACTS/a" ]; do :; done; echo "to=$WHO" >> "$AGENTD_OUTPUT"',
     env: {WHO: "${{ inputs.who }}"}, outputs: [to]}
  - {id: c, needs: [a, b], run: 'echo "all=$SAID $TO" >> "$AGENTD_OUTPUT"', outputs: [all],
     env: {SAID: "${{ steps.a.outputs.said }}", TO: "${{ steps.b.outputs.to }}"}}
"""


async def test_steps_run_beside_each_other_and_hand_on_what_a_later_one_needs(open_house: House) -> None:
    run = await done(open_house, JOIN, who="you")
    assert (run.state, run.where, run.name) == (RunState.COMPLETED, (), "join")
    assert steps(run)["c"].outputs == {"all": "hello you"}
    assert steps(run)["c"].needs == ("a", "b")
    tasks = await tasks_of(open_house, run)
    assert {name: len(each) for name, each in tasks.items()} == {"a": 1, "b": 1, "c": 1}
    [task] = tasks["a"]
    assert (task.trigger.type, task.trigger.source, task.name) == (TriggerType.WORKFLOW, "join", "a")
    assert task.workflow is not None and task.workflow.run_id == run.run_id


async def test_a_matrix_an_if_and_a_failure_that_does_not_matter(open_house: House) -> None:
    run = await done(
        open_house,
        """
steps:
  - {id: m, matrix: {n: [1, 2]}, run: 'echo "n=$N" >> "$AGENTD_OUTPUT"', env: {N: "${{ matrix.n }}"}, outputs: [n]}
  - {id: may, run: exit 3, continue_on_error: true}
  - {id: after, needs: [m, may], if: "steps.m.outputs.n == 2 && steps.may.state == 'failed'", run: "true"}
  - {id: never, needs: [m], if: "steps.m.outputs.n == 1", run: "true"}
  - {id: behind, needs: [never], run: "true"}
""",
    )
    assert run.state is RunState.COMPLETED
    assert states(run) == {
        "m[n=1]": "completed",
        "m[n=2]": "completed",
        "may": "failed",
        "after": "completed",
        "never": "skipped",
        "behind": "skipped",
    }
    assert steps(run)["never"].reason == "its if is false"
    assert steps(run)["m[n=2]"].matrix == {"n": 2}


async def test_a_failure_ends_the_run_and_says_where_and_cleaning_up_runs_all_the_same(open_house: House) -> None:
    run = await done(
        open_house,
        """
steps:
  - {id: a, run: exit 3}
  - {id: b, needs: [a], run: "true"}
  - {id: slow, run: sleep 60, timeout: 0.2s}
  - {id: clean, needs: [a, b], if: always(), run: "true"}
""",
    )
    assert (run.state, run.where) == (RunState.FAILED, ("a", "slow"))
    assert states(run) == {"a": "failed", "b": "skipped", "slow": "failed", "clean": "completed"}
    assert steps(run)["b"].reason == "step a, which it needs, failed"


async def test_a_step_that_is_retried_hands_on_what_its_last_attempt_wrote(open_house: House) -> None:
    run = await done(
        open_house,
        """
steps:
  - id: a
    run: |
      echo "try=$AGENTD_ATTEMPT" >> "$AGENTD_OUTPUT"; [ "$AGENTD_ATTEMPT" = 1 ] || exit 0
      echo "first=1" >> "$AGENTD_OUTPUT"; exit 1
    retry: {max: 2, backoff_s: 0}
    outputs: [try, first]
""",
    )
    assert run.state is RunState.COMPLETED
    assert steps(run)["a"].outputs == {"try": "2"}


async def test_what_a_step_writes_that_nobody_may_take_is_refused_and_said(open_house: House) -> None:
    run = await done(
        open_house,
        """
steps:
  - {id: odd, run: 'echo "other=1" >> "$AGENTD_OUTPUT"', outputs: [x]}
  - {id: large, run: 'head -c 70000 /dev/zero | tr "\\0" a >> "$AGENTD_OUTPUT"', outputs: [x]}
  - {id: fifo, run: 'mkfifo "$AGENTD_OUTPUT"', outputs: [x]}
  - {id: link, run: 'ln -s /etc/hostname "$AGENTD_OUTPUT"', outputs: [x]}
  - {id: none, run: "true", outputs: [x]}
""",
    )
    assert run.state is RunState.COMPLETED
    refused = {name: step.refused for name, step in steps(run).items()}
    assert "other is not among the outputs" in refused["odd"][0]
    assert "larger than 64 KiB" in refused["large"][0]
    assert refused["fifo"] == refused["link"] == refused["none"] == ()
    assert all(step.outputs == {} for step in steps(run).values())


async def test_what_the_steps_of_a_run_hand_on_is_bounded_together(
    open_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_driver, "RUN_OUTPUT", 10)
    write = 'run: \'echo "x=12345" >> "$AGENTD_OUTPUT"\', outputs: [x]'
    run = await done(open_house, f"steps: [{{id: a, {write}}}, {{id: b, needs: [a], {write}}}]")
    assert [steps(run)[each].outputs for each in "ab"] == [{"x": "12345"}, {}]
    assert "hand files on" in steps(run)["b"].refused[0]


async def test_a_step_that_comes_to_nothing_its_kind_takes_fails_without_a_task(open_house: House) -> None:
    run = await done(
        open_house,
        """
steps:
  - {id: a, run: 'echo "x=/no/such/../place" >> "$AGENTD_OUTPUT"', outputs: [x]}
  - {id: b, needs: [a], kind: shell, spec: {command: "${{ steps.a.outputs.y || '' }}"}}
  - {id: c, needs: [b], if: failure(), run: "true"}
""".replace("outputs: [x]", "outputs: [x, y]"),
    )
    assert (run.state, run.where) == (RunState.FAILED, ("b",))
    assert steps(run)["b"].tasks == () and "command" in (steps(run)["b"].reason or "")
    assert steps(run)["c"].state is StepState.COMPLETED


async def test_nothing_starts_of_what_cannot_be_read_or_has_not_its_inputs(open_house: House) -> None:
    with pytest.raises(WorkflowInvalid, match="line 1"):
        await begun(open_house, "steps: [{id: a, run: true, needs: [b]}]")
    with pytest.raises(Invalid, match="must be given"):
        await begun(open_house, "inputs: {x: {required: true}}\nsteps: [{id: a, run: 'true'}]")
    assert (await open_house.service.workflow_runs("s", RunQuery())).data == ()


async def test_the_same_request_again_makes_no_second_run(open_house: House) -> None:
    first = await begun(open_house, JOIN, key="k")
    again = await open_house.service.run_workflow("s", NewRun(source=JOIN), key_of("k"), "test")
    assert again.replayed and (again.value.run_id, again.value.seq) == (first.run_id, first.seq)
    with pytest.raises(IdempotencyConflict):
        await open_house.service.submit("s", NewTask(spec={"command": "true"}), key_of("k"), "test")
    assert len((await open_house.service.workflow_runs("s", RunQuery())).data) == 1
    await ended(open_house, first)


LONG = """
steps:
  - {id: a, run: sleep 60}
  - {id: b, run: sleep 60}
  - {id: c, needs: [a], run: "true"}
  - {id: last, needs: [c], if: cancelled(), run: "true"}
"""


async def test_a_run_is_cancelled_whole_and_what_runs_always_still_does(open_house: House) -> None:
    run = await begun(open_house, LONG)
    ledger = await open_house.store.ledger("s")
    await until(lambda: ledger.counts["running"] == 2)
    asked = await open_house.service.cancel_run("s", run.run_id)
    assert asked.cancel_requested_at is not None
    over = await ended(open_house, run)
    assert over.state is RunState.CANCELLED
    assert states(over) == {"a": "cancelled", "b": "cancelled", "c": "skipped", "last": "completed"}
    with pytest.raises(InvalidTransition):
        await open_house.service.cancel_run("s", run.run_id)


async def test_cancelling_the_session_cancels_its_runs(open_house: House) -> None:
    run = await begun(open_house, LONG.replace("if: cancelled(), ", ""))
    await open_house.service.cancel_session("s")
    over = await ended(open_house, run)
    assert over.state is RunState.CANCELLED and over.cancel_requested_at is not None
    assert states(over) == {"a": "cancelled", "b": "cancelled", "c": "skipped", "last": "skipped"}


async def test_a_failed_run_resumes_from_where_it_failed(open_house: House) -> None:
    source = """
steps:
  - {id: a, run: 'echo x >> "$AGENTD_ARTIFACTS/a"; echo "v=1" >> "$AGENTD_OUTPUT"', outputs: [v]}
  - {id: b, needs: [a], run: 'test -e "$AGENTD_ARTIFACTS/fixed"'}
  - {id: c, needs: [b], run: 'test "$V" = 1', env: {V: "${{ steps.a.outputs.v }}"}}
"""
    run = await done(open_house, source)
    assert (run.state, run.where) == (RunState.FAILED, ("b",))
    artifacts = open_house.store.path("s") / "artifacts"
    (artifacts / "fixed").touch()
    again = await open_house.service.resume_run("s", run.run_id)
    assert (again.state, again.ended_at, len(again.resumed)) == (RunState.RUNNING, None, 1)
    over = await ended(open_house, run)
    assert over.state is RunState.COMPLETED
    assert len(steps(over)["b"].tasks) == 2 and len(steps(over)["a"].tasks) == 1
    assert (artifacts / "a").read_text() == "x\n"
    with pytest.raises(InvalidTransition, match="nothing"):
        await open_house.service.resume_run("s", run.run_id)
    with pytest.raises(RunNotFound):
        await open_house.service.resume_run("s", "0" * 14)


async def test_a_stop_interrupts_a_run_and_the_next_boot_resumes_it(build: Build, tmp_path: Path) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session(max_parallel=4)
    source = f"steps: [{{id: a, run: 'test -e {tmp_path}/go || sleep 60'}}, {{id: b, needs: [a], run: 'true'}}]"
    run = await begun(house, source)
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.counts["running"] == 1)
    await house.close()
    house = build(workers=WORKERS)
    report = await house.open()
    assert report.interrupted == 0, "a clean stop leaves nothing to be put right"
    found = await ended(house, run)
    assert (found.state, found.where) == (RunState.INTERRUPTED, ("a",))
    (tmp_path / "go").touch()
    await house.service.resume_run("s", run.run_id)
    assert (await ended(house, run)).state is RunState.COMPLETED


async def test_a_run_survives_a_stop_between_its_steps_and_nothing_starts_twice(build: Build) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session()
    house.service._closing = True  # as if it died: ends are recorded, what follows is not
    run = await begun(house, JOIN)
    await house.close()
    for _ in range(2):  # a start that does no more than look
        house = build(workers=WORKERS)
        await house.open(running=False)
        ledger = await house.store.ledger("s")
        await until(lambda: ledger.runs[run.run_id].steps.keys() == {"a", "b"})  # noqa: B023
        await house.close()
    house = build(workers=WORKERS)
    await house.open()
    over = await ended(house, run)
    assert over.state is RunState.COMPLETED
    assert all(len(each) == 1 for each in (await tasks_of(house, run)).values())


async def test_an_end_of_which_nobody_took_note_is_taken_up_at_the_next_start(build: Build) -> None:
    house = build(workers=WORKERS)
    await house.open(running=False)
    await house.session(tasks_kept=0)
    run = await begun(
        house, "steps: [{id: a, run: 'echo v=1 >> $AGENTD_OUTPUT', outputs: [v]}, {id: b, needs: [a], run: 'true'}]"
    )
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.live)
    house.service._closing = True
    await house.run()
    await until(lambda: not ledger.live)
    await house.close()
    house = build(workers=WORKERS)
    await house.open()
    over = await ended(house, run)
    assert over.state is RunState.COMPLETED and steps(over)["a"].outputs == {"v": "1"}
    assert all(len(step.tasks) == 1 for step in steps(over).values())


async def test_a_disk_that_refuses_holds_a_run_back_and_it_goes_on_when_there_is_room(open_house: House) -> None:
    run = await begun(open_house, "steps: [{id: a, run: 'true'}, {id: b, needs: [a], run: 'true'}]")
    open_house.disk.spared = (b"task.finished", b"task.started")
    open_house.disk.refuse_write = errno.ENOSPC
    await until(lambda: open_house.service.held.get(run.run_id))
    open_house.disk.refuse_write = None
    over = await ended(open_house, run)
    assert over.state is RunState.COMPLETED
    assert all(len(step.tasks) == 1 for step in steps(over).values())


async def test_a_run_says_that_the_budget_of_its_session_keeps_its_steps_waiting(house: House) -> None:
    await house.session(budget=AskedBudget(max_tokens=10))
    run = await begun(house, "steps: [{id: a, run: sleep 60}, {id: b, needs: [a], if: always(), run: 'true'}]")
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.counts["running"] == 1)
    assert (await house.service.workflow_run(run.run_id)).held is None
    [task_id] = ledger.tasks
    await house.service.progress(task_id, ProgressReport(usage=ReportedUsage(input_tokens=10)))
    await until(lambda: "b" in ledger.runs[run.run_id].steps)
    why = "the session has used 10 tokens of max_tokens 10"
    assert (await house.service.workflow_run(run.run_id)).held == why
    assert [each.held for each in (await house.service.workflow_runs("s", RunQuery())).data] == [why]
    await house.service.edit_session("s", SessionPatch(policy=PolicyChanges(budget=None)), None)
    over = await ended(house, run)
    assert (over.state, over.held, states(over)["b"]) == (RunState.FAILED, None, "completed")


async def test_more_steps_than_there_is_room_for_come_one_after_the_other_and_that_is_said(build: Build) -> None:
    house = build(limits=Limits(live_tasks_per_session=2), workers=WORKERS)
    await house.open()
    await house.session(max_parallel=2)
    run = await begun(
        house, "steps: [{id: a, matrix: {n: [1, 2, 3, 4, 5]}, run: 'until [ -e go ]; do sleep 0.01; done'}]"
    )
    await until(lambda: "unfinished" in house.service.held.get(run.run_id, ""))
    assert "unfinished" in ((await house.service.workflow_run(run.run_id)).held or "")
    (house.store.path("s") / "workspace" / "go").touch()
    assert (await ended(house, run)).state is RunState.COMPLETED


async def test_a_session_with_a_run_is_deleted_by_force_alone(open_house: House) -> None:
    await begun(open_house, LONG)
    with pytest.raises(SessionActive):
        await open_house.service.delete_session("s", force=False, if_seq=None)
    await open_house.service.delete_session("s", force=True, if_seq=None)
    await until(lambda: not open_house.service._bells)


async def test_a_daemon_that_drains_takes_no_run(open_house: House) -> None:
    open_house.scheduler.draining = True
    with pytest.raises(Draining):
        await begun(open_house, JOIN)


async def test_what_is_shown_is_what_the_journal_says(build: Build) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session(max_parallel=4)
    run = await begun(house, JOIN)
    before = await ended(house, run)
    await house.close()
    (house.store.path("s") / "tasks.json").unlink()
    house = build(workers=WORKERS)
    await house.open()
    assert await house.service.workflow_run(run.run_id) == before
    findings = (await house.service.check()).findings
    assert [each for each in findings if each.session_id is not None] == []


async def test_a_session_that_is_moved_takes_its_runs_along_and_one_that_went_on_resumes_there(
    build: Build, tmp_path: Path
) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session(max_parallel=2)
    over = await done(house, JOIN)
    source = f"steps: [{{id: a, run: 'test -e {tmp_path}/go || sleep 60'}}, {{id: b, needs: [a], run: 'true'}}]"
    run = await begun(house, source)
    ledger = await house.store.ledger("s")
    await until(lambda: ledger.counts["running"] == 1)
    archive = b"".join((await house.service.export_session("s")).blocks)
    await house.service.delete_session("s", force=True, if_seq=None)

    async def blocks() -> AsyncIterator[bytes]:
        yield archive

    await house.service.import_session("s", blocks())
    assert await house.service.workflow_run(over.run_id) == over
    found = await house.service.workflow_run(run.run_id)
    assert (found.state, states(found)) == (RunState.INTERRUPTED, {"a": "interrupted", "b": "skipped"})
    assert "exported" in (found.reason or "")
    (tmp_path / "go").touch()
    await house.service.resume_run("s", run.run_id)
    assert (await ended(house, run)).state is RunState.COMPLETED


async def test_a_damaged_session_shows_its_runs_as_far_as_they_can_be_read(build: Build) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session()
    over = await done(house, JOIN)
    house.service._closing = True  # of this one no step starts any more
    stuck = await begun(house, JOIN)
    await house.close()
    session = house.store.path("s")
    snapshot = (session / "tasks.json").read_bytes()
    house = build(workers=WORKERS)
    await house.open()
    sound = (session / "history/events-000001.jsonl").stat().st_size
    await house.ended((await house.submit()).task_id)
    await house.close()
    (session / "tasks.json").write_bytes(snapshot)
    journal = bytearray((session / "history/events-000001.jsonl").read_bytes())
    journal[sound + 50] ^= 1  # records that are sound follow
    (session / "history/events-000001.jsonl").write_bytes(journal)
    house = build(workers=WORKERS)
    await house.open()
    with pytest.raises(SessionReadOnly):
        await begun(house, JOIN)
    assert (await house.service.workflow_run(over.run_id)).state is RunState.COMPLETED
    runs = (await house.service.workflow_runs("s", RunQuery())).data
    assert [(each.run_id, "damaged" in (each.held or "")) for each in runs] == [
        (stuck.run_id, True),
        (over.run_id, False),
    ]


async def test_500_steps_in_a_row_and_beside_each_other(build: Build) -> None:
    house = build(workers=Workers(min=4, max=4, grace_s=0.2))
    await house.open()
    await house.session(max_parallel=4)
    rows = [f"  - {{id: s{n}, run: 'true'{f', needs: [s{n - 10}]' if n >= 10 else ''}}}\n" for n in range(500)]
    run = await begun(house, "steps:\n" + "".join(rows))
    over = await ended(house, run)
    assert over.state is RunState.COMPLETED
    assert all(len(step.tasks) == 1 for step in steps(over).values())


async def test_wherever_a_crash_cuts_the_journal_the_run_goes_on_and_no_step_is_started_twice(
    build: Build, tmp_path: Path
) -> None:
    house = build(workers=WORKERS)
    await house.open()
    await house.session()
    source = """
steps:
  - {id: a, run: 'echo "v=1" >> "$AGENTD_OUTPUT"', outputs: [v]}
  - {id: b, needs: [a], run: 'test "$V" = 1', env: {V: "${{ steps.a.outputs.v }}"}}
"""
    run = await done(house, source)
    await house.close()
    whole = tmp_path / "whole"
    shutil.copytree(house.store.path("s"), whole)
    head, *records = (whole / "history/events-000001.jsonl").read_bytes().splitlines(keepends=True)
    ends = set()
    for cut in range(2, len(records) + 1):  # from the run's creation on
        home = tmp_path / f"cut-{cut}"
        house = House(home, workers=WORKERS)
        session = house.store.path("s")
        session.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(whole, session)
        (session / "tasks.json").unlink()
        for record in (session / "history").glob("*.json"):
            record.unlink()
        (session / "history/events-000001.jsonl").write_bytes(b"".join([head, *records[:cut]]))
        try:
            await house.open()
            over = await ended(house, run)
        finally:
            await house.close()
        kinds = [json.loads(record)["type"] for record in records[:cut]]
        is_running = kinds.count("task.started") > kinds.count("task.finished")
        assert over.state is (RunState.INTERRUPTED if is_running else RunState.COMPLETED), kinds
        assert all(len(step.tasks) == (step.state is not StepState.SKIPPED) for step in steps(over).values()), kinds
        assert is_running or steps(over)["a"].outputs == {"v": "1"}
        ends.add(over.state)
    assert ends == {RunState.INTERRUPTED, RunState.COMPLETED}


async def test_a_fault_of_agentd_holds_a_run_back_visibly_and_it_goes_on_once_that_is_over(
    open_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_driver, "RETRY_S", 0.02)
    with monkeypatch.context() as broken:
        broken.setattr(run_driver, "next_steps", None)
        run = await begun(open_house, "steps: [{id: a, run: 'true'}, {id: b, needs: [a], run: 'true'}]")
        await until(lambda: "agentd is at fault" in open_house.service.held.get(run.run_id, ""))
    over = await ended(open_house, run)
    assert over.state is RunState.COMPLETED and over.held is None
    assert all(len(step.tasks) == 1 for step in steps(over).values())


async def test_a_run_is_not_resumed_when_as_many_go_on_as_may(
    open_house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = await done(open_house, "steps: [{id: a, run: 'false'}]")
    monkeypatch.setattr(workflows, "LIVE_RUNS", 1)
    other = await begun(open_house, LONG)
    with pytest.raises(QueueFull):
        await open_house.service.resume_run("s", failed.run_id)
    await open_house.service.cancel_run("s", other.run_id)
    await ended(open_house, other)
    await open_house.service.resume_run("s", failed.run_id)
    assert (await ended(open_house, failed)).state is RunState.FAILED
