from hypothesis import given
from hypothesis import strategies as st

from agentd.model.session import Keep, Retention
from agentd.model.task import State
from agentd.store.retention import MAX_NAMES, OutputFiles, Plan, RecordFile, SegmentFile, SessionFacts, plan

NOW = 1_000_000.0
DAY = 86_400.0


def record(n: int, *, size: int = 100, age: float = 0.0) -> RecordFile:
    return RecordFile(seq=n, state=State.COMPLETED, task_id=f"t{n}", bytes=size, at=NOW - age)


def output(n: int, *, size: int = 1000, age: float = 0.0, attempt: int = 1) -> OutputFiles:
    return OutputFiles(attempt_id=f"t{n}.{attempt}", suffixes=(".log",), bytes=size, at=NOW - age)


def segment(number: int, *tasks: str, age: float = 0.0) -> SegmentFile:
    return SegmentFile(number=number, bytes=10, at=NOW - age, tasks=frozenset(tasks))


def ids(made: Plan) -> set[str]:
    return {record.task_id for step in made.steps for record in step.records}


def logs(made: Plan) -> set[str]:
    return {output.attempt_id for step in made.steps for output in step.outputs}


def cut(made: Plan) -> list[int]:
    return [number for step in made.steps for number in step.segments]


def tasks_kept(**keep: float) -> Retention:
    return Retention(tasks=Keep(**keep))  # type: ignore[arg-type]


def test_without_limits_nothing_goes() -> None:
    facts = SessionFacts(session_id="s", updated_at=0, records=(record(1, age=1e9),), outputs=(output(1, age=1e9),))
    assert plan([facts], Retention(), NOW) == Plan()


def test_records_go_by_age_count_and_bytes_oldest_first() -> None:
    records = tuple(record(n, age=(10 - n) * DAY) for n in range(1, 11))
    facts = [SessionFacts(session_id="s", updated_at=NOW, records=records)]
    assert ids(plan(facts, tasks_kept(max_age_s=7.5 * DAY), NOW)) == {"t1", "t2"}
    assert ids(plan(facts, tasks_kept(max_count=7), NOW)) == {"t1", "t2", "t3"}
    assert ids(plan(facts, tasks_kept(max_bytes=650), NOW)) == {"t1", "t2", "t3", "t4"}
    assert ids(plan(facts, tasks_kept(max_count=0), NOW)) == {r.task_id for r in records}


def test_of_files_written_in_one_tick_of_the_clock_those_go_whose_task_ended_first() -> None:
    names = ("z", "a", "m")
    records = tuple(
        RecordFile(seq=seq, state=State.COMPLETED, task_id=name, bytes=1, at=NOW) for seq, name in enumerate(names)
    )
    outputs = tuple(OutputFiles(attempt_id=f"{name}.1", suffixes=(".log",), bytes=1, at=NOW) for name in names)
    facts = [SessionFacts(session_id="s", updated_at=NOW, records=records, outputs=outputs)]
    assert ids(plan(facts, tasks_kept(max_count=1), NOW)) == {"z", "a"}
    assert logs(plan(facts, Retention(output=Keep(max_count=2)), NOW)) == {"z.1"}


def test_output_goes_before_its_record_and_with_it() -> None:
    facts = [
        SessionFacts(
            session_id="s",
            updated_at=NOW,
            records=(record(1, age=3 * DAY), record(2, age=2 * DAY), record(3)),
            outputs=(output(1, age=DAY), output(1, age=3 * DAY, attempt=2), output(2, age=2 * DAY), output(3)),
        )
    ]
    made = plan(facts, Retention(output=Keep(max_age_s=1.5 * DAY)), NOW)
    assert (ids(made), logs(made), made.bytes) == (set(), {"t1.2", "t2.1"}, 2000)
    made = plan(facts, tasks_kept(max_count=2), NOW)
    assert (ids(made), logs(made), made.bytes) == ({"t1"}, {"t1.1", "t1.2"}, 2100)
    assert (made.tasks, made.outputs) == (1, 2)


