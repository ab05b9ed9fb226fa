"""Which log: of which agent, task, attempt and stream."""

from __future__ import annotations

import re

import msgspec

from webui.refusals import Refusal
from webui.rows import Row
from webui.upstream import Agent, segment
from webui.visit import Visit, task_url

STREAMS = ("", "out", "err")
_ATTEMPT = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"-?[0-9]{1,15}")


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt's output, or one of its two streams."""

    agent: Agent
    session_id: str
    task_id: str
    attempt: int  #: 0 before the first
    stream: str | None

    @property
    def at_agent(self) -> str:
        """Where the agent has it."""
        return f"/tasks/{segment(self.task_id)}/output"

    @property
    def params(self) -> list[tuple[str, str]]:
        """The parameters by which the agent knows it."""
        return params(self.attempt, self.stream)

    @property
    def page(self) -> str:
        """Where its page is, without the prefix."""
        return f"{task_url(self.agent.name, self.session_id, self.task_id)}/log"

    @property
    def file_name(self) -> str:
        """What it is called as a file, without an ending."""
        return f"{self.task_id}.{max(1, self.attempt)}" + (f".{self.stream}" if self.stream else "")


def log_of(visit: Visit, agent: Agent, task: Row, attempt: int | None) -> Log:
    """The log of an attempt of a task, None for the latest; `?stream=` narrows it.

    Raises:
        Refusal: there is no such stream.
    """
    latest = task["attempt"] if isinstance(task["attempt"], int) else 0
    return Log(
        agent=agent,
        session_id=str(task["session_id"]),
        task_id=str(task["task_id"]),
        attempt=latest if attempt is None else attempt,
        stream=stream_of(visit),
    )


def params(attempt: int, stream: str | None) -> list[tuple[str, str]]:
    """The parameters by which an agent knows one log of a task; attempt 0 is the latest."""
    found = [("attempt", str(attempt))] if attempt else []
    return found + ([("stream", stream)] if stream else [])


def channel(visit: Visit, agent: str, task_id: str) -> str:
    """The `log` parameter of a page's stream: it tells how the log grows that the page shows.

    That is the attempt of `?attempt=`, else the latest and those that begin after it.
    """
    given = visit.query.get("attempt", "")
    attempt = int(given) if _ATTEMPT.fullmatch(given) else 0  # what is none, the page itself refuses
    stream = stream_of(visit)
    return f"{agent}/{task_id}/{attempt}" + (f"/{stream}" if stream else "")


def stream_of(visit: Visit) -> str | None:
    """`out` or `err`, None for both.

    Raises:
        Refusal: it is another.
    """
    return visit.choice("stream", STREAMS) or None


def attempt_of(visit: Visit) -> int | None:
    """The attempt that the address names; None for the latest.

    Raises:
        Refusal: it is no number of an attempt.
    """
    return number_of(visit, "attempt", 1, least=1) if visit.query.get("attempt") else None


def number_of(visit: Visit, name: str, default: int, least: int | None = None, most: int | None = None) -> int:
    """A parameter that is a whole number.

    Raises:
        Refusal: it is none, or not within its bounds.
    """
    given = visit.query.get(name, "").strip() or str(default)
    number = int(given) if _NUMBER.fullmatch(given) else None
    if number is None or (least is not None and number < least) or (most is not None and number > most):
        bounds = f" from {least}" if least is not None else ""
        raise Refusal(400, "malformed", f"{name}: must be a whole number{bounds}{f' to {most}' if most else ''}")
    return number
