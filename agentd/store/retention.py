"""What goes when the limits on what is kept are reached. Pure: `pruning` reads and removes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from agentd.model.events import SessionPruned
from agentd.model.session import Keep, Retention
from agentd.model.task import Value

#: Names in one event, so that no record of the journal grows without bound.
MAX_NAMES = 1000


class RecordFile(Value, frozen=True, kw_only=True):
    """The record of a finished task; `at` is when it was written, in seconds since the epoch."""

    seq: int
    task_id: str
    name: str
    bytes: int
    at: float


class OutputFiles(Value, frozen=True, kw_only=True):
    """The log, index and result of an attempt; `at` is when they were last written."""

    task_id: str
    attempt_id: str
    names: tuple[str, ...]
    bytes: int
    at: float


class SegmentFile(Value, frozen=True, kw_only=True):
    """A segment of the journal; `tasks` are those it tells of, None when it was not read."""

    number: int
    bytes: int
    at: float
    tasks: frozenset[str] | None = None


class SessionFacts(Value, frozen=True, kw_only=True):
    """A session as retention sees it."""

    session_id: str
    updated_at: float  #: seconds since the epoch
    pinned: bool = False
    live: frozenset[str] = frozenset()  #: tasks that are not terminal
    held: frozenset[str] = frozenset()  #: finished tasks that must stay: unexpired keys, needs of live ones
    keyed: bool = False  #: an unexpired idempotency key made the session itself
    retention: Retention | None = None  #: its own, instead of the daemon's
    segment: int = 1  #: where the snapshot's position is; it and later ones stay
    records: tuple[RecordFile, ...] = ()
    outputs: tuple[OutputFiles, ...] = ()
    segments: tuple[SegmentFile, ...] = ()


class Step(Value, frozen=True, kw_only=True):
    """Part of what goes from a session: journal `event(at)`, then `carry_out`."""

    session_id: str
    records: tuple[RecordFile, ...] = ()
    outputs: tuple[OutputFiles, ...] = ()
    segments: tuple[int, ...] = ()
    bytes: int = 0

    def event(self, at: str) -> SessionPruned:
        """The record of it."""
        return SessionPruned(
            at=at,
            tasks=tuple(r.task_id for r in self.records),
            outputs=tuple(o.attempt_id for o in self.outputs),
            bytes=self.bytes,
        )


class Plan(Value, frozen=True, kw_only=True):
    """What would go: whole sessions, and steps in others."""

    sessions: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    bytes: int = 0

    @property
    def tasks(self) -> int:
        """How many records."""
        return sum(len(step.records) for step in self.steps)

    @property
    def outputs(self) -> int:
        """The output of how many attempts."""
        return sum(len(step.outputs) for step in self.steps)


class _Item(Value, frozen=True, kw_only=True):
    """Something that may have to go."""

    session_id: str
    name: str
    bytes: int
    at: float
    stays: bool


def plan(sessions: Sequence[SessionFacts], retention: Retention, now: float) -> Plan:
    """What is over a limit, oldest first; `now` in seconds since the epoch.

    A session with limits of its own is measured alone, all others together against the daemon's. Never touched: pinned
    sessions, live tasks, finished ones that are `held`, and whole sessions that are `keyed` or hold any of those; they
    count towards the limits all the same. Output may go before its task's record, and goes with it. A segment of the
    journal goes when everything before it went and it tells only of tasks whose records are gone.
    """
    gone = _over(sessions, retention, lambda r: r.sessions, _whole, now)
    whole = {name for _, name in gone}
    rest = [facts for facts in sessions if facts.session_id not in whole]
    records = _over(rest, retention, lambda r: r.tasks, _records, now)
    outputs = _over(rest, retention, lambda r: r.output, _outputs, now)
    steps: list[Step] = []
    for facts in rest:
        steps += _steps(facts, (facts.retention or retention).tasks, records, outputs, now)
    size = sum(_size(facts) for facts in sessions if facts.session_id in whole) + sum(step.bytes for step in steps)
    return Plan(sessions=tuple(sorted(whole)), steps=tuple(steps), bytes=size)


def _size(facts: SessionFacts) -> int:
    """Bytes of what is known of it; artifacts and workspace come on top."""
    return sum(part.bytes for parts in (facts.records, facts.outputs, facts.segments) for part in parts)


def _whole(facts: SessionFacts) -> list[_Item]:
    stays = facts.pinned or bool(facts.live or facts.held) or facts.keyed
    name = facts.session_id
    return [_Item(session_id=name, name=name, bytes=_size(facts), at=facts.updated_at, stays=stays)]


def _records(facts: SessionFacts) -> list[_Item]:
    kept = facts.live | facts.held
    return [
        _Item(
            session_id=facts.session_id,
            name=record.task_id,
            bytes=record.bytes,
            at=record.at,
            stays=facts.pinned or record.task_id in kept,
        )
        for record in facts.records
    ]


def _outputs(facts: SessionFacts) -> list[_Item]:
    kept = facts.live | facts.held
    return [
        _Item(
            session_id=facts.session_id,
            name=output.attempt_id,
            bytes=output.bytes,
            at=output.at,
            stays=facts.pinned or output.task_id in kept,
        )
        for output in facts.outputs
    ]


def _over(
    sessions: Sequence[SessionFacts],
    retention: Retention,
    part: Callable[[Retention], Keep],
    items: Callable[[SessionFacts], list[_Item]],
    now: float,
) -> set[tuple[str, str]]:
    """Session and name of the items over the limits: the daemon's for all that have none of their own."""
    shared: list[_Item] = []
    gone: set[tuple[str, str]] = set()
    for facts in sessions:
        if facts.retention is None:
            shared += items(facts)
        else:
            gone |= _oldest_over(items(facts), part(facts.retention), now)
    return gone | _oldest_over(shared, part(retention), now)


