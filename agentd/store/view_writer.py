"""When the views of a session are written: a little after the journal, never often, and from one moment each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple

import msgspec

from agentd.model.run import Run
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.folder import Folder, KeyRecord, Position, View

#: Seconds the views may lag the journal, and the share of one core their writing may take (DESIGN 5).
LAG_S = 0.25
DUTY = 0.1
#: The share that writing at every rest may take: of short tasks one after the other, not each is worth it.
RESTING_DUTY = 0.05
#: Seconds that they may lag at most, however long a writing took: one that a disk held up says little of the next.
MOST_LAG_S = 5.0
#: Seconds between attempts on a disk that refuses.
REFUSED_S = 1.0


class Moment(NamedTuple):
    """The durable state of a session at one moment on the loop."""

    session: Session
    seq: int
    position: Position
    tasks: list[Task]
    keys: list[KeyRecord]
    runs: Sequence[Run] = ()


class _Work(NamedTuple):
    """One writing of the views."""

    moment: Moment
    finished: list[tuple[int, Task]]
    metadata_changed: bool
    dropped: set[str]
    kept: list[str]
    began: float


class ViewWriter:
    """Writes tasks.json, metadata.json and the records of finished tasks in a thread, one writing at a time.

    `moment` gives the state to write; `drop` is told which finished tasks tasks.json no longer has; `edited` is called
    when metadata.json was not written because somebody edited it.
    """

    def __init__(
        self,
        folder: Folder,
        threads: Executor,
        finished_order: Sequence[str],
        moment: Callable[[], Moment],
        drop: Callable[[Iterable[str]], None],
        edited: Callable[[], None],
    ) -> None:
        self._folder = folder
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._moment = moment
        self._drop = drop
        self._edited = edited
        self.edits = asyncio.Lock()  #: held while an edit by hand is taken in
        self._kept = list(finished_order)
        self._forgotten: set[str] = set()  #: while a writing that still names them is under way
        self._finished: list[tuple[int, Task]] = []
        self._metadata_changed = False
        self._dirty = False
        self._over = False
        self._pause_s = LAG_S
        self._rested_at = 0.0  #: from when on a session at rest need not wait, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[bool] | None = None
        self._lines: dict[str, tuple[Task | Run, bytes]] = {}  #: belongs to the thread that writes

    @property
    def busy(self) -> bool:
        """Whether the files are behind the journal."""
        return self._dirty or self._writing is not None

    def ask(self, *, resting: bool = False) -> None:
        """The state has changed: write soon; at once when the session is at rest and the last writing is past."""
        if self._over:
            return
        self._dirty = True
        if self._writing is not None:
            return
        if resting and self._loop.time() >= self._rested_at:
            self._cancel_timer()
            self._timer = self._loop.call_later(0, self._write)
        elif self._timer is None:
            self._timer = self._loop.call_later(self._pause_s, self._write)

    def finished(self, seq: int, task: Task) -> None:
        """The task ended at `seq`; the next writing makes its record."""
        self._finished.append((seq, task))

    def forget(self, task_ids: Iterable[str]) -> None:
        """Retention removes these; they must not come back."""
        gone = set(task_ids)
        self._kept = [task_id for task_id in self._kept if task_id not in gone]
        if self._writing is not None:
            self._forgotten |= gone

    def metadata_changed(self) -> None:
        """The next writing replaces metadata.json too."""
        self._metadata_changed = True

    async def flush(self) -> None:
        """Bring the files up to what is durable, as a clean stop does. A disk that refuses leaves them behind."""
        for _ in range(3):
            if self._writing is not None:
                await asyncio.wait([self._writing])
                await asyncio.sleep(0)  # its own callback comes first
            if not self._dirty:
                return
            self._write()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def abandon(self) -> None:
        """Write nothing more; a writing that is under way leaves off before its next record."""
        self._over = True
        self._dirty = False
        self._cancel_timer()

    async def abandoned(self) -> None:
        """`abandon`, and wait until nothing is being written."""
        self.abandon()
        if self._writing is not None:
            await asyncio.wait([self._writing])

    def resume(self) -> None:
        """Write again after all."""
        self._over = False
        self.ask()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write(self) -> None:
        self._cancel_timer()
        if self._writing is not None or not self._dirty:
            return
        self._dirty = False
        moment = self._moment()
        finished, self._finished = self._finished, []
        changed, self._metadata_changed = self._metadata_changed, False
        ended = [*self._kept, *(task.task_id for _, task in finished)]
        over = max(0, len(ended) - moment.session.policy.tasks_kept)
        work = _Work(moment, finished, changed, set(ended[:over]), ended[over:], self._loop.time())
        self._writing = self._loop.run_in_executor(self._threads, self._written, work)
        self._writing.add_done_callback(lambda done: self._done(done, work))

    def _written(self, work: _Work) -> bool:
        """In a thread."""
        lines: dict[str, tuple[Task | Run, bytes]] = {}
        counts: Counter[str] = Counter()
        for task in work.moment.tasks:
            if task.task_id not in work.dropped:
                lines[task.task_id] = self._line(task.task_id, task)
                counts[task.state.value] += 1
        finished = [(seq, task.state, task.task_id, self._line(task.task_id, task)[1]) for seq, task in work.finished]
        runs = {run.run_id: self._line(run.run_id, run) for run in work.moment.runs}
        self._lines = lines | runs
        return self._folder.write_views(
            View(
                session=work.moment.session,
                seq=work.moment.seq,
                position=work.moment.position,
                task_lines=[line for _, line in lines.values()],
                counts=dict(counts),
                keys=work.moment.keys,
                run_lines=[line for _, line in runs.values()],
                live_runs=sum(run.live for run in work.moment.runs),
                finished=finished,
                metadata_changed=work.metadata_changed,
            ),
            wanted=lambda: not self._over,
        )

    def _line(self, name: str, value: Task | Run) -> tuple[Task | Run, bytes]:
        known = self._lines.get(name)
        if known is None or known[0] is not value:
            known = self._lines[name] = (value, msgspec.json.encode(value))
        return known

    def _done(self, done: asyncio.Future[bool], work: _Work) -> None:
        self._writing = None
        now = self._loop.time()
        took_s = now - work.began
        self._pause_s = min(max(LAG_S, took_s / DUTY), MOST_LAG_S)
        self._rested_at = now + min(took_s / RESTING_DUTY, MOST_LAG_S)
        if done.exception() is not None:
            # The journal has it all; only the files are behind.
            self._finished = work.finished + self._finished
            self._metadata_changed |= work.metadata_changed
            self._pause_s = max(self._pause_s, REFUSED_S)
            self._dirty = True
        else:
            self._kept = [task_id for task_id in work.kept if task_id not in self._forgotten]
            self._forgotten.clear()
            self._drop(work.dropped)
            if not done.result():
                self._edited()
        if self._dirty:
            self.ask()
