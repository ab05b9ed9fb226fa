"""What is known of an agent CLI: how to call it, where it keeps its files, and what the lines that it prints mean.

Pure: nothing here runs, reads or waits. `drivers/agent.py` does, told by an Assignment.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from agentd.kinds.agents.steps import Ask, Detail, Final, Step
from agentd.model.task import Value


class Permission(StrEnum):
    """What becomes of a tool call that the CLI would ask a person about."""

    ASK = "ask"  #: where it can ask, a person is asked; elsewhere its own rules hold
    ALLOW = "allow"
    DENY = "deny"


class Assignment(Value, frozen=True, kw_only=True):
    """All that a driver is told, as JSON on its standard input; paths are absolute."""

    agent: str
    prompt: str
    model: str | None = None
    max_turns: int | None = None
    allowed_tools: tuple[str, ...] = ()
    system_prompt: str | None = None
    permission: Permission = Permission.ASK
    conversation: str | None = None  #: to continue; None begins one
    env: dict[str, str] = {}  #: of the CLI, over the driver's own
    home: str  #: where the CLI keeps what it remembers
    within: tuple[str, ...] = ()  #: the sandbox: what stands in front of the CLI's own command line
    template: tuple[str, ...] = ()  #: of the agent `command`, and of those in the settings
    stall_s: float | None = None
    stall_ends: bool = False
    linger_s: float = 10.0
    max_result_bytes: int = 256 << 10


class Record(Value, frozen=True, kw_only=True, omit_defaults=True):
    """How it went, as the driver writes it for the kind: the CLI's own last word."""

    ok: bool
    text: str = ""
    detail: Detail | None = None
    message: str = ""
    retry_at: str | None = None
    num_turns: int | None = None
    usage: dict[str, int] | None = None
    cost_usd: float | None = None
    conversation_id: str | None = None


class File(Value, frozen=True):
    """A file that must be in the home before the CLI starts."""

    name: str
    text: str


class Link(Value, frozen=True):
    """What the CLI finds of the user's own files: `own` below the user's home of it, `name` below the session's."""

    own: str
    name: str


class Column(Value, frozen=True):
    """A column of paths in an SQLite file of the home; `database` may have wildcards."""

    database: str
    table: str
    column: str


class Remembered(Value, frozen=True, kw_only=True):
    """What a CLI keeps of conversations in its home, and where in it paths of the session are: they are put right
    when the session was moved.
    """

    files: tuple[str, ...] = ("*",)  #: patterns, of which `*` is also for `/`: what goes along with the session
    columns: tuple[Column, ...] = ()
    folder: str | None = None  #: whose subfolders are named for paths, with - for all but letters and digits


class Reader(Protocol):
    """Understands one run's output. Its memory is bounded, it never raises, and it ignores what it does not know."""

    garbage: int  #: lines so far that were no JSON object

    def feed(self, line: bytes, now: float) -> list[Step]:
        """What a line of stdout means; `now` in unix seconds."""

    def end(self, exit_code: int, complaint: str) -> Final | None:
        """The last word, when output ended without one; `complaint` is the end of its stderr. None: it left none."""


class Adapter(Protocol):
    """One CLI."""

    name: str
    program: str  #: looked up in PATH
    install: str  #: the command that installs it
    fields: frozenset[str]  #: which optional fields of a spec it understands
    own_home: str  #: where that is without the variable, below the user's home directory
    links: tuple[Link, ...]
    remembered: Remembered
    speaks: bool  #: whether its standard input stays open for answers until it has ended its work
    cumulative: bool  #: whether the usage that it tells is that of the whole conversation

    @property
    def home_variable(self) -> str | None:
        """The environment variable that moves the user's own home of it."""

    def argv(self, assignment: Assignment) -> tuple[str, ...]:
        """What to execute; nothing private stands in it."""

    def env(self, assignment: Assignment) -> dict[str, str]:
        """What to set over the environment that it inherits."""

    def files(self, assignment: Assignment) -> tuple[File, ...]:
        """What must stand in its home."""

    def first_input(self, assignment: Assignment) -> bytes:
        """What to write to its standard input at once."""

    def answer(self, ask: Ask, answer: str) -> bytes:
        """What to write when the question was answered."""

    def reader(self) -> Reader:
        """For one run."""
