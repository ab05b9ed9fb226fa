"""Any life of the service: verbs, faults and crashes in any order, held against the witness of each session."""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from structlog.testing import capture_logs

from agentd.bus import Bus
from agentd.clock import rfc3339
from agentd.config import Limits, Settings, Workers
from agentd.errors import AgentdError, IdempotencyConflict, SessionNotFound, StorageFailed, TaskNotFound
from agentd.kinds.registry import kinds
from agentd.model.events import AgentRecovered
from agentd.model.launch import EndedBy, Exit
from agentd.model.reports import ProgressReport
from agentd.model.requests import (
    AskedRetry,
    Created,
    Key,
    NewSession,
    NewTask,
    PolicyChanges,
    SessionPatch,
    TaskQuery,
    Window,
)
from agentd.model.run_views import RunQuery
from agentd.model.session import Keep, Retention
from agentd.model.task import CauseCode, OnInterrupt, Task
from agentd.placing import Places
from agentd.scheduler import Scheduler
from agentd.scopes import TaskTokens
from agentd.service import Service
from agentd.store.datadir import prepare, sweep
from agentd.store.ledger import Committed
from agentd.store.store import Store
from tests.service.scripted_engine import ScriptedEngine
from tests.service.stepping import Clock, SteppedLoop, Threads
from tests.service.twin_disk import TROUBLES, TwinDisk, after_the_cut, put_down
from tests.service.witness import Witness
from tests.store.simdisk import SimDisk

WORKERS = 3
SESSIONS = ("a", "b", "c")
LIMITS = Limits(resident_sessions=2, journal_bytes=4000)
RETENTION = Retention(tasks=Keep(max_count=4))
EXITS = {
    "done": Exit(ended_by=EndedBy.EXIT, exit_code=0, duration_s=0.1),
    "failed": Exit(ended_by=EndedBy.EXIT, exit_code=3, duration_s=0.1),
    "killed": Exit(ended_by=EndedBy.EXIT, signal=9, duration_s=0.1),
    "timeout": Exit(ended_by=EndedBy.TIMEOUT, signal=15, duration_s=0.1),
    "worker lost": Exit(ended_by=EndedBy.WORKER_LOST, message="its worker was killed"),
    "not spawned": Exit(ended_by=EndedBy.SPAWN_FAILED, message="no such program"),
    "stopped": Exit(ended_by=EndedBy.STOPPED, signal=15),
}
RETRY = AskedRetry(max=2, on=(CauseCode.EXIT_CODE, CauseCode.WORKER_LOST), backoff_s=3.0, jitter=0.0)


