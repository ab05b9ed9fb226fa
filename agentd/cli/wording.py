"""Values as people read them: times, durations, sizes, and text that cannot steer a terminal."""

from __future__ import annotations

import shlex
import unicodedata

from agentd.model.session import Budget, SessionUsage
from agentd.model.task import CauseCode, Question, State, Task, Usage, signal_name

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def printable(text: str) -> str:
    """The text with every control, format and line-separating character escaped, so that it stays one line and
    moves no cursor, switches no colour and reverses no direction."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def width(text: str) -> int:
    """Columns that a terminal gives the text."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shortened(text: str, columns: int) -> str:
    """The text, cut to so many columns with an ellipsis at the end."""
    if width(text) <= columns:
        return text
    kept = ""
    room = columns - 1
    for c in text:
        room -= width(c)
        if room < 0:
            break
        kept += c
    return kept + "…"


def duration(seconds: float | None) -> str:
    """`40ms`, `1.4s`, `12s`, `3m12s`, `2h05m`, `3d4h`."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{max(seconds, 0) * 1000:.0f}ms"
    if seconds < 10:
        return f"{min(seconds, 9.9):.1f}s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600}h"


def age(seconds: float) -> str:
    """`now`, `12s`, `3m`, `2h`, `5d`: the largest unit alone."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "now"


def size(count: int | None) -> str:
    """`512 B`, `1.5 KiB`, `20 GiB`."""
    if count is None:
        return ""
    if count < 1024:
        return f"{count} B"
    amount = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1024 or unit == "TiB":
            break
    return f"{amount:.1f} {unit}" if amount < 10 else f"{amount:.0f} {unit}"


def command(task: Task) -> str:
    """What the task does, as one would type it."""
    spec = task.spec
    argv = spec.get("argv") or spec.get("command")
    if isinstance(argv, list):
        return shlex.join(map(str, argv))
    text = spec.get("command") or spec.get("prompt") or spec.get("image")
    return text.strip() if isinstance(text, str) else f"({task.kind})"


def cause(task: Task) -> str:
    """Why it ended, in a word or two; empty while it runs and when all went well."""
    why = task.cause
    if why is None or why.code is CauseCode.OK:
        return ""
    if why.code is CauseCode.EXIT_CODE:
        return f"exit {why.exit_code}"
    if why.code is CauseCode.SIGNAL and why.signal is not None:
        return signal_name(why.signal)
    return why.code.value


def state(task: Task) -> str:
    """The state with what refines it: how far it is, that it was asked to stop, that it asks its user."""
    if task.state is not State.RUNNING:
        return task.state.value
    words = [task.state.value]
    if task.cancel_requested_at is not None:
        words.append("stopping")
    elif task.awaiting is not None:
        words.append("awaiting")
    elif task.progress is not None:
        words.append(f"{task.progress:.0f}%")
    return " ".join(words)


def bar(progress: float, width: int = 20) -> str:
    """A progress of 0 to 100 as `[########------------]`."""
    done = int(progress / 100 * width)
    return f"[{'#' * done}{'-' * (width - done)}]"


def question(asked: Question) -> str:
    """What a task asks, and what may be answered."""
    return asked.prompt + (f" [{' / '.join(asked.options)}]" if asked.options else "")


def model(usage: Usage) -> str:
    """What an attempt reported of a model: `12 + 340 tokens, 0.02 USD, 3 turns`."""
    tokens = f"{usage.input_tokens or 0} + {usage.output_tokens or 0} tokens"
    return ", ".join(
        text
        for text, told in (
            (tokens, usage.input_tokens or usage.output_tokens),
            (f"{usage.cost_usd or 0:.4g} USD", usage.cost_usd),
            (_many(usage.turns or 0, "turn"), usage.turns),
        )
        if told
    )


def used(total: SessionUsage) -> str:
    """What all attempts of a session used."""
    told = Usage(input_tokens=total.input_tokens, output_tokens=total.output_tokens, cost_usd=total.cost_usd)
    attempts = f"{_many(total.attempts, 'attempt')} in {duration(total.wall_s)}, {duration(total.cpu_s)} CPU"
    return ", ".join(filter(None, (attempts if total.attempts else "", model(told))))


def budget(limits: Budget) -> str:
    """The limits of a budget."""
    given = {
        "USD": limits.max_cost_usd,
        "tokens": limits.max_tokens,
        "of run time": None if limits.max_wall_s is None else duration(limits.max_wall_s),
    }
    return ", ".join(f"{value} {unit}" for unit, value in given.items() if value is not None)


def _many(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