def test_live_and_held_tasks_and_pinned_sessions_stay_and_count() -> None:
    records = (record(1, age=4), record(2, age=3), record(3, age=2), record(4, age=1))
    outputs = tuple(output(n, age=9) for n in (1, 2, 3, 4, 5))
    facts = SessionFacts(
        session_id="s",
        updated_at=0,
        live=frozenset({"t5"}),
        held=frozenset({"t1"}),
        records=records,
        outputs=outputs,
        segments=(segment(1, "t1"), segment(2)),
        segment=2,
    )
    everything = Retention(tasks=Keep(max_count=0), output=Keep(max_count=0), sessions=Keep(max_count=0))
    made = plan([facts], everything, NOW)
    assert made.sessions == ()
    assert ids(made) == {"t2", "t3", "t4"}
    assert logs(made) == {"t2.1", "t3.1", "t4.1"}
    assert cut(made) == []
    assert ids(plan([facts], tasks_kept(max_count=2), NOW)) == {"t2", "t3"}
    pinned = SessionFacts(session_id="s", updated_at=0, pinned=True, records=records, outputs=outputs)
    assert plan([pinned], everything, NOW) == Plan()


def test_the_daemons_limits_are_for_all_sessions_together() -> None:
    facts = [
        SessionFacts(session_id="a", updated_at=NOW, records=(record(1, age=4), record(2, age=1))),
        SessionFacts(session_id="b", updated_at=NOW, records=(record(3, age=3), record(4, age=2))),
    ]
    assert ids(plan(facts, tasks_kept(max_count=2), NOW)) == {"t1", "t3"}


def test_a_sessions_own_limits_stand_instead() -> None:
    facts = [
        SessionFacts(session_id="a", updated_at=0, retention=Retention(), records=(record(1, age=9), record(2))),
        SessionFacts(session_id="b", updated_at=0, retention=tasks_kept(max_count=1), records=(record(3), record(4))),
        SessionFacts(session_id="c", updated_at=NOW, records=(record(5, age=9), record(6))),
    ]
    made = plan(facts, Retention(tasks=Keep(max_age_s=5), sessions=Keep(max_age_s=5)), NOW)
    assert ids(made) == {"t3", "t5"}
    assert made.sessions == ()


def test_whole_sessions_go_when_they_are_idle() -> None:
    old = [
        SessionFacts(session_id="old", updated_at=NOW - 9, records=(record(1),), outputs=(output(1),)),
        SessionFacts(session_id="live", updated_at=NOW - 9, live=frozenset({"t2"})),
        SessionFacts(session_id="held", updated_at=NOW - 9, held=frozenset({"t3"}), records=(record(3),)),
        SessionFacts(session_id="keyed", updated_at=NOW - 9, keyed=True),
        SessionFacts(session_id="pinned", updated_at=NOW - 9, pinned=True),
        SessionFacts(session_id="new", updated_at=NOW - 1),
    ]
    assert plan(old, Retention(sessions=Keep(max_age_s=5)), NOW) == Plan(sessions=("old",), bytes=1100)
    assert plan(old, Retention(sessions=Keep(max_count=0)), NOW).sessions == ("new", "old")


def test_what_goes_with_its_session_does_not_count_again() -> None:
    facts = [
        SessionFacts(session_id="old", updated_at=NOW - 9, records=(record(1, age=9),)),
        SessionFacts(session_id="new", updated_at=NOW, records=(record(2),)),
    ]
    made = plan(facts, Retention(tasks=Keep(max_count=1), sessions=Keep(max_age_s=5)), NOW)
    assert made == Plan(sessions=("old",), bytes=100)


def test_segments_go_from_the_first_while_all_their_tasks_are_gone() -> None:
    segments = (segment(1, "t1"), segment(2, "t1", "t2"), segment(3, "t3"), segment(4, "t2"), segment(5))

    def gone(count: int, **changes: object) -> list[int]:
        fields = {"records": (record(1, age=3), record(2, age=2), record(3, age=1)), "segments": segments, "segment": 5}
        facts = SessionFacts(session_id="s", updated_at=NOW, **(fields | changes))  # type: ignore[arg-type]
        return cut(plan([facts], tasks_kept(max_count=count), NOW))

    assert gone(3) == []
    assert gone(2) == [1]
    assert gone(1) == [1, 2]
    assert gone(0) == [1, 2, 3, 4]
    assert gone(0, segment=3) == [1, 2]  # the snapshot needs the third
    assert gone(0, live=frozenset({"t2"})) == [1]
    assert gone(0, pinned=True) == []
    assert gone(0, segments=(segment(1, "t1"),)) == []  # the last one never goes
    assert gone(0, segments=(SegmentFile(number=1, bytes=1, at=0.0), segment(2))) == []  # nobody read it