class Boot:
    """The service between two starts, on its own loop."""

    def __init__(
        self,
        number: int,
        directory: Path,
        twin: SimDisk,
        clock: Clock,
        seed: int,
        engine: ScriptedEngine,
        on_removed: Callable[[str], None],
        on_commit: Callable[[str, Sequence[Committed]], None],
    ) -> None:
        self.number = number
        root = directory / str(number)
        put_down(twin, root)
        self.disk = TwinDisk(root, twin)
        self.data_dir = root / "data"
        self.threads = Threads(random.Random(seed))
        self.loop = SteppedLoop(clock, self.threads, lambda: self.disk.left is not None)
        self.engine = engine
        self.clock = clock
        self.verbs: dict[str, Coroutine[Any, Any, Any]] = {}  #: under way
        self.began: dict[str, int] = {}  #: the last event of each session when this boot read it
        self.removed_at: dict[str, int] = {}  #: the bus's position when a session of this name was last removed
        self.on_removed = on_removed
        self.on_commit = on_commit
        self.up = False  #: from then on what becomes durable is told at once

    def start(self) -> AgentRecovered | None:
        """Recover and run; None when the machine stopped meanwhile."""
        starting = self.loop.create_task(self._start())
        self.loop.quiet()
        if self.disk.left is not None:
            return None
        return starting.result()

    async def _start(self) -> AgentRecovered:
        prepare(self.disk, str(self.data_dir))
        sweep(self.disk, str(self.data_dir / "sessions"))
        settings = Settings(
            data_dir=str(self.data_dir), limits=LIMITS, workers=Workers(min=1, max=WORKERS), retention=RETENTION
        )
        self.store = Store(self.data_dir, disk=self.disk, limits=LIMITS)
        self.store._committers = self.store._viewers = self.store._readers = self.threads  # type: ignore[assignment]
        self.service = Service(
            settings=settings,
            store=self.store,
            bus=Bus(100_000),
            clock=self.clock,
            kinds=kinds(),
            agent_id="agent",
            boot_id=f"boot{self.number}",
            stop_asked=asyncio.Event(),
        )
        publish, self.store.on_commit = self.store.on_commit, self._committed
        self.publish = publish
        self.service.task_tokens = TaskTokens(b"k" * 32)
        places = Places(str(self.data_dir), settings, self.service.task_tokens, {})
        self.scheduler = Scheduler(self.service, self.engine, places)
        self.store.on_removed = self._removed
        self.store.on_edited = self._edited
        found = await self.store.open()
        self.began = {session_id: entry.seq for session_id, entry in self.store.entries.items()}
        assert not found.damaged, found.damaged
        report = await self.service.recover(found, killed=0, began=self.clock.monotonic())
        for session_id in found.edited:
            await self.service.metadata_touched(session_id)
        await self.engine.open()
        self.scheduler.open()
        return report

    def _committed(self, session_id: str, committed: Sequence[Committed]) -> None:
        if self.disk.left is None and self.up:
            self.on_commit(session_id, committed)
        self.publish(session_id, committed)

    def _edited(self, session_id: str) -> None:
        self.loop.create_task(self.service.metadata_touched(session_id))

    def _removed(self, session_id: str) -> None:
        if self.disk.left is None:
            self.began.pop(session_id, None)
            self.removed_at[session_id] = self.service.bus.position
            self.on_removed(session_id)

    def end(self) -> None:
        """As `kill -9` does it."""
        self.disk.left = self.disk.left or self.disk.twin.fork()
        self.loop.abandon()
        for verb in self.verbs.values():
            verb.close()  # one that never began
        if hasattr(self, "store"):
            for entry in self.store.entries.values():
                if entry.lock is not None:
                    entry.lock.release()
        self.disk.close_all()


