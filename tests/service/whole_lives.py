"""Lives in which tasks delegate, ask and use up budgets, and in which workflows run."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from agentd.errors import AgentdError, IdempotencyConflict, StorageFailed
from agentd.model.reports import Conversation, NewAnswer, NewQuestion, ProgressReport, ReportedUsage
from agentd.model.requests import AskedBudget, Created, Key, NewTask, PolicyChanges, SessionPatch
from agentd.model.run_views import NewRun, RunView
from agentd.model.task import Task
from agentd.store import layout
from tests.service.lives import ServiceLife
from tests.service.run_witness import FLOWS

STEPS, NAMES = ServiceLife.STEPS, ServiceLife.NAMES


class WholeLife(ServiceLife):
    """The same promises, for all that a session can hold."""

    def __init__(self) -> None:
        super().__init__()
        self.run_keys: dict[tuple[str, str], tuple[str, str]] = {}  #: what was asked with a key, and the run it made

    def _removed(self, session_id: str) -> None:
        super()._removed(session_id)
        self.run_keys = {each: made for each, made in self.run_keys.items() if each[0] != session_id}

    def _end_attempt(self, attempt_id: str, how: str) -> None:
        if attempt_id in self.boot.engine.running and attempt_id not in self.handed and self.boot.disk.left is None:
            self._hand_on(attempt_id)
        super()._end_attempt(attempt_id, how)

    def _hand_on(self, attempt_id: str) -> None:
        """What a step writes: the disk has it when it pleases, unless somebody syncs it."""
        task_id, _, attempt = attempt_id.rpartition(".")
        session_id = next((s for s, w in self.witnesses.items() if task_id in w.tasks), None)
        if session_id is None:
            return
        path = f"{self.boot.data_dir}/sessions/{session_id}/{layout.output_handed(task_id, int(attempt))}"
        disk, hook = self.boot.disk, self.boot.disk.twin.hook
        disk.twin.hook = None  # the world's own doing: it neither fails nor counts
        with suppress(FileNotFoundError):
            fd = disk.open(path, append=True)
            disk.write(fd, b"n=%b\n" % attempt_id.encode())
            disk.close(fd)
            self.handed[attempt_id] = {"n": attempt_id}
        disk.twin.hook = hook

    # ------------------------------------------------------------------ what tasks do while they run

    def _running(self, number: int) -> Task | None:
        """A task that runs, by the witnesses."""
        found = [(s, t) for s, w in self.witnesses.items() for t in w.tasks.values() if t["state"] == "running"]
        if not found:
            return None
        session_id, task = found[number % len(found)]
        ledger = self.boot.store.in_memory(session_id)
        return ledger.tasks.get(task["task_id"]) if ledger is not None else None

    @precondition(lambda self: self.boot.engine.running)
    @rule(number=st.integers(0, 4), count=st.integers(1, 3), needs=st.booleans(), steps=STEPS)
    def delegate(self, number: int, count: int, needs: bool, steps: int | None) -> None:
        parent = self._running(number)
        if parent is None:
            return
        known = list(self.witnesses[parent.session_id].tasks)
        needed = (known[-1 - number % len(known)],) if needs else ()
        batch = [NewTask(spec={"command": f"for {parent.task_id}"}, needs=needed) for _ in range(count)]

        def answered(result: object) -> None:
            if isinstance(result, Created) and parent.session_id in self.witnesses:
                self.tried["sub-tasks"] += count
                tasks = self.witnesses[parent.session_id].tasks
                assert all(task.task_id in tasks for task in result.value)

        verb = self.boot.service.submit_batch(parent.session_id, batch, None, "task", parent.task_id)
        self._ask("delegate", verb, answered, steps)

    @precondition(lambda self: self.boot.engine.running)
    @rule(
        number=st.integers(0, 4), which=st.sampled_from(["q1", "q2"]), wait_s=st.sampled_from([0.0, 30.0]), steps=STEPS
    )
    def ask(self, number: int, which: str, wait_s: float, steps: int | None) -> None:
        task = self._running(number)
        if task is None:
            return

        def answered(result: object) -> None:
            if isinstance(result, Task):
                self.tried["questions"] += 1

        verb = self.boot.service.ask(task.task_id, NewQuestion(ask_id=which, prompt="may I?"), wait_s)
        self._ask("ask", verb, answered, steps)

    @precondition(lambda self: any(t["question"] for w in self.witnesses.values() for t in w.tasks.values()))
    @rule(back=st.booleans(), steps=STEPS)
    def answer(self, back: bool, steps: int | None) -> None:
        asking = [t for w in self.witnesses.values() for t in w.tasks.values() if t["question"]]
        task_id, ask_id = asking[-1]["task_id"], asking[-1]["question"]["ask_id"]

        def answered(result: object) -> None:
            if isinstance(result, Task):
                assert result.awaiting is None or result.awaiting.ask_id != ask_id or result.seq > asking[-1]["seq"]

        service = self.boot.service
        verb = service.withdraw(task_id, ask_id) if back else service.answer(task_id, NewAnswer(answer="yes"), "test")
        self._ask("withdraw" if back else "answer", verb, answered, steps)

    @precondition(lambda self: self.boot.engine.running)
    @rule(number=st.integers(0, 4), tokens=st.integers(1, 60), talks=st.booleans(), steps=STEPS)
    def use(self, number: int, tokens: int, talks: bool, steps: int | None) -> None:
        task = self._running(number)
        if task is None:
            return
        self.names += 1
        said = Conversation(agent="echo", conversation_id=f"talk {self.names}") if talks else None
        report = ProgressReport(usage=ReportedUsage(input_tokens=tokens, output_tokens=1), conversation=said)

        def answered(result: object) -> None:
            if said is not None and task.parent_id is None and self._known(result, task.session_id):
                told = b"".join(self.witnesses[task.session_id].lines)
                assert said.conversation_id.encode() in told, "a conversation was acknowledged and is not there"

        self._ask("use", self.boot.service.progress(task.task_id, report), answered, steps)

    @rule(session_id=NAMES, tokens=st.sampled_from([None, 1, 50, 100, 1000]), steps=STEPS)
    def set_budget(self, session_id: str, tokens: int | None, steps: int | None) -> None:
        budget = None if tokens is None else AskedBudget(max_tokens=tokens)
        patch = SessionPatch(policy=PolicyChanges(budget=budget))
        self._ask("budget", self.boot.service.edit_session(session_id, patch, None), None, steps)

    # ------------------------------------------------------------------ workflows

    @rule(
        session_id=NAMES,
        flow=st.sampled_from(sorted(FLOWS)),
        key=st.sampled_from([None, None, "w1"]),
        steps=STEPS,
    )
    def run_workflow(self, session_id: str, flow: str, key: str | None, steps: int | None) -> None:
        def answered(result: object) -> None:
            first = self.run_keys.get((session_id, key)) if key else None
            if isinstance(result, IdempotencyConflict):
                assert first is None or first[0] != flow, "the same body was refused"
            if isinstance(result, Created) and session_id in self.witnesses:
                self.tried["runs"] += 1
                run = result.value
                assert isinstance(run, RunView)
                assert run.run_id in self.witnesses[session_id].runs.runs, "a run was acknowledged and is not there"
                if key:
                    assert first is None or first == (flow, run.run_id), "one key made two runs"
                    self.run_keys[session_id, key] = flow, run.run_id

        hashed = Key(key_hash=f"{session_id}-{key}", body_hash=flow) if key else None
        verb = self.boot.service.run_workflow(session_id, NewRun(source=FLOWS[flow].text), hashed, "test")
        self._ask("run", verb, answered, steps)

    def _run(self, number: int, live: bool) -> tuple[str, str] | None:
        """Session and id of a run."""
        found = [(s, r) for s, w in self.witnesses.items() for r in w.runs.runs if (r in w.runs.live()) is live]
        return found[-1 - number % len(found)] if found else None

    @precondition(lambda self: self._run(0, True))
    @rule(number=st.integers(0, 2), steps=STEPS)
    def cancel_run(self, number: int, steps: int | None) -> None:
        chosen = self._run(number, True)
        assert chosen is not None
        session_id, run_id = chosen

        def answered(result: object) -> None:
            if isinstance(result, RunView) and session_id in self.witnesses:
                run = self.witnesses[session_id].runs.runs[run_id]
                assert run["cancel"] or run["state"] != "running", "a cancellation was acknowledged and is not there"

        self._ask("cancel run", self.boot.service.cancel_run(session_id, run_id), answered, steps)

    @precondition(lambda self: self._run(0, False))
    @rule(number=st.integers(0, 2), steps=STEPS)
    def resume_run(self, number: int, steps: int | None) -> None:
        chosen = self._run(number, False)
        assert chosen is not None

        def answered(result: object) -> None:
            if not isinstance(result, (AgentdError, StorageFailed)):
                self.tried["runs resumed"] += 1

        self._ask("resume run", self.boot.service.resume_run(*chosen), answered, steps)
