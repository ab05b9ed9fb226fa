"""What an agent does, as lines that a person reads along: the output of its task."""

from __future__ import annotations

from agentd.clock import rfc3339
from agentd.kinds.agents.lines import summary
from agentd.kinds.agents.steps import Ask, Heard, Retrying, Said, Step, Tool

#: Of what a tool answered.
LINES_MOST, COLUMNS_MOST = 6, 200
#: The year 2100, in unix seconds.
FAR_S = 4_102_444_800


def shown(step: Step) -> str:
    """The lines for a step, each with its end; empty when there is nothing to read in it."""
    match step:
        case Said(text=text):
            return text.rstrip("\n") + "\n"
        case Tool(name=name, summary=what):
            return f"$ {name}: {what}\n" if what else f"$ {name}\n"
        case Heard(text=text):
            return _excerpt(text)
        case Ask(prompt=prompt, options=options):
            return f"? {summary(prompt)} ({' / '.join(options)})\n"
        case Retrying(reason=reason, at=at):
            when = moment(at)
            return f"… {reason}; tries again{f' at {when}' if when is not None else ''}\n"
    return ""


def moment(seconds: float | None) -> str | None:
    """RFC 3339 of a unix time that a CLI told; None when it cannot be meant."""
    return rfc3339(seconds) if seconds is not None and 0 < seconds < FAR_S else None


def headline(step: Step) -> str | None:
    """What the task's message says meanwhile, in a line."""
    match step:
        case Said(text=text):
            return summary(text)
        case Tool(name=name, summary=what):
            return summary(f"{name}: {what}" if what else name)
        case Retrying():
            return shown(step).strip()
    return None


def _excerpt(text: str) -> str:
    lines = text.strip("\n").split("\n", LINES_MOST)
    kept = [line if len(line) <= COLUMNS_MOST else line[: COLUMNS_MOST - 1] + "…" for line in lines[:LINES_MOST]]
    if len(lines) > LINES_MOST:
        kept.append("…")
    return "".join(f"  {line}\n" for line in kept if line.strip())
