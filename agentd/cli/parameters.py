"""Kinds of arguments: durations, times, labels, and ids that complete themselves."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from agentd.cli.invocation import Invocation
from agentd.clock import epoch, rfc3339
from agentd.model.task import TERMINAL, State

if TYPE_CHECKING:
    from agentd.client import Client

#: A shell waits for a completion no longer than this.
COMPLETION_S = 1.0

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, None: 1}


class Duration(click.ParamType[float, str]):
    """A length of time in seconds: `90`, `10s`, `5m`, `2h`, `7d`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float | int):
            return float(value)
        found = _DURATION.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is not a duration; write 90, 10s, 5m, 2h or 7d", param, ctx)
        seconds = float(found[1]) * _SECONDS[found[2]]
        if not math.isfinite(seconds):
            self.fail(f"{str(value)[:40]!r} is too long to be told from forever; leave it out", param, ctx)
        return seconds


class Moment(click.ParamType[str, str]):
    """A time as the API takes it, from RFC 3339 or from a duration before (or after) now."""

    name = "time"

    def __init__(self, *, ahead: bool = False) -> None:
        self.sign = 1 if ahead else -1

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        found = _DURATION.fullmatch(text)
        if found is not None:
            seconds = time.time() + self.sign * float(found[1]) * _SECONDS[found[2]]
        else:
            seconds = self._epoch(text, param, ctx)
        try:
            return rfc3339(seconds)
        except (ValueError, OverflowError, OSError):  # as datetime.fromtimestamp says it
            self.fail(f"{text[:40]!r} lies outside the calendar, the years 1 to 9999", param, ctx)

    def _epoch(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return epoch(text)
        except ValueError:
            side = "from now" if self.sign > 0 else "ago"
            self.fail(f"{text!r} is neither 2026-01-31T12:00:00Z nor a duration {side} like 5m", param, ctx)


class Label(click.ParamType[tuple[str, str], str]):
    """`key=value`."""

    name = "key=value"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = str(value).partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not key=value", param, ctx)
        return key, text


class Mount(click.ParamType[dict[str, object], str]):
    """`source:target`, or `source:target:ro`, as a container's spec has it."""

    name = "source:target"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, object]:
        if isinstance(value, dict):
            return value
        source, *rest = str(value).split(":")
        if not source or len(rest) not in (1, 2) or not rest[0].startswith("/") or rest[1:] not in ([], ["ro"]):
            self.fail(f"{value!r} is not SOURCE:TARGET or SOURCE:TARGET:ro, with an absolute TARGET", param, ctx)
        return {"source": source, "target": rest[0], "read_only": bool(rest[1:])}


class Known(click.ParamType[str, str]):
    """An id, or a unique beginning of one; completed from what the daemon has."""

    def __init__(self, *, tasks: bool = False, sessions: bool = False, states: tuple[State, ...] = ()) -> None:
        self.tasks = tasks
        self.states = states  #: tasks in other states are not offered
        self.sessions = sessions
        self.name = "id" if tasks and sessions else "task" if tasks else "session"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Ids that begin so, newest first; none when no daemon answers at once."""
        found: list[CompletionItem] = []

        async def ask(agent: Client) -> None:
            import asyncio

            async with asyncio.timeout(COMPLETION_S):
                found.extend(await self._found(agent, incomplete))

        try:
            ctx.ensure_object(Invocation).ask(ask)
        except Exception:  # a shell in the middle of a line wants no traceback
            return []
        return found

    async def _found(self, agent: Client, incomplete: str) -> list[CompletionItem]:
        from agentd.cli.wording import command, printable
        from agentd.model.requests import SessionQuery, TaskQuery

        found: list[CompletionItem] = []
        if self.sessions:
            page = await agent.sessions(SessionQuery(q=incomplete or None, limit=50))
            found += [
                CompletionItem(s.session_id, help=printable(s.title or ""))
                for s in page.data
                if s.session_id.startswith(incomplete)
            ]
        if self.tasks:
            tasks = await agent.tasks(TaskQuery(prefix=incomplete or None, state=self.states, limit=50))
            found += [CompletionItem(t.task_id, help=printable(t.name or command(t))[:60]) for t in tasks.data]
        return found


TASK = Known(tasks=True)
LIVE_TASK = Known(tasks=True, states=tuple(state for state in State if state not in TERMINAL))
ENDED_TASK = Known(tasks=True, states=tuple(state for state in State if state in TERMINAL))
SESSION = Known(sessions=True)
TASK_OR_SESSION = Known(tasks=True, sessions=True)
DURATION = Duration()
AGO = Moment()
AHEAD = Moment(ahead=True)
LABEL = Label()
MOUNT = Mount()
