"""What goes when the limits on what is kept are reached. Pure: `pruning` reads and removes."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from agentd.model.events import SessionPruned
from agentd.model.session import Keep, Retention
from agentd.model.task import State, Value
from agentd.store import layout

#: Names in one event, so that no record of the journal grows without bound.
MAX_NAMES = 1000

_RUN = 8192


class RecordFile(Value, frozen=True, kw_only=True, gc=False):
    """The record of a finished task; `at` is when it was written, in seconds since the epoch."""

    seq: int
    state: State
    task_id: str
    bytes: int
    at: float

    @property
    def name(self) -> str:
        """Its file in history/."""
        return layout.record_name(self.seq, self.state, self.task_id)


class OutputFiles(Value, frozen=True, kw_only=True, gc=False):
    """The log, index and result of an attempt, as far as they are there; `at` is when they were last written."""

    attempt_id: str
    suffixes: tuple[str, ...]
    bytes: int
    at: float

    @property
    def task_id(self) -> str:
        """The task of the attempt."""
        return self.attempt_id.partition(".")[0]

    @property
    def names(self) -> list[str]:
        """Its files in output/."""
        return [self.attempt_id + suffix for suffix in self.suffixes]


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


class _Item(NamedTuple):
    """Something that may have to go."""

    at: float
    session_id: str
    rank: int  #: which of two of the session's files ended first; the file system's clock ticks only every few ms
    name: str
    bytes: int
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


def _whole(facts: SessionFacts) -> Iterator[_Item]:
    stays = facts.pinned or bool(facts.live or facts.held) or facts.keyed
    yield _Item(facts.updated_at, facts.session_id, 0, facts.session_id, _size(facts), stays)


def _records(facts: SessionFacts) -> Iterator[_Item]:
    kept = facts.live | facts.held
    for record in facts.records:
        stays = facts.pinned or record.task_id in kept
        yield _Item(record.at, facts.session_id, record.seq, record.task_id, record.bytes, stays)


def _outputs(facts: SessionFacts) -> Iterator[_Item]:
    kept = facts.live | facts.held
    ended = {record.task_id: record.seq for record in facts.records}
    for output in facts.outputs:
        stays = facts.pinned or output.task_id in kept
        rank = ended.get(output.task_id, 0)
        yield _Item(output.at, facts.session_id, rank, output.attempt_id, output.bytes, stays)


def _over(
    sessions: Sequence[SessionFacts],
    retention: Retention,
    part: Callable[[Retention], Keep],
    items: Callable[[SessionFacts], Iterator[_Item]],
    now: float,
) -> set[tuple[str, str]]:
    """Session and name of the items over the limits: the daemon's for all that have none of their own."""
    shared = [facts for facts in sessions if facts.retention is None]
    gone = _oldest_over(shared, items, part(retention), now)
    for facts in sessions:
        if facts.retention is not None:
            gone |= _oldest_over([facts], items, part(facts.retention), now)
    return gone


def _oldest_over(
    sessions: Sequence[SessionFacts], items: Callable[[SessionFacts], Iterator[_Item]], keep: Keep, now: float
) -> set[tuple[str, str]]:
    if keep == Keep():
        return set()
    count = size = 0
    for facts in sessions:
        for item in items(facts):
            count += 1
            size += item.bytes

    def over(item: _Item) -> bool:
        return (
            (keep.max_age_s is not None and now - item.at > keep.max_age_s)
            or (keep.max_count is not None and count > keep.max_count)
            or (keep.max_bytes is not None and size > keep.max_bytes)
        )

    # Of the many there may be, only those are held that are over a limit as things stand: when no more than the age
    # is, few.
    candidates = (item for facts in sessions for item in items(facts) if not item.stays and over(item))
    gone: set[tuple[str, str]] = set()
    for item in _oldest_first(candidates):
        if not over(item):
            break  # nor is any that is younger
        gone.add((item.session_id, item.name))
        count -= 1
        size -= item.bytes
    return gone


def _oldest_first(items: Iterator[_Item]) -> Iterator[_Item]:
    """In runs, for one sort of 100,000 would keep every other thread from running."""
    runs = []
    while run := sorted(islice(items, _RUN)):
        runs.append(run)
    return heapq.merge(*runs)


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
