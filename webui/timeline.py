"""When the tasks of a session waited and ran, as the geometry of a drawing: a pure function of rows and a time.

A lane per task, a bar for each stretch of waiting and for each attempt. Places are percent of the width, so that text
keeps its size on any screen. All times are the agent's own, `now` too; a clock that jumped gives short bars, not none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from webui.tasklist import ended
from webui.words import duration, look, moment, title_of

#: Lanes that are drawn; of more tasks, those that run, then the newest that ran.
MAX_LANES = 50
#: Bars of one lane; of more, the latest.
MAX_BARS = 50
MIN_WIDTH = 0.6  #: percent; less could not be seen
LANE_HEIGHT = 40  #: pixels: a line of text, the bar, a gap
MAX_TICKS = 4
MAX_TITLE = 60  #: characters

_STEPS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800)
_STEPS_H = (1, 2, 3, 6, 12, 24, 48, 168, 336, 720, 2160, 8760, 87600)
_STEPS = (*_STEPS_S, *(3600 * hours for hours in _STEPS_H))
#: What a time of day can be computed of, in epoch seconds; clocks that say else are taken at their limit.
_FIRST, _LAST = -62_135_596_800.0, 253_402_300_799.0


class Bar(NamedTuple):
    """A stretch of time of one task."""

    x: float  #: percent of the width, as `width` is
    width: float
    attempt: int | None  #: None: it waited
    state: str  #: what it stands for: the outcome of an attempt, else the state it waited in
    tone: str
    icon: str
    name: str  #: in words, for people who cannot see it


class Lane(NamedTuple):
    """A task."""

    task: Any
    title: str
    y: int  #: pixels
    bars: list[Bar]


class Tick(NamedTuple):
    """A time on the axis."""

    x: float
    label: str
    anchor: str  #: SVG text-anchor: labels at the edges stay within


class Timeline(NamedTuple):
    """All that is drawn."""

    lanes: list[Lane]
    ticks: list[Tick]
    now: float | None  #: where now is, when something goes on
    height: int  #: pixels
    span: str  #: what the drawing covers, in words
    left_out: int  #: tasks that are not drawn


class _Stretch(NamedTuple):
    begin: float  #: epoch seconds
    end: float
    attempt: int | None
    state: str


def timeline(tasks: Sequence[dict[str, Any]], now: datetime) -> Timeline | None:
    """The drawing of these tasks, None when there is nothing to draw.

    Args:
        tasks: as agents answer them; what has another shape is passed over.
        now: by the agent's own clock.
    """
    at = now.timestamp()
    chosen = sorted(sorted(tasks, key=_worth, reverse=True)[:MAX_LANES], key=_created)
    drawn = [(task, list(_stretches(task, at))[-MAX_BARS:]) for task in chosen]
    every = [stretch for _, stretches in drawn for stretch in stretches]
    if not every:
        return None
    begin, end = min(each.begin for each in every), max(each.end for each in every)
    scale = _Scale(begin, max(end, begin + 0.001))
    goes_on = any(not ended(task) for task, stretches in drawn if stretches)
    lanes = [
        Lane(
            task,
            title_of(task, MAX_TITLE),
            row * LANE_HEIGHT,
            [_bar(each, scale) for each in stretches if _is_seen(each, scale)],
        )
        for row, (task, stretches) in enumerate(drawn)
    ]
    return Timeline(
        lanes=lanes,
        ticks=list(_ticks(scale)),
        now=scale.x(at) if goes_on and begin <= at <= end else None,
        height=len(lanes) * LANE_HEIGHT,
        span=f"{_utc(begin):%Y-%m-%d %H:%M:%S} to {_utc(end):%Y-%m-%d %H:%M:%S} UTC, {duration(end - begin)}",
        left_out=len(tasks) - len(chosen),
    )


class _Scale(NamedTuple):
    begin: float
    end: float

    def x(self, time: float) -> float:
        return round(min(max((time - self.begin) / (self.end - self.begin), 0.0), 1.0) * 100, 3)


def _is_seen(stretch: _Stretch, scale: _Scale) -> bool:
    """Every attempt is, waiting only where it took a while."""
    return stretch.attempt is not None or scale.x(stretch.end) - scale.x(stretch.begin) >= MIN_WIDTH


def _bar(stretch: _Stretch, scale: _Scale) -> Bar:
    left, right = scale.x(stretch.begin), scale.x(stretch.end)
    width = min(max(right - left, MIN_WIDTH), 100.0)
    took = duration(stretch.end - stretch.begin)
    seen = look(stretch.state)
    what = stretch.state if stretch.attempt is None else f"attempt {stretch.attempt}, {stretch.state}"
    name = f"{what}, {took}, from {_utc(stretch.begin):%H:%M:%S} UTC"
    return Bar(min(left, 100.0 - width), width, stretch.attempt, stretch.state, seen.tone, seen.icon, name)


def _stretches(task: dict[str, Any], now: float) -> Iterator[_Stretch]:
    """What a task did, in order: waiting from its transitions, running from its attempts."""
    yield from sorted((*_waits(task, now), *_runs(task, now)), key=lambda each: each.begin)


def _waits(task: dict[str, Any], now: float) -> Iterator[_Stretch]:
    changes = [(str(change.get("state")), _epoch(change.get("at"))) for change in _dicts(task.get("transitions"))]
    for number, (state, begin) in enumerate(changes):
        last = number + 1 == len(changes)
        if begin is None or state == "running" or (last and ended(task)):
            continue
        end = now if last else changes[number + 1][1]
        yield _Stretch(begin, max(begin, end if end is not None else begin), None, state)


def _runs(task: dict[str, Any], now: float) -> Iterator[_Stretch]:
    attempts = _dicts(task.get("attempts"))
    for number, attempt in enumerate(attempts, 1):
        begin = _epoch(attempt.get("started_at"))
        if begin is None:
            continue
        last = number == len(attempts)
        n = attempt.get("n")
        state = outcome(task, attempt, last=last)
        end = _epoch(attempt.get("ended_at"))
        if end is None or end < begin:
            took = attempt.get("duration_s")
            known = isinstance(took, int | float) and math.isfinite(took)
            end = begin + took if known and took is not None else now if state == "running" else begin
        yield _Stretch(begin, min(max(begin, end), _LAST), n if isinstance(n, int) else number, state)


def outcome(task: dict[str, Any], attempt: dict[str, Any], *, last: bool) -> str:
    """How an attempt stands, in the words of states: that of its task for the last one, else what its cause says."""
    if last and (ended(task) or attempt.get("ended_at") is None):
        return str(task.get("state"))
    cause = attempt.get("cause")
    code = str(cause.get("code")) if isinstance(cause, dict) else ""
    return {"": "unknown", "ok": "completed", "timeout": "timeout", "session_timeout": "timeout"}.get(
        code, "cancelled" if "cancelled" in code else "failed"
    )


def _ticks(scale: _Scale) -> Iterator[Tick]:
    span = scale.end - scale.begin
    step = next((each for each in _STEPS if span / each <= MAX_TICKS), span / MAX_TICKS)
    first = math.ceil(scale.begin / step)
    days = scale.begin // 86_400 != scale.end // 86_400
    for number in range(MAX_TICKS + 1):
        time = (first + number) * step
        if time > scale.end:
            return
        x = scale.x(time)
        yield Tick(x, _label(time, step, days), "start" if x < 10 else "end" if x > 90 else "middle")


def _label(time: float, step: float, days: bool) -> str:
    at = _utc(time)
    if step < 1:
        return f"{at:%H:%M:%S}.{at.microsecond // 10_000:02}"
    if step < 60:
        return f"{at:%H:%M:%S}"
    if step < 86_400:
        return f"{at:%d %b %H:%M}" if days else f"{at:%H:%M}"
    return f"{at:%Y-%m-%d}"


def _worth(task: dict[str, Any]) -> tuple[bool, bool, tuple[float, str]]:
    """What is drawn first of many: what runs, then what ran, then what only waits; of these the newest."""
    return task.get("state") == "running", bool(task.get("attempts")), _created(task)


def _created(task: dict[str, Any]) -> tuple[float, str]:
    return _epoch(task.get("created_at")) or 0.0, str(task.get("task_id"))


def _dicts(value: object) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _epoch(time: object) -> float | None:
    at = moment(time)
    return min(max(at.timestamp(), _FIRST), _LAST) if at is not None else None


def _utc(epoch: float) -> datetime:
    return datetime.fromtimestamp(min(max(epoch, _FIRST), _LAST), UTC)
