"""One session as lists show it, in memory or not."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from agentd.model.changes import active, applied_to_task
from agentd.model.events import Event, SessionCreated, TaskCreated
from agentd.model.run import Run
from agentd.model.session import Session
from agentd.model.task import Task
from agentd.store.folder import Appended, Loaded
from agentd.store.ledger import Ledger
from agentd.store.locks import DirectoryLock
from agentd.store.replay import key_record


class Entry:
    """One session: what lists show, and its ledger while it is resident."""

    def __init__(self, session: Session, counts: dict[str, int], reason: str | None = None, *, seq: int = 0) -> None:
        self._session = session
        self._seq = seq
        self._counts = counts
        self._reason = reason
        self.ledger: Ledger | None = None
        self.lock: DirectoryLock | None = None
        self.loading: asyncio.Future[None] | None = None
        self.oldest = ""  #: when the first of its tasks was created, once they were read while it is not resident
        self.tasks: dict[str, Task] = {}  #: of a session without a ledger that has a reason, as far as it was read
        self.runs: dict[str, Run] = {}  #: likewise

    @property
    def session(self) -> Session:
        """As it is durable."""
        return self.ledger.session if self.ledger else self._session

    @property
    def counts(self) -> dict[str, int]:
        """Tasks by state, of those in tasks.json; states without a task are left out."""
        counts = self.ledger.counts if self.ledger else self._counts
        return {state: count for state, count in counts.items() if count}

    @property
    def seq(self) -> int:
        """The last durable event."""
        return self.ledger.seq if self.ledger else self._seq

    @property
    def reason(self) -> str | None:
        """Why the session is read-only; None when it is not."""
        return self.ledger.reason if self.ledger else self._reason

    @property
    def at_rest(self) -> tuple[Session, dict[str, int], int]:
        """Session, counts and last event, of any thread's asking, once that saw that there is no ledger."""
        return self._session, self._counts, self._seq

    def suppose(self, tasks: dict[str, Task]) -> None:
        """Show these for what was read: what cannot be recorded is true all the same."""
        self.tasks |= tasks
        self._counts = dict(Counter(task.state.value for task in self.tasks.values()))

    def put_out(self) -> None:
        """Forget the ledger, keep what lists show."""
        if self.ledger is not None:
            self._session, self._counts, self._seq, self._reason = self.session, self.counts, self.seq, None
            self.tasks = {}
            self.oldest = ""
            self.ledger = None
        if self.lock is not None:
            self.lock.release()
            self.lock = None


def first_state(session: Session, events: Sequence[Event], appended: Appended) -> Loaded:
    """The state that a session's first events make."""
    tasks, keys = {}, {}
    for seq, event in enumerate(events, 1):
        if isinstance(event, TaskCreated):
            tasks[event.task_id] = applied_to_task(None, event, seq)
            session = active(session, event)
        if isinstance(event, (TaskCreated, SessionCreated)) and (key := key_record(event, seq)):
            keys[key.key_hash] = key
    return Loaded(
        session=session,
        tasks=tasks,
        seq=len(events),
        finished_order=[],
        keys=keys,
        position=appended.position,
        torn=0,
    )
