"""Results on stdout, as a table for people or as JSON for programs; notices on stderr."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import click
import msgspec

from agentd.cli.wording import age, printable, shortened, width
from agentd.clock import epoch
from agentd.model.task import State

T = TypeVar("T")

_STYLES = {
    State.RUNNING: "cyan",
    State.COMPLETED: "green",
    State.FAILED: "red",
    State.TIMEOUT: "red",
    State.CANCELLED: "yellow",
}


class Look:
    """How tables are to look: humanised, coloured and cut to the width on a terminal, exact and plain elsewhere."""

    def __init__(self) -> None:
        self.human = sys.stdout.isatty()
        self.colour = self.human and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self.columns = shutil.get_terminal_size().columns if self.human else 0
        self.now = time.time()

    def when(self, at: str | None) -> str:
        """A time: how long ago on a terminal, exact elsewhere."""
        if at is None:
            return ""
        return age(self.now - epoch(at)) if self.human else at

    def when_long(self, at: str | None) -> str:
        """A time: exact to the second and how long ago on a terminal, exact elsewhere."""
        if at is None:
            return ""
        if not self.human:
            return at
        when = self.when(at)
        return f"{at[:19].replace('T', ' ')} UTC ({when if when == 'now' else when + ' ago'})"

    def styled(self, text: str, state: str) -> str:
        """The text in the colour of the state it begins with."""
        try:
            colour = _STYLES.get(State(state.partition(" ")[0]))
        except ValueError:
            colour = None
        return click.style(text, fg=colour) if self.colour and colour else text


class Column(NamedTuple, Generic[T]):
    """One column: its title, and its text for a row. `state` ones are coloured."""

    title: str
    text: Callable[[T, Look], str]
    state: bool = False
    right: bool = False


class Printer:
    """Writes results in the form that was asked for: table, json, jsonl or name."""

    def __init__(self, form: str, headers: bool) -> None:
        self.form = form
        self.headers = headers

    def rows(
        self,
        rows: Sequence[T],
        columns: Sequence[Column[T]],
        name: Callable[[T], str],
        *,
        next_cursor: str | None = None,
        empty: str = "",
    ) -> None:
        """A list. As JSON it is the shape of the API's pages; `empty` is said on stderr in place of a bare header."""
        match self.form:
            case "json":
                write_json({"data": rows, "next": next_cursor})
            case "jsonl":
                for row in rows:
                    write_line(msgspec.json.encode(row).decode())
            case "name":
                for row in rows:
                    write_line(name(row))
            case _:
                if not rows and empty:
                    notice(empty)
                else:
                    self.table(rows, columns)

    def one(self, value: T, name: str, table: Callable[[T, Look], None]) -> None:
        """A single value."""
        match self.form:
            case "json":
                write_json(value)
            case "jsonl":
                write_line(msgspec.json.encode(value).decode())
            case "name":
                write_line(name)
            case _:
                table(value, Look())

    def table(self, rows: Sequence[T], columns: Sequence[Column[T]], look: Look | None = None) -> None:
        """An aligned table; on a terminal the last column gives way to the width."""
        look = look or Look()
        cells = [[printable(column.text(row, look)) for column in columns] for row in rows]
        titles = [[column.title for column in columns]] if self.headers else []
        widths = [max((width(line[i]) for line in titles + cells), default=0) for i in range(len(columns))]
        before_last = sum(widths[:-1]) + 2 * (len(columns) - 1)
        if look.columns:
            widths[-1] = min(widths[-1], max(look.columns - before_last, 8))
        for number, line in enumerate(titles + cells):
            parts = []
            for i, (text, room, column) in enumerate(zip(line, widths, columns, strict=True)):
                if i == len(columns) - 1 and look.columns:
                    text = shortened(text, room)
                pad = " " * (room - width(text))
                shown = look.styled(text, text) if column.state and number >= len(titles) else text
                parts.append(pad + shown if column.right else shown + pad)
            write_line("  ".join(parts).rstrip())


def facts(pairs: Sequence[tuple[str, str]], look: Look) -> None:
    """Names and values under each other; empty values are left out."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    room = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        write_line(f"{name:<{room}}  {look.styled(value, value) if name == 'state' else value}")


def write_json(value: object) -> None:
    """Indented JSON."""
    write_line(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def write_line(text: str) -> None:
    """A line of data, as UTF-8 whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape") + b"\n")


def flush() -> None:
    """Let the reader have what was written so far."""
    sys.stdout.buffer.flush()


def notice(text: str) -> None:
    """A sentence for the person, beside the data."""
    click.echo(f"agentd: {text}", err=True)
