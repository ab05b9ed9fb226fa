"""Events for tests, and a player that acts out a session's life on a disk and remembers what was acknowledged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from agentd.model.changes import new_task
from agentd.model.events import (
    AttemptEnd,
    Event,
    SessionCreated,
    SessionUpdated,
    TaskCreated,
    TaskFinished,
    TaskProgress,
    TaskStarted,
    decoded,
)
from agentd.model.run import Run, RunState, Standing
from agentd.model.run_events import RunCancelRequested, RunCreated, RunEnded, RunResumed, RunStepEnded
from agentd.model.session import Policy, Session, SessionChanges, SessionUsage
from agentd.model.task import Cause, CauseCode, State, Task, Usage, WorkflowStep
from agentd.store import layout
from agentd.store.datadir import prepare, remove_session, sweep
from agentd.store.disk import Disk
from agentd.store.exporting import exported
from agentd.store.folder import Folder, Loaded, Position
from agentd.store.importing import Import
from agentd.store.journal import Scan, seq_of
from agentd.store.reader import Reader
from agentd.store.replay import Finished, Replay
from agentd.store.verifying import ends_of
from agentd.store.view_writer import Moment
from agentd.store.views import view_of
from tests.store.simdisk import SimDisk

DATA = "/top/data"
SESSIONS = f"{DATA}/sessions"
SEGMENT_BYTES = 2500
AT = "2026-01-02T03:04:05.678901Z"

_numbers = itertools.count(1)


def session(session_id: str, *, tasks_kept: int = 2) -> Session:
    """A session as its creation says it; few finished tasks are kept, so that tests see them go."""
    policy = Policy(tasks_kept=tasks_kept)
    return Session(session_id=session_id, created_at=AT, updated_at=AT, seq=1, policy=policy, usage=SessionUsage())


def session_created(session_id: str, *, tasks_kept: int = 2) -> SessionCreated:
    """The first event."""
    return SessionCreated(at=AT, session=session(session_id, tasks_kept=tasks_kept), key_hash="kh", body_hash="bh")


def titled(title: str) -> SessionUpdated:
    """A change of the session."""
    return SessionUpdated(at=AT, changes=SessionChanges(title=title))


def task_created(session_id: str, task_id: str, command: str = "true") -> TaskCreated:
    """A queued task."""
    task = Task(
        task_id=task_id,
        session_id=session_id,
        kind="shell",
        spec={"command": command},
        state=State.QUEUED,
        created_at=AT,
    )
    task = new_task(task, at=AT, waiting=False)
    return TaskCreated(at=AT, task_id=task_id, task=task, key_hash=f"k-{task_id}", body_hash="bh")


def started(task_id: str, attempt: int = 1) -> TaskStarted:
    """The task runs."""
    return TaskStarted(at=AT, task_id=task_id, attempt=attempt, worker_id="w1", boot_id="b1")


def progressed(task_id: str) -> TaskProgress:
    """A step that no other event of the test equals."""
    return TaskProgress(at=AT, task_id=task_id, message=f"step {next(_numbers)}")


def finished(task_id: str, state: State = State.COMPLETED) -> TaskFinished:
    """The end of a running task."""
    cause = Cause(code=CauseCode.OK, message=f"done {next(_numbers)}", exit_code=0)
    return TaskFinished(at=AT, task_id=task_id, state=state, cause=cause, end=AttemptEnd(cause=cause, duration_s=0.5))


def used(task_id: str, tokens: int) -> TaskProgress:
    """What its attempt has asked of a model, all in all."""
    return TaskProgress(at=AT, task_id=task_id, usage=Usage(input_tokens=tokens, output_tokens=1, cost_usd=0.25))


def spent(task_id: str, tokens: int) -> TaskFinished:
    """The end of a running task, with what its attempt used."""
    end = finished(task_id)
    usage = Usage(user_s=0.5, max_rss_bytes=1000, input_tokens=tokens, output_tokens=1, cost_usd=0.25)
    assert end.end is not None
    return msgspec.structs.replace(end, end=msgspec.structs.replace(end.end, usage=usage, output_bytes=7))


def run_created(session_id: str, run_id: str) -> RunCreated:
    """A run of a workflow."""
    run = Run(run_id=run_id, session_id=session_id, name="flow", source="steps: []", inputs={"n": 1}, created_at=AT)
    return RunCreated(at=AT, run_id=run_id, run=run, key_hash=f"k-{run_id}", body_hash="bh")


def step_created(session_id: str, task_id: str, run_id: str, step: str) -> TaskCreated:
    """The task of a step."""
    event = task_created(session_id, task_id)
    return msgspec.structs.replace(
        event, task=msgspec.structs.replace(event.task, workflow=WorkflowStep(run_id=run_id, step=step))
    )


def step_ended(task_id: str, run_id: str, step: str, standing: Standing = Standing.COMPLETED) -> RunStepEnded:
    """The run takes note of an end, and of what the step handed on."""
    outputs = {"said": f"hello {next(_numbers)}"}
    return RunStepEnded(at=AT, run_id=run_id, step=step, task_id=task_id, standing=standing, outputs=outputs)


def run_ended(run_id: str, state: RunState = RunState.COMPLETED) -> RunEnded:
    """The end of a run."""
    return RunEnded(at=AT, run_id=run_id, state=state, where=("b",), reason=f"it is over {next(_numbers)}")


def run_cancelled(run_id: str) -> RunCancelRequested:
    """A run is to end."""
    return RunCancelRequested(at=AT, run_id=run_id)


def run_resumed(run_id: str, *again: str) -> RunResumed:
    """A run goes on."""
    return RunResumed(at=AT, run_id=run_id, again=again)


def replayed(events: Sequence[Event]) -> Replay:
    """What the events make."""
    replay = Replay()
    for seq, event in enumerate(events, 1):
        replay.apply(event, seq)
    return replay


class Memory:
    """What a test knows of a session: events that must be there, and batches that may follow them, or begin to."""

    def __init__(self) -> None:
        self.exists = False  #: its creation was acknowledged
        self.gone = False  #: so was its removal
        self.acked: list[Event] = []
        self.maybe: list[list[Event]] = []

    def allows(self, events: Sequence[Event]) -> bool:
        """Whether a recovery may find just these."""
        known = len(self.acked)
        rest = list(events[known:])
        if list(events[:known]) != self.acked:
            return False
        return not rest or any(batch[: len(rest)] == rest for batch in self.maybe)


class Killed(Exception):
    """The process ended here; the machine went on."""


class Player:
    """The store's core as a daemon uses it, on a disk whose states are looked at meanwhile."""

    def __init__(self, disk: SimDisk, memories: dict[str, Memory] | None = None) -> None:
        self.disk = disk
        self.memories: dict[str, Memory] = {} if memories is None else memories
        self.folders: dict[str, Folder] = {}
        self.positions: dict[str, Position] = {}
        self.kept: dict[str, bytes] = {}  #: what may be cut now, once it is in quarantine
        self.unrecorded: dict[str, int] = {}
        self.metadata_seq: dict[str, int] = {}

    def start(self) -> dict[str, Loaded]:
        """What a daemon does first: recover everything."""
        prepare(self.disk, DATA)
        sweep(self.disk, SESSIONS)
        found = {session_id: self.open(session_id) for session_id in sorted(self.disk.listdir(SESSIONS))}
        self.kept = {}
        return found

    def open(self, session_id: str) -> Loaded:
        """Bring one session in; what it shows counts as acknowledged from here on."""
        folder, loaded = Folder.open(self.disk, f"{SESSIONS}/{session_id}", segment_bytes=SEGMENT_BYTES)
        self.folders[session_id], self.positions[session_id] = folder, loaded.position
        memory = self.memories.setdefault(session_id, Memory())
        events = known_events(self.disk, session_id, memory)
        assert memory.allows(events), "what was read back is not what was written"
        memory.exists, memory.acked, memory.maybe = True, events, []
        self.unrecorded[session_id] = self.metadata_seq[session_id] = loaded.seq
        return loaded

    def create(self, session_id: str, *tasks: str) -> None:
        """A session with tasks."""
        events: list[Event] = [session_created(session_id), *(task_created(session_id, task) for task in tasks)]
        memory = self.memories.setdefault(session_id, Memory())
        memory.maybe.append(events)
        folder, appended = Folder.create(self.disk, SESSIONS, session(session_id), events, segment_bytes=SEGMENT_BYTES)
        memory.exists, memory.acked, memory.maybe = True, events, []
        self.folders[session_id], self.positions[session_id] = folder, appended.position
        self.unrecorded[session_id] = self.metadata_seq[session_id] = len(events)

    def append(self, session_id: str, *events: Event) -> None:
        """One batch."""
        memory = self.memories[session_id]
        memory.maybe.append(list(events))
        appended = self.folders[session_id].append(events, len(memory.acked) + 1)
        memory.acked, memory.maybe = [*memory.acked, *events], []
        self.positions[session_id] = appended.position

    def views(self, session_id: str) -> None:
        """The views of all that is acknowledged."""
        events = self.memories[session_id].acked
        replay = replayed(events)
        since = self.unrecorded[session_id]
        records = [record for record in records_of(events) if record.seq > since]
        changed = any(isinstance(event, SessionUpdated) for event in events[self.metadata_seq[session_id] :])
        view = view_of(replay, self.positions[session_id], metadata_changed=changed, finished=records)
        self.folders[session_id].write_views(view)
        self.unrecorded[session_id] = self.metadata_seq[session_id] = len(events)

    def remove(self, session_id: str) -> None:
        """The whole session."""
        memory = self.memories[session_id]
        self.folders.pop(session_id).close()
        memory.exists = False
        remove_session(self.disk, SESSIONS, session_id)
        memory.gone = True

    def exported(self, session_id: str) -> bytes:
        """The session as an archive."""
        replay, position = replayed(self.memories[session_id].acked), self.positions[session_id]
        assert replay.session is not None
        tasks, keys = list(replay.tasks.values()), list(replay.keys.values())
        moment = Moment(replay.session, replay.seq, position, tasks, keys)
        return b"".join(exported(self.disk, f"{SESSIONS}/{session_id}", moment, lambda path: True))

    def imported(self, session_id: str, archive: bytes) -> None:
        """The session of an archive, which was removed here."""
        events = self.memories[session_id].acked
        memory = self.memories[session_id] = Memory()
        memory.maybe = [[*events, *ends_of(replayed(events).tasks.values(), AT)]]
        with Import(self.disk, SESSIONS, session_id, 1 << 30, lambda path: True) as building:
            building.feed(archive)
            building.finish(AT)
        memory.exists, memory.acked, memory.maybe = True, memory.maybe[0], []
        self.open(session_id)

    def die(self) -> None:
        """`kill -9`: what is in the kernel's memory stays there."""
        self.folders.clear()
        self.disk.hook = None

    def close(self) -> None:
        """A clean stop."""
        for folder in self.folders.values():
            folder.close()
        self.folders.clear()


def records_of(events: Sequence[Event]) -> list[Finished]:
    """The history record of every finished task."""
    replay = Replay()
    found: list[Finished] = []
    for seq, event in enumerate(events, 1):
        replay.apply(event, seq)
        for ended_seq, task in replay.ended.values():
            found.append(Finished(ended_seq, task.state, task.task_id, msgspec.json.encode(task)))
        replay.ended.clear()
    return found


def known_events(disk: Disk, session_id: str, memory: Memory) -> list[Event]:
    """All events of a session: those in its journal, behind those that were pruned from it."""
    reader = Reader(disk, f"{SESSIONS}/{session_id}")
    scan = Scan(disk, f"{SESSIONS}/{session_id}")
    for _ in scan:
        pass  # to its end
    lines, gap = reader.read(0, 1000, scan.seq)
    first = gap or 1
    assert [seq_of(line) for line in lines] == list(range(first, first + len(lines))), "events are missing"
    return [*memory.acked[: first - 1], *(decoded(line) for line in lines)]


def journal_path(session_id: str, number: int = 1) -> str:
    """A segment of the session."""
    return layout.segment_path(f"{SESSIONS}/{session_id}", number)
