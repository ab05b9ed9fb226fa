"""agentd events: what happened, and what happens."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import click
import msgspec

from agentd.cli import wording
from agentd.cli.ids import session_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import SESSION
from agentd.cli.printing import Look, Printer, flush, notice, write_line
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client, ServerEvent


@click.command("events")
@click.argument("session", metavar="[SESSION]", required=False, type=SESSION)
@click.option("-f", "--follow", is_flag=True, help="Go on as they happen.")
@click.option("--after", metavar="SEQ", help="Only those after this one; with -f and no SESSION, of the daemon's ids.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only of this type, as task.finished.")
@with_agent
async def command(
    agent: Client, at: Invocation, session: str | None, follow: bool, after: str | None, types: tuple[str, ...]
) -> None:
    """Show the events of a session. Without one, the latest of all sessions and of the daemon.

    With -o jsonl each is one line, as the journal has it.
    """
    session_id = None if session is None else await session_of(agent, session)
    if after is None and not (follow and session is None):
        after = "0"
    show = _Show("jsonl" if follow and at.output == "json" else at.output, at.printer, types)
    until: int | None = None
    async with aclosing(agent.follow_events(session_id, after=after)) as events:
        async for event in events:
            if event.type == "hello":
                if not follow and until is None:
                    until = int(event.json()["seq"])
            elif event.type == "gap":
                notice(f"some events are no longer kept ({event.json().get('reason', '')})")
            else:
                show.one(event)
            if until is not None and _position(event) >= until:
                break
    show.end()


class _Show:
    """Prints events as they come: lines of JSON or of a table; as one JSON document at the end."""

    def __init__(self, form: str, printer: Printer, types: tuple[str, ...]) -> None:
        self.form = form
        self.types = types
        self.kept: list[dict[str, Any]] = []
        self.printer = printer
        self.look = Look()

    def one(self, event: ServerEvent) -> None:
        """Print or keep one event."""
        if self.types and event.type not in self.types:
            return
        match self.form:
            case "json":
                self.kept.append(event.json())
                return
            case "jsonl":
                write_line(event.data.decode())
            case "name":
                write_line(event.id or "-")
            case _:
                content = event.json()
                when = str(content.get("at", ""))
                parts = [when[11:23] if self.look.human else when, f"{event.type:<20}"]
                parts += [str(content.get("session_id", "-")), str(content.get("task_id", "")), _words(content)]
                write_line(wording.printable("  ".join(part for part in parts if part)))
        flush()

    def end(self) -> None:
        """No more will come."""
        if self.form == "json":
            self.printer.rows(self.kept, (), lambda event: "")


_SHOWN_OR_MINOR = frozenset(
    ("type", "at", "seq", "b", "crc", "session_id", "task_id", "session", "boot_id", "wait_s", "pid_started_at")
)


def _position(event: ServerEvent) -> int:
    return int((event.id or "0").rpartition("-")[2])


def _words(event: dict[str, Any]) -> str:
    """What an event says beyond its type, session and task."""
    if "task" in event:
        return wording.command(msgspec.convert(event["task"], Task))
    cause = event.get("cause") or (event.get("end") or {}).get("cause")
    if cause:
        return f"{event.get('state', '')}: {cause.get('message', '')}".removeprefix(": ")
    rest = {key: value for key, value in event.items() if key not in _SHOWN_OR_MINOR}
    return "  ".join(f"{key}={value}" for key, value in rest.items() if not isinstance(value, dict | list))