class ServiceLife(RuleBasedStateMachine):
    """Whatever happens to it, what it has shown stays so, and what it shows is what may be."""

    tried: Counter[str] = Counter()  #: over all lives: what they were made of

    def __init__(self) -> None:
        super().__init__()
        self._logs = capture_logs()
        self.logs = self._logs.__enter__()
        self.directory = Path(tempfile.mkdtemp(prefix="life-"))
        self.clock = Clock(1_790_000_000.0)
        self.launched: set[str] = set()
        self.witnesses: dict[str, Witness] = {}
        self.exits: dict[str, Exit] = {}
        self.handed: dict[str, dict[str, Any]] = {}  #: what attempts wrote to AGENTD_OUTPUT
        self.asked: dict[str, str] = {}  #: creations and removals under way, and of which session
        self.doubt: set[str] = set()  #: sessions of which such a verb failed half way
        #: What was asked with a key, what it made, and whether the one that made it was answered.
        self.keys: dict[tuple[str, str], tuple[str, Task, bool]] = {}
        self.batches: dict[tuple[str, str], int] = {}  #: how many tasks each holds
        self.boots = 0
        self.names = 0
        self.wrong: list[Exception] = []  #: what verbs raised, or answered wrongly
        self.quietly = False  #: nothing was refused since the last moment of rest
        self.boot: Boot

    # ------------------------------------------------------------------ the beginning and the end

    @initialize(seed=st.integers(0, 2**16), parallel=st.integers(1, 3))
    def first_boot(self, seed: int, parallel: int) -> None:
        self.tried["lives"] += 1
        self.chance = random.Random(seed)
        self._boot(SimDisk())
        for session_id in SESSIONS[:2]:
            self.create(session_id, parallel, 2, None, None)

    def _boot(self, twin: SimDisk) -> None:
        while True:
            self.boots += 1
            seed = self.chance.randrange(1 << 30)
            engine = ScriptedEngine(WORKERS, self.launched, self.exits)
            self.boot = Boot(self.boots, self.directory, twin, self.clock, seed, engine, self._removed, self._committed)
            cut_the_recovery = self.boots > 1 and self.chance.random() < 0.3
            self.boot.disk.cut_in = self.chance.randrange(1, 12) if cut_the_recovery else None
            report = self.boot.start()
            if report is not None:
                break
            self.tried["crashes in a recovery"] += 1
            twin = self._fallen()
        self.boot.disk.cut_in = None
        self._compare_after_boot()
        self.boot.up = True

    def _removed(self, session_id: str) -> None:
        """The service says that it is gone: from now on it must be."""
        self.witnesses.pop(session_id, None)
        self.doubt.discard(session_id)
        for session, key in [each for each in self.keys if each[0] == session_id]:
            del self.keys[session, key]

    def _fallen(self) -> SimDisk:
        """What the disk has after the machine stopped, or the process was killed."""
        self.boot.end()
        left = self.boot.disk.left
        assert left is not None
        shutil.rmtree(self.boot.disk.root)
        if self.boot.disk.left_in_doubt or self.chance.random() < 0.7:
            self.tried["power cuts"] += 1
            return after_the_cut(left, self.chance)
        self.tried["kills"] += 1
        return left

    def _compare_after_boot(self) -> None:
        """What was shown before is there, and nothing that was told to be gone."""
        found = set(self.boot.store.entries)
        maybe = self.doubt | set(self.asked.values())
        for session_id in list(self.witnesses):
            if session_id not in found:
                assert session_id in maybe, f"session {session_id} is lost"
                self._removed(session_id)
        for session_id in found:
            entry = self.boot.store.entries[session_id]
            assert entry.reason is None, f"session {session_id}: {entry.reason}"
            if session_id not in self.witnesses:
                assert session_id in maybe, f"session {session_id} has come back"
                self.witnesses[session_id] = Witness(self.handed)
            self._same_history(session_id, self.witnesses[session_id])
        self.doubt.clear()
        self.asked.clear()

    def _same_history(self, session_id: str, witness: Witness) -> None:
        after = 0
        found: list[bytes] = []
        first: int | None = None
        while True:
            page = self.boot.loop.finished(self.boot.service.events(session_id, after, 7))
            if first is None:
                first = page.gap or 1
            found += page.lines
            if page.next is None:
                break
            after = page.next
        known = witness.lines[first - 1 :]
        assert found[: len(known)] == known, f"session {session_id}: what was shown is not what is there"
        for line in found[len(known) :]:  # durable, and never told before
            witness.hear(line, self.boots, self.clock.now, self.exits)

    def teardown(self) -> None:
        try:
            if hasattr(self, "boot"):
                self._live_on()
        finally:
            if hasattr(self, "boot"):
                self.boot.end()
            shutil.rmtree(self.directory)
            self._logs.__exit__(None, None, None)

    def _live_on(self) -> None:
        """With the troubles over and time going by, everything ends; then a clean stop and start change nothing."""
        boot = self.boot
        boot.disk.trouble = boot.disk.cut_in = None
        boot.loop.advance(10.0)
        for session_id in list(self.witnesses):
            patch = SessionPatch(policy=PolicyChanges(budget=None))
            self._ask("lift", boot.service.edit_session(session_id, patch, None))
        for _ in range(1000):  # a clock that was set back by hours delays what has a start time
            boot.loop.advance(40.0)
            self.nothing_is_wrong()
            if boot.engine.running:
                self._end_attempt(next(iter(boot.engine.running)), "done")
                boot.loop.quiet()
            elif not any(witness.live() or witness.runs.live() for witness in self.witnesses.values()):
                break
        self.nothing_is_wrong()
        left = {s: sorted(w.live() | w.runs.live()) for s, w in self.witnesses.items() if w.live() | w.runs.live()}
        assert not left, f"these never ended: {left}"
        boot.loop.advance(400.0)
        assert not boot.verbs, f"these were never answered: {list(boot.verbs)}"
        self._at_rest()
        report = boot.loop.finished(boot.service.check())
        left_over = [each for each in report.findings if "half of a file" not in each.problem]
        assert not left_over, left_over
        self._stop_cleanly()
        self._at_rest()
        self.nothing_is_wrong()

    # ------------------------------------------------------------------ going on

    def _go_on(self, steps: int | None) -> None:
        """So many steps, or until it is quiet; and then, if the machine stopped, the next boot."""
        if steps is None:
            self.boot.loop.quiet()
        else:
            for _ in range(steps):
                self.boot.loop.step()
        self._crashed()

    def _crashed(self) -> None:
        if self.boot.disk.left is not None:
            self.tried["crashes"] += 1
            self._boot(self._fallen())

    def _committed(self, session_id: str, committed: Sequence[Committed]) -> None:
        """Something became durable, and is visible from now on."""
        witness = self.witnesses.setdefault(session_id, Witness(self.handed))
        try:
            for each in committed:
                witness.hear(each.line, self.boots, self.clock.now, self.exits)
        except Exception as error:  # the service is not to notice
            self.wrong.append(error)

    def _ask(
        self,
        name: str,
        verb: Coroutine[Any, Any, Any],
        answered: Any = None,
        steps: int | None = None,
        *,
        whole: str | None = None,
    ) -> None:
        """Begin a verb and go on; `answered(result)` is called if it is answered before the machine stops.

        `whole` is the session that the verb makes or removes.
        """
        boot = self.boot
        self.names += 1
        label = f"{name} {self.names}"
        if whole is not None:
            self.asked[label] = whole

        async def asked() -> None:
            try:
                result = await verb
            except AgentdError as error:
                result = error
            except Exception as error:  # no verb may: a client would get a 500
                self.wrong.append(error)
                return
            if boot.disk.left is not None:
                return  # nobody heard the answer
            del boot.verbs[label]
            if self.asked.pop(label, None) is not None and isinstance(result, StorageFailed):
                self.doubt.add(whole or "")
            self.tried["verbs"] += 1
            try:
                if isinstance(result, AgentdError):
                    assert boot.disk.trouble or not isinstance(result, StorageFailed) or not self.quietly, result
                    self.tried["refusals"] += 1
                if answered is not None:
                    answered(result)
            except Exception as error:
                self.wrong.append(error)

        boot.verbs[label] = verb
        boot.loop.create_task(asked())
        self._go_on(steps)

    # ------------------------------------------------------------------ rules: sessions

    STEPS = st.one_of(st.none(), st.integers(0, 8))
    NAMES = st.sampled_from(SESSIONS)

    def _known(self, result: object, session_id: str) -> bool:
        """Whether the session of a verb was there to answer it."""
        return not isinstance(result, AgentdError) and session_id in self.witnesses

    @rule(
        session_id=NAMES,
        parallel=st.integers(1, 3),
        kept=st.integers(0, 3),
        limit=st.sampled_from([None, None, 200.0]),
        steps=STEPS,
    )
    def create(self, session_id: str, parallel: int, kept: int, limit: float | None, steps: int | None) -> None:
        policy = PolicyChanges(max_parallel=parallel, tasks_kept=kept, timeout_s=limit)

        def answered(result: object) -> None:
            if self._known(result, session_id):
                assert self.witnesses[session_id].session["policy"]["tasks_kept"] == kept

        self._ask(
            "create",
            self.boot.service.create_session(NewSession(session_id=session_id, policy=policy), None),
            answered,
            steps,
            whole=session_id,
        )

    @rule(session_id=NAMES, parallel=st.integers(1, 3), steps=STEPS)
    def patch(self, session_id: str, parallel: int, steps: int | None) -> None:
        self.names += 1
        title = f"title {self.names}"

        def answered(result: object) -> None:
            if self._known(result, session_id):
                told = b"".join(self.witnesses[session_id].lines)
                assert json.dumps(title).encode() in told, "a change was acknowledged and is not there"

        patch = SessionPatch(title=title, policy=PolicyChanges(max_parallel=parallel))
        self._ask("patch", self.boot.service.edit_session(session_id, patch, None), answered, steps)

    @rule(session_id=NAMES, archived=st.booleans(), steps=STEPS)
    def archive(self, session_id: str, archived: bool, steps: int | None) -> None:
        self._ask(
            "archive", self.boot.service.edit_session(session_id, SessionPatch(archived=archived), None), None, steps
        )

    @rule(session_id=NAMES, force=st.booleans(), steps=STEPS)
    def delete(self, session_id: str, force: bool, steps: int | None) -> None:
        verb = self.boot.service.delete_session(session_id, force=force, if_seq=None)
        self._ask("delete", verb, None, steps, whole=session_id)

    @rule(session_id=NAMES, steps=STEPS)
    def cancel_session(self, session_id: str, steps: int | None) -> None:
        live = self.witnesses[session_id].live() if session_id in self.witnesses else set()

        def answered(result: object) -> None:
            if self._known(result, session_id):
                tasks = self.witnesses[session_id].tasks
                going = [t for t in live if t in tasks and tasks[t]["state"] in ("waiting", "queued")]
                assert not going, f"cancelled, and still to run: {going}"

        self._ask("cancel session", self.boot.service.cancel_session(session_id), answered, steps)

    # ------------------------------------------------------------------ rules: tasks

    @rule(
        session_id=NAMES,
        key=st.sampled_from([None, None, "k1", "k2"]),
        needs=st.lists(st.integers(0, 5), max_size=2),
        priority=st.integers(-1, 1),
        pause=st.sampled_from([None, None, None, -5.0, 2.0, 50.0]),
        retried=st.booleans(),
        again=st.booleans(),
        anywhere=st.booleans(),
        steps=STEPS,
    )
    def submit(
        self,
        session_id: str,
        key: str | None,
        needs: list[int],
        priority: int,
        pause: float | None,
        retried: bool,
        again: bool,
        anywhere: bool,
        steps: int | None,
    ) -> None:
        witness = self.witnesses.get(session_id)
        known = list(witness.tasks) if witness else []
        body = f"{needs} {priority} {pause} {retried} {again}"
        new = NewTask(
            spec={"command": body},
            session_id=session_id,
            needs=tuple(dict.fromkeys(known[-1 - n] for n in needs if n < len(known))) if not key else (),
            priority=priority,
            not_before=None if pause is None else rfc3339(self.clock.time() + pause),
            retry=RETRY if retried else None,
            on_interrupt=OnInterrupt.RETRY if again else OnInterrupt.FAIL,
        )

        def answered(result: object) -> None:
            self._answered_submit(session_id, key, body, result)

        hashed = Key(key_hash=f"{session_id}-{key}", body_hash=body) if key else None
        verb = self.boot.service.submit(None if anywhere else session_id, new, hashed, "test")
        self._ask("submit", verb, answered, steps, whole=session_id if anywhere else None)

    def _answered_submit(self, session_id: str, key: str | None, body: str, result: object) -> None:
        first = self.keys.get((session_id, key)) if key else None
        if isinstance(result, IdempotencyConflict):
            assert first is None or first[0] != body, "the same body was refused"
        if isinstance(result, AgentdError) or session_id not in self.witnesses:
            return
        assert isinstance(result, Created)
        task = result.value
        witness = self.witnesses[session_id]
        assert task.task_id in witness.tasks, "a task was acknowledged and is not there"
        assert witness.tasks[task.task_id]["spec"] == {"command": body}
        if key:
            if first is not None:  # of two at once the second may be answered first
                assert first[0] == body and (result.replayed or not first[2])
                assert result.value == first[1], "the first answer is not what it was"
            self.keys[session_id, key] = (body, task, not result.replayed or (first is not None and first[2]))

    def _task(self, number: int) -> str | None:
        known = [task_id for witness in self.witnesses.values() for task_id in witness.tasks]
        return known[-1 - number % len(known)] if known else None

    @precondition(lambda self: any(witness.tasks for witness in self.witnesses.values()))
    @rule(number=st.integers(0, 8), steps=STEPS)
    def cancel(self, number: int, steps: int | None) -> None:
        task_id = self._task(number)
        assert task_id is not None

        def answered(result: object) -> None:
            if isinstance(result, Task) and result.session_id in self.witnesses:
                task = self.witnesses[result.session_id].tasks.get(task_id)
                if task is not None:
                    assert task["state"] not in ("waiting", "queued") or task["stop"], "cancelled, and still to run"
                    assert task["state"] != "running" or task["stop"], "the intent to stop is not there"

        self._ask("cancel", self.boot.service.cancel(task_id), answered, steps)

    @precondition(lambda self: any(witness.tasks for witness in self.witnesses.values()))
    @rule(number=st.integers(0, 8), steps=STEPS)
    def retry(self, number: int, steps: int | None) -> None:
        task_id = self._task(number)
        assert task_id is not None

        def answered(result: object) -> None:
            if isinstance(result, Created) and result.value.session_id in self.witnesses:
                assert result.value.retry_of == task_id
                assert result.value.task_id in self.witnesses[result.value.session_id].tasks

        self._ask("retry", self.boot.service.retry(task_id, None), answered, steps)

    @precondition(lambda self: any(witness.tasks for witness in self.witnesses.values()))
    @rule(number=st.integers(0, 8), steps=STEPS)
    def progress(self, number: int, steps: int | None) -> None:
        task_id = self._task(number)
        assert task_id is not None
        self._ask("progress", self.boot.service.progress(task_id, ProgressReport(message="on")), None, steps)

    @precondition(lambda self: any(witness.tasks for witness in self.witnesses.values()))
    @rule(number=st.integers(0, 8), steps=STEPS)
    def wait(self, number: int, steps: int | None) -> None:
        task_id = self._task(number)
        assert task_id is not None

        def answered(result: object) -> None:
            assert isinstance(result, (Task, TaskNotFound)), result

        self._ask("wait", self.boot.service.wait(task_id, 300.0), answered, steps)

    @rule(steps=STEPS)
    def cleanup(self, steps: int | None) -> None:
        self._ask("cleanup", self.boot.service.cleanup(dry_run=False), None, steps)

    # ------------------------------------------------------------------ rules: what the world does

    @rule(session_id=NAMES, count=st.integers(1, 4), anywhere=st.booleans(), steps=STEPS)
    def submit_batch(self, session_id: str, count: int, anywhere: bool, steps: int | None) -> None:
        """All of them or none, also if the machine stops."""
        self.names += 1
        name = f"batch {self.names}"
        self.batches[session_id, name] = count
        batch = [NewTask(spec={"command": name}, session_id=session_id, priority=n % 2) for n in range(count)]

        def answered(result: object) -> None:
            if self._known(result, session_id):
                assert self._of_batch(session_id, name) == count, "a batch was acknowledged and is not there"

        verb = self.boot.service.submit_batch(None if anywhere else session_id, batch, None, "test")
        self._ask("submit batch", verb, answered, steps, whole=session_id if anywhere else None)

    def _of_batch(self, session_id: str, name: str) -> int:
        lines = self.witnesses[session_id].lines
        mark = b'"spec":{"command":"%b"}' % name.encode()
        return sum(b'"type":"task.created"' in line and mark in line and b'"type":"api"' in line for line in lines)

    @rule(session_id=NAMES, count=st.integers(1, 4), steps=STEPS)
    def submit_some(self, session_id: str, count: int, steps: int | None) -> None:
        for _ in range(count):
            self.submit(session_id, None, [], 0, None, False, False, False, 0)
        self._go_on(steps)

    @precondition(lambda self: self.boot.engine.running)
    @rule(steps=STEPS)
    def end_well(self, steps: int | None) -> None:
        self._end_attempt(next(iter(self.boot.engine.running)), "done")
        self._go_on(steps)

    @precondition(lambda self: self.boot.engine.running)
    @rule(number=st.integers(0, WORKERS - 1), how=st.sampled_from(list(EXITS)), steps=STEPS)
    def end_attempt(self, number: int, how: str, steps: int | None) -> None:
        running = list(self.boot.engine.running)
        self._end_attempt(running[number % len(running)], how)
        self._go_on(steps)

    def _end_attempt(self, attempt_id: str, how: str) -> None:
        self.tried["attempts"] += 1
        self.boot.loop.call_soon(self.boot.engine.end, attempt_id, EXITS[how])

    @rule(seconds=st.sampled_from([0.02, 0.3, 3.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.boot.loop.advance(seconds)
        self._crashed()

    @rule(seconds=st.sampled_from([-3600.0, -20.0, 20.0, 3600.0]))
    def clock_is_set(self, seconds: float) -> None:
        self.tried["jumps of the clock"] += 1
        self.clock.ahead += seconds

    @rule(kind=st.sampled_from(sorted(TROUBLES)), short=st.sampled_from([0, 30, 400]))
    def disk_has_trouble(self, kind: str, short: int) -> None:
        self.tried["troubles of the disk"] += 1
        self.quietly = False
        self.boot.disk.trouble, self.boot.disk.short = TROUBLES[kind], short

    @precondition(lambda self: self.boot.disk.trouble)
    @rule()
    def disk_is_well(self) -> None:
        self.boot.disk.trouble = None

    @rule(operations=st.integers(0, 60))
    def machine_stops(self, operations: int) -> None:
        """At once, or so many operations of the disk from now."""
        if operations == 0:
            self.boot.disk.stop_here()
            self._crashed()
        else:
            self.boot.disk.cut_in = operations

    @precondition(lambda self: not self.boot.disk.trouble)
    @rule()
    def stop_and_start(self) -> None:
        self._stop_cleanly()

    def _stop_cleanly(self) -> None:
        """As the daemon does: what runs is stopped, what is queued stays."""
        boot = self.boot
        stopping = boot.loop.create_task(boot.scheduler.drain(0, 20.0, asyncio.Event()))
        for _ in range(100):
            boot.loop.quiet()
            for attempt_id in list(boot.engine.asked_to_stop & boot.engine.running.keys()):
                self._end_attempt(attempt_id, "stopped")
            if stopping.done() or boot.disk.left is not None:
                break
            boot.loop.advance(1.0)
        if boot.disk.left is None:
            closing = boot.loop.create_task(boot.service.close_runs())
            boot.loop.advance(10.0)
            assert closing.done() or boot.disk.left is not None, "the runs were never closed"
        if boot.disk.left is None:
            boot.loop.finished(boot.store.close())
        if boot.disk.left is None:
            boot.disk.forget_what_is_gone()
            boot.disk.left = boot.disk.twin.fork()
            self.tried["clean stops"] += 1
            boot.end()
            shutil.rmtree(boot.disk.root)
            self._boot(boot.disk.left)
        else:
            self._crashed()

    @precondition(lambda self: not self.boot.disk.trouble and self.boot.disk.cut_in is None)
    @rule(session_id=NAMES, valid=st.booleans())
    def edit_by_hand(self, session_id: str, valid: bool) -> None:
        self.boot.loop.advance(2.0)
        path = self.boot.data_dir / "sessions" / session_id / "metadata.json"
        witness = self.witnesses.get(session_id)
        if self.boot.disk.left is not None or witness is None or not path.exists():
            return
        self.tried["edits by hand"] += 1
        self.names += 1
        title = f"by hand {self.names}"
        text = msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), "title": title}) if valid else b"{"
        path.write_bytes(text)
        self.boot.disk.twin.put(self.boot.disk._at(str(path)), text)
        before = witness.edits_refused
        self._ask("edit", self.boot.service.metadata_touched(session_id))
        self.boot.loop.advance(2.0)
        if self.witnesses.get(session_id) is not witness or self.boot.store.entries[session_id].reason:
            return
        if valid:
            assert witness.session["title"] == title, "an edit by hand was lost"
        else:
            assert witness.edits_refused == before + 1
            assert json.loads(path.read_bytes())["session_id"] == session_id

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def nothing_is_wrong(self) -> None:
        if not hasattr(self, "boot"):
            return
        for error in self.wrong:
            raise error
        wrong = [entry for entry in self.logs if entry["log_level"] in ("error", "critical")]
        assert not wrong, wrong
        assert not self.boot.loop.complaints, self.boot.loop.complaints

    @rule()
    def rest(self) -> None:
        """Go on until nothing happens, and look at everything that is shown."""
        self.boot.loop.quiet()
        self._crashed()
        if self.boot.disk.trouble is None and self.boot.disk.cut_in is None:
            self.boot.loop.advance(10.0)  # a session whose sync failed is healed by then, and its files are written
            for _ in range(10):  # unless something came in the last moment of it
                if any(ledger.views.busy for ledger in self.boot.store.resident):
                    self.boot.loop.advance(1.0)
            self._at_rest()

    def _at_rest(self) -> None:
        boot = self.boot
        self.quietly = True
        for session_id, witness in self.witnesses.items():
            if session_id in self.asked.values():
                continue  # it is about to go
            assert not witness.stuck(), f"these wait for what has failed: {witness.stuck()}"
            assert not witness.overspent(), f"these use more than their session may: {witness.overspent()}"
            assert not (stuck := witness.runs.stuck(witness.tasks)), f"runs {stuck} go on, and nothing of them does"
            if boot.engine.has_room:
                assert not witness.ripe(), f"a task of {session_id} could run, and does not"
            self._shown(session_id, witness)
        for (session_id, name), count in self.batches.items():
            if session_id in self.witnesses:
                assert self._of_batch(session_id, name) in (0, count), f"half of {name} is there"
        running = {
            f"{t['task_id']}.{t['attempt']}"
            for w in self.witnesses.values()
            for t in w.tasks.values()
            if t["state"] == "running"
        }
        assert running == boot.engine.running.keys(), "what is shown as running is not what runs"
        queue = boot.service.queue(Window(limit=1000))
        live = set().union(*(w.live() for w in self.witnesses.values())) if self.witnesses else set()
        told = {item.task_id for item in queue.data} | {attempt.rpartition(".")[0] for attempt in running}
        assert told == live, "the queue is not what waits"
        self.tried["looks"] += 1

    def _runs_shown(self, session_id: str, witness: Witness) -> None:
        boot = self.boot
        runs = boot.loop.finished(boot.service.workflow_runs(session_id, RunQuery(limit=1000))).data
        assert {run.run_id: run.state for run in runs} == {r: each["state"] for r, each in witness.runs.runs.items()}
        for listed in runs:
            run, known = boot.loop.finished(boot.service.workflow_run(listed.run_id)), witness.runs.runs[listed.run_id]
            assert (run.seq, run.held) == (known["seq"], None)
            assert isinstance(run.steps, tuple)
            for step in run.steps:
                there = known["steps"].get(step.id, {"tasks": [], "outputs": {}, "standing": None})
                assert (list(step.tasks), step.outputs) == (there["tasks"], there["outputs"])
                if there["standing"] not in (None, "live"):
                    assert step.state == there["standing"]

    def _shown(self, session_id: str, witness: Witness) -> None:
        boot = self.boot
        view = boot.loop.finished(boot.service.session(session_id))
        assert isinstance(view.tasks, tuple)
        shown_so = (view.title, view.archived)
        assert shown_so == (witness.session["title"], witness.session["archived"]), f"{session_id}: {shown_so}"
        assert view.seq == len(witness.lines)
        for task in view.tasks:
            known = witness.tasks[task.task_id]
            assert (task.state, task.attempt, task.priority) == (known["state"], known["attempt"], known["priority"])
            assert (task.parent_id, task.awaiting and task.awaiting.ask_id) == (
                known["parent"],
                known["question"] and known["question"]["ask_id"],
            )
            if task.terminal:
                assert task.cause is not None and task.cause.code == known["cause"]
        assert view.usage is not None and view.conversations == witness.session["conversations"]
        assert {name: getattr(view.usage, name) for name in witness.usage} == witness.usage, "what was used is lost"
        self._runs_shown(session_id, witness)
        shown = {task.task_id for task in view.tasks}
        assert witness.live() <= shown
        assert len(shown - witness.live()) <= witness.session["policy"]["tasks_kept"]
        cursor, history = None, []
        while True:
            page, cursor = boot.loop.finished(boot.service.history(session_id, TaskQuery(limit=3, cursor=cursor)))
            history += [json.loads(record) for record in page]
            if cursor is None:
                break
        assert len(history) == len({record["task_id"] for record in history})
        # A crash may leave a record behind that retention had given up; the next cleanup removes it.
        told_of = {r["task_id"]: r["state"] for r in history if r["task_id"] not in witness.pruned}
        assert told_of == {t: witness.tasks[t]["state"] for t in witness.ended()}
        listed = boot.loop.finished(boot.service.list_tasks(TaskQuery(limit=1000), session_id)).data
        assert {task.task_id for task in listed} == shown
        told = [json.loads(line) for _, line in boot.service.bus.replay(boot.removed_at.get(session_id, 0)) or []]
        heard = [event["seq"] for event in told if event.get("session_id") == session_id and "seq" in event]
        assert heard == list(range(boot.began.get(session_id, 0) + 1, len(witness.lines) + 1)), "the stream has a gap"
        written = json.loads((boot.data_dir / "sessions" / session_id / "metadata.json").read_bytes())
        assert written["title"] == witness.session["title"], "metadata.json is not what is shown"
        try:
            events = boot.loop.finished(boot.service.events(session_id, max(0, len(witness.lines) - 3), 3))
        except SessionNotFound:
            raise AssertionError(f"session {session_id} is listed and not there") from None
        assert events.lines == witness.lines[-len(events.lines) :]
