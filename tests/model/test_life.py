"""Any life of tasks, with any verbs, crashes and recoveries in any order, keeps the promises of the model."""

from __future__ import annotations

from itertools import pairwise

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from agentd.clock import rfc3339
from agentd.errors import InvalidTransition
from agentd.model.changes import applied_to_task, created, new_task
from agentd.model.consequences import after_end, interrupted, stopped_state
from agentd.model.events import (
    AttemptEnd,
    TaskAwaiting,
    TaskCreated,
    TaskEvent,
    TaskFinished,
    TaskProgress,
    TaskQueued,
    TaskRetried,
    TaskSpawned,
    TaskStarted,
    TaskStopRequested,
    decoded,
)
from agentd.model.ids import new_task_id
from agentd.model.task import TERMINAL, Cause, CauseCode, OnInterrupt, Question, State, Task
from agentd.model.transitions import INITIAL, TRANSITIONS

PICK = st.integers(0, 1000)
CAUSES = st.builds(Cause, code=st.sampled_from(CauseCode), message=st.just("because"), exit_code=st.none() | st.just(1))
QUESTION = Question(ask_id="q", prompt="go on?", since="2026-01-02T03:04:05.000006Z")


class Life(RuleBasedStateMachine):
    """A daemon reduced to its rules: what is recorded is applied, and nothing else changes a task."""

    def __init__(self) -> None:
        super().__init__()
        self.journal: list[bytes] = []
        self.tasks: dict[str, Task] = {}
        self.first: dict[str, Task] = {}
        self.ended: dict[str, Task] = {}
        self.boot = 1

    def now(self) -> str:
        return rfc3339(1_000_000_000.0 + len(self.journal))

    def record(self, event: TaskEvent) -> None:
        """Apply, then append: an event that does not apply is never recorded. Then what follows from it."""
        ended = self.applied(event)
        if ended.terminal:
            for follow in after_end(
                {ended.task_id: ended.state},
                lambda needed: [task for task in self.tasks.values() if needed in task.needs],
                self.tasks.get,
                at=self.now(),
                now=0.0,
                due=lambda task: 0.0,
            ):
                self.applied(follow)

    def applied(self, event: TaskEvent) -> Task:
        after = applied_to_task(self.tasks.get(event.task_id), event, len(self.journal) + 1)
        self.journal.append(msgspec.json.encode(event))
        self.tasks[event.task_id] = after
        if after.terminal:
            self.ended.setdefault(event.task_id, after)
        return after

    def pick(self, number: int) -> Task:
        return list(self.tasks.values())[number % len(self.tasks)]

    @rule(needs=st.lists(PICK, max_size=2), again=st.booleans(), delayed=st.booleans())
    def submit(self, needs: list[int], again: bool, delayed: bool) -> None:
        at = self.now()
        needed = tuple({self.pick(n).task_id for n in needs} - self.ended.keys()) if self.tasks else ()
        task = Task(
            task_id=new_task_id("s"), session_id="s", kind="shell", spec={}, state=State.QUEUED, created_at=at,
            needs=needed, on_interrupt=OnInterrupt.RETRY if again else OnInterrupt.FAIL,
        )  # fmt: skip
        task = new_task(task, at=at, waiting=delayed or bool(needed))
        self.record(TaskCreated(at=at, task_id=task.task_id, task=task))
        self.first[task.task_id] = self.tasks[task.task_id]

    @precondition(lambda self: self.tasks)
    @rule(number=PICK, attempt=PICK, data=st.data())
    def anything(self, number: int, attempt: int, data: st.DataObject) -> None:
        """Any event at any task: it applies and is recorded, or it is refused and nothing changed."""
        task, at, cause = self.pick(number), self.now(), data.draw(CAUSES)
        event: TaskEvent = data.draw(
            st.sampled_from(
                [
                    TaskCreated(at=at, task_id=task.task_id, task=task),
                    TaskQueued(at=at, task_id=task.task_id),
                    TaskSpawned(at=at, task_id=task.task_id, attempt=task.attempt, pid=7, pid_started_at=attempt),
                    TaskProgress(at=at, task_id=task.task_id, progress=50.0, phase="half"),
                    TaskAwaiting(at=at, task_id=task.task_id, awaiting=QUESTION),
                    TaskStopRequested(at=at, task_id=task.task_id, cause=cause),
                    TaskRetried(at=at, task_id=task.task_id, end=AttemptEnd(cause=cause), next_attempt_at=at),
                    *(
                        TaskFinished(at=at, task_id=task.task_id, state=state, cause=cause, end=AttemptEnd(cause=cause))
                        for state in State
                    ),
                ]
            )
        )
        before = dict(self.tasks)
        try:
            self.record(event)
        except InvalidTransition:
            assert self.tasks == before

    @precondition(lambda self: self.tasks)
    @rule(number=PICK)
    def start(self, number: int) -> None:
        task = self.pick(number)
        if task.state is State.QUEUED:
            self.record(
                TaskStarted(
                    at=self.now(), task_id=task.task_id, attempt=task.attempt + 1, worker_id="w", boot_id=str(self.boot)
                )
            )

    @precondition(lambda self: self.tasks)
    @rule(number=PICK, cause=CAUSES)
    def cancel(self, number: int, cause: Cause) -> None:
        task = self.pick(number)
        if task.state is State.RUNNING:
            self.record(TaskStopRequested(at=self.now(), task_id=task.task_id, cause=cause))
        elif not task.terminal:
            self.record(TaskFinished(at=self.now(), task_id=task.task_id, state=State.CANCELLED, cause=cause))

    @precondition(lambda self: self.tasks)
    @rule(number=PICK, cause=CAUSES)
    def exit(self, number: int, cause: Cause) -> None:
        task = self.pick(number)
        if task.state is State.RUNNING:
            intent = task.stop_cause
            end = AttemptEnd(cause=intent or cause, duration_s=1.0)
            state = stopped_state(intent) if intent else State.FAILED
            self.record(TaskFinished(at=self.now(), task_id=task.task_id, state=state, cause=end.cause, end=end))

    @rule(lost=st.integers(0, 3))
    def crash_and_recover(self, lost: int) -> None:
        """The daemon dies; records that were not yet acknowledged may be gone. The next one replays and recovers."""
        kept = max(len(self.journal) - lost, 0)
        del self.journal[kept:]
        self.tasks = self.replayed()
        self.first = {task_id: task for task_id, task in self.first.items() if task_id in self.tasks}
        self.ended = {task_id: task for task_id, task in self.tasks.items() if task.terminal}
        self.boot += 1
        for task in list(self.tasks.values()):
            if task.state is State.RUNNING:
                self.record(interrupted(task, at=self.now(), boot_id=str(self.boot)))
        assert not [task for task in self.tasks.values() if task.state is State.RUNNING]

    def replayed(self) -> dict[str, Task]:
        tasks: dict[str, Task] = {}
        for seq, record in enumerate(self.journal, 1):
            event = decoded(record)
            assert isinstance(event, TaskEvent)
            tasks[event.task_id] = applied_to_task(tasks.get(event.task_id), event, seq)
        return tasks

    @invariant()
    def replaying_the_journal_gives_what_is_shown(self) -> None:
        assert self.replayed() == self.tasks

    @invariant()
    def every_step_was_legal_and_is_kept(self) -> None:
        for task in self.tasks.values():
            states = [step.state for step in task.transitions]
            assert states[0] in INITIAL
            assert states[-1] is task.state
            assert all(after in TRANSITIONS[before] for before, after in pairwise(states))
            moments = [step.at for step in task.transitions]
            assert moments == sorted(moments)

    @invariant()
    def what_has_ended_never_changes_again(self) -> None:
        for task_id, task in self.ended.items():
            assert self.tasks[task_id] == task

    @invariant()
    def every_end_has_a_cause_and_a_time(self) -> None:
        for task in self.tasks.values():
            assert task.terminal == (task.state in TERMINAL) == (task.ended_at is not None)
            assert task.cause is not None or not task.terminal

    @invariant()
    def an_attempt_is_open_exactly_while_the_task_runs(self) -> None:
        for task in self.tasks.values():
            assert [attempt.n for attempt in task.attempts] == list(range(1, task.attempt + 1))
            open_ones = [attempt for attempt in task.attempts if attempt.ended_at is None]
            assert len(open_ones) == (task.state is State.RUNNING)
            assert all(attempt is task.attempts[-1] for attempt in open_ones)

    @invariant()
    def a_repeated_submit_is_given_the_first_answer(self) -> None:
        # `seq` is the journal's to know.
        for task_id, answer in self.first.items():
            first = created(self.tasks[task_id])
            assert replace(first, seq=answer.seq) == answer


Life.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