def test_a_segment_that_tells_of_no_task_goes_by_its_age() -> None:
    segments = (segment(1, age=9), segment(2, age=3), segment(3))
    facts = SessionFacts(session_id="s", updated_at=NOW, segments=segments, segment=3)
    assert cut(plan([facts], tasks_kept(max_age_s=5), NOW)) == [1]
    assert cut(plan([facts], tasks_kept(max_count=0), NOW)) == []


def test_no_event_names_more_than_it_may() -> None:
    records = tuple(record(n) for n in range(2 * MAX_NAMES + 1))
    outputs = tuple(output(n) for n in range(MAX_NAMES + 1))
    facts = SessionFacts(session_id="s", updated_at=NOW, records=records, outputs=outputs)
    made = plan([facts], tasks_kept(max_count=0), NOW)
    events = [step.event("2026-01-01T00:00:00.000000Z") for step in made.steps]
    assert max(len(event.tasks) + len(event.outputs) for event in events) == MAX_NAMES
    assert {task for event in events for task in event.tasks} == {r.task_id for r in records}
    assert {attempt for event in events for attempt in event.outputs} == {o.attempt_id for o in outputs}
    assert sum(event.bytes for event in events) == made.bytes


KEEPS = st.builds(
    Keep,
    max_age_s=st.none() | st.floats(0, 20),
    max_count=st.none() | st.integers(0, 8),
    max_bytes=st.none() | st.integers(0, 800),
)
RETENTIONS = st.builds(Retention, tasks=KEEPS, output=KEEPS, sessions=KEEPS)


@st.composite
def sessions(draw: st.DrawFn) -> list[SessionFacts]:
    found = []
    for n in range(draw(st.integers(0, 4))):
        tasks = [n * 10 + k for k in range(draw(st.integers(0, 6)))]
        some = st.sets(st.sampled_from([f"t{k}" for k in tasks])) if tasks else st.just(set[str]())
        live = draw(some)
        found.append(
            SessionFacts(
                session_id=f"s{n}",
                updated_at=NOW - draw(st.integers(0, 20)),
                pinned=draw(st.booleans()),
                live=frozenset(live),
                held=frozenset(draw(some)),
                keyed=draw(st.booleans()),
                retention=draw(st.none() | RETENTIONS),
                segment=draw(st.integers(1, 4)),
                records=tuple(record(k, age=draw(st.integers(0, 20))) for k in tasks if f"t{k}" not in live),
                outputs=tuple(output(k, age=draw(st.integers(0, 20))) for k in tasks),
                segments=tuple(segment(k, *draw(some)) for k in range(1, draw(st.integers(1, 5)))),
            )
        )
    return found


@given(facts=sessions(), retention=RETENTIONS)
def test_what_must_stay_stays_under_any_limits(facts: list[SessionFacts], retention: Retention) -> None:
    made = plan(facts, retention, NOW)
    by_id = {f.session_id: f for f in facts}
    for session_id in made.sessions:
        session = by_id[session_id]
        assert not (session.pinned or session.live or session.held or session.keyed)
    gone = ids(made)
    for step in made.steps:
        session = by_id[step.session_id]
        assert step.session_id not in made.sessions
        assert not session.pinned
        kept = session.live | session.held
        assert not kept & {r.task_id for r in step.records}
        assert not kept & {o.task_id for o in step.outputs}
        remaining = kept | {r.task_id for r in session.records if r.task_id not in gone}
        for number in step.segments:
            (found,) = (s for s in session.segments if s.number == number)
            assert number < min(session.segment, session.segments[-1].number)
            assert not (found.tasks or frozenset()) & remaining


@given(facts=sessions(), retention=RETENTIONS)
def test_a_second_plan_after_the_first_was_carried_out_is_empty(
    facts: list[SessionFacts], retention: Retention
) -> None:
    made = plan(facts, retention, NOW)
    gone, logs_gone = ids(made), logs(made)
    left = [
        SessionFacts(
            session_id=f.session_id,
            updated_at=f.updated_at,
            pinned=f.pinned,
            live=f.live,
            held=f.held,
            keyed=f.keyed,
            retention=f.retention,
            segment=f.segment,
            records=tuple(r for r in f.records if r.task_id not in gone),
            outputs=tuple(o for o in f.outputs if o.attempt_id not in logs_gone),
        )
        for f in facts
        if f.session_id not in made.sessions
    ]
    again = plan(left, retention, NOW)
    assert again.steps == ()