def _oldest_over(items: list[_Item], keep: Keep, now: float) -> set[tuple[str, str]]:
    count, size = len(items), sum(item.bytes for item in items)
    gone: set[tuple[str, str]] = set()
    for item in sorted(items, key=lambda item: item.at):
        too_old = keep.max_age_s is not None and now - item.at > keep.max_age_s
        too_many = keep.max_count is not None and count > keep.max_count
        too_large = keep.max_bytes is not None and size > keep.max_bytes
        if item.stays or not (too_old or too_many or too_large):
            continue
        gone.add((item.session_id, item.name))
        count -= 1
        size -= item.bytes
    return gone


def _steps(
    facts: SessionFacts, keep: Keep, records: set[tuple[str, str]], outputs: set[tuple[str, str]], now: float
) -> list[Step]:
    """What goes from one session, in steps whose events are bounded; segments with the last."""
    gone = [record for record in facts.records if (facts.session_id, record.task_id) in records]
    ids = {record.task_id for record in gone}
    logs = [o for o in facts.outputs if (facts.session_id, o.attempt_id) in outputs or o.task_id in ids]
    kept = facts.live | facts.held | {record.task_id for record in facts.records if record.task_id not in ids}
    segments = [] if facts.pinned else _segments(facts, kept, keep, now)
    steps = [_step(facts, outputs=logs[at : at + MAX_NAMES]) for at in range(0, len(logs), MAX_NAMES)]
    steps += [_step(facts, records=gone[at : at + MAX_NAMES]) for at in range(0, len(gone), MAX_NAMES)]
    if segments:
        steps.append(_step(facts, segments=segments))
    return steps


def _step(
    facts: SessionFacts,
    *,
    records: Sequence[RecordFile] = (),
    outputs: Sequence[OutputFiles] = (),
    segments: Sequence[SegmentFile] = (),
) -> Step:
    size = sum(part.bytes for parts in (records, outputs, segments) for part in parts)
    return Step(
        session_id=facts.session_id,
        records=tuple(records),
        outputs=tuple(outputs),
        segments=tuple(segment.number for segment in segments),
        bytes=size,
    )


def _segments(facts: SessionFacts, kept: frozenset[str], keep: Keep, now: float) -> list[SegmentFile]:
    """The leading segments that nothing kept needs. One that tells of no task goes by its age."""
    gone = []
    for segment in sorted(facts.segments, key=lambda s: s.number)[:-1]:
        if segment.number >= facts.segment or segment.tasks is None or segment.tasks & kept:
            break
        if not segment.tasks and (keep.max_age_s is None or now - segment.at <= keep.max_age_s):
            break
        gone.append(segment)
    return gone
