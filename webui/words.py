"""Words and figures for people: times, durations, sizes, states and causes. Unknown ones are shown as they are."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

from markupsafe import Markup, escape


class Look(NamedTuple):
    """How a state is shown: never by colour alone."""

    icon: str
    tone: str  #: a class of the style sheet: run, wait, good, bad, off, odd


#: States of tasks, sessions, workers and agents; one that is not here is shown as it is, with the look of ODD.
LOOKS = {
    "waiting": Look("◷", "wait"),
    "queued": Look("◌", "wait"),
    "running": Look("▶", "run"),
    "completed": Look("✓", "good"),
    "failed": Look("✕", "bad"),
    "timeout": Look("◔", "bad"),
    "cancelled": Look("⊘", "off"),
    "interrupted": Look("⚠", "bad"),
    "skipped": Look("↷", "off"),
    "working": Look("▶", "run"),
    "idle": Look("·", "off"),
    "damaged": Look("⚠", "bad"),
    "starting": Look("◌", "wait"),
    "busy": Look("▶", "run"),
    "lost": Look("✕", "bad"),
    "draining": Look("◷", "wait"),
    "degraded": Look("⚠", "bad"),
    "fresh": Look("✓", "good"),
    "unreachable": Look("⚠", "bad"),
    "error": Look("⚠", "bad"),
    "unauthorized": Look("⚠", "bad"),
    "incompatible": Look("⚠", "bad"),
    "unknown": Look("?", "odd"),
}
ODD = Look("?", "odd")

ACTIVE = ("running", "queued", "waiting")
TERMINAL = ("completed", "failed", "timeout", "cancelled")

#: The largest figure that is told as it is: JSON has integers that no float holds.
_MOST = 1e18


def look(state: object) -> Look:
    """How a state is shown."""
    return LOOKS.get(str(state), ODD)


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them: 340 ms, 12.5 s, 3 min 20 s, 2 h 5 min, 4 d 3 h; empty for None."""
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def size(number: float | None) -> str:
    """Bytes as a person reads them, in powers of 1024; empty for None."""
    if not isinstance(number, int | float):
        return ""
    value = float(_bounded(number))
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def usd(amount: float | None) -> str:
    """US dollars as a person reads them, small amounts too; empty for None."""
    if not isinstance(amount, int | float):
        return ""
    amount = _bounded(amount)
    return f"{amount:.2f} USD" if amount >= 1 or amount == round(amount, 2) else f"{amount:.3g} USD"


def percent(share: float) -> str:
    """A progress from 0 to 100 as a person reads it: 40 %, 12.5 %."""
    return f"{round(_bounded(share), 1):g} %"


def counted(number: float) -> str:
    """A number that may be large: 125,000."""
    return f"{_bounded(number):,.0f}"


def _bounded(number: float) -> float:
    """The number, or the nearest that a float can hold with room for arithmetic: agents may write any."""
    return max(-_MOST, min(number, _MOST))


def moment(text: object) -> datetime | None:
    """The time that an agent wrote, in UTC; None when it is none, or lies outside of the years 1 to 9999."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def when(text: object, now: datetime) -> Markup:
    """A time as `<time>`: how long ago to read, exact in the attribute and on hover. What is none is shown as it is."""
    at = moment(text)
    if at is None:
        return escape("" if text is None else text)
    exact = at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    past = (now - at).total_seconds()  # static/clock.js goes on from there
    return Markup('<time datetime="{}" title="{}" data-ago="{:.0f}">{}</time>').format(
        str(text), exact, past, ago(past)
    )


def ago(seconds: float) -> str:
    """How long ago, in one unit; `in …` for the future."""
    if abs(seconds) < 1:
        return "now"
    span = abs(seconds)
    for limit, unit, each in ((60, "s", 1), (3600, "min", 60), (172_800, "h", 3600), (float("inf"), "d", 86_400)):
        if span < limit:
            text = f"{span // each:.0f} {unit}"
            break
    return f"{text} ago" if seconds > 0 else f"in {text}"


def command_of(task: dict[str, Any]) -> str:
    """What a task does, in one line: its name, else its command, else what its spec says first."""
    spec = task.get("spec")
    if task.get("name"):
        return str(task["name"])
    if not isinstance(spec, dict):
        return str(task.get("kind", "")) if spec is None else str(spec)
    if spec.get("command"):
        return str(spec["command"])
    if isinstance(spec.get("argv"), list):
        return " ".join(map(str, spec["argv"]))
    for field in ("prompt", "operation", "image"):
        if spec.get(field):
            return str(spec[field])
    return str(task.get("kind", ""))


def title_of(task: dict[str, Any], most: int) -> str:
    """`command_of`, or the id of a task that says nothing, on one line of so many characters at most."""
    text = " ".join(command_of(task).split()) or str(task.get("task_id"))
    return text if len(text) <= most else text[: most - 1] + "…"


def coded(text: str) -> Markup:
    """A sentence with what stands between `backticks` as code: what to type, names of fields."""
    parts = re.split(r"`([^`]+)`", text)
    return Markup().join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def cause_of(holder: object) -> str:
    """Why a task or an attempt ended, in a sentence; empty where that is not said."""
    cause = holder.get("cause") if isinstance(holder, dict) else None
    if not isinstance(cause, dict):
        return "" if cause is None else str(cause)
    return str(cause.get("message") or cause.get("code") or "")
