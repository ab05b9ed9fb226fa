"""Any other CLI: a list of arguments from the settings, in which `{prompt}` and the like are filled in.

All that it prints is what it says, and its exit code is its last word. Without `{prompt}` in an argument the prompt is
its standard input, where nobody else on the machine can read it.
"""

from __future__ import annotations

import re

from agentd.kinds.agents.lines import summary
from agentd.kinds.agents.protocol import Assignment, File, Link, Remembered
from agentd.kinds.agents.steps import Ask, Detail, Final, Said, Step

#: What may stand in braces.
BLANKS = ("prompt", "model", "system_prompt", "conversation", "home")
_BLANK = re.compile(r"\{(" + "|".join(BLANKS) + r")\}")
#: How much of its last words is kept, in characters.
TEXT_MOST = 64 << 10


class Command:
    """A CLI that is described in the settings."""

    fields = frozenset({"model", "system_prompt"})
    home_variable: str | None = None
    own_home = ""
    links: tuple[Link, ...] = ()
    remembered = Remembered()
    speaks = False
    cumulative = False

    def __init__(self, name: str, template: tuple[str, ...]) -> None:
        self.name = name
        self.program = template[0] if template else ""
        self.install = f"check agents.{name} in agentd.yaml"
        self._template = template

    def argv(self, assignment: Assignment) -> tuple[str, ...]:
        """The template, filled in; an argument that is one blank with nothing for it is left out."""
        values = {
            "prompt": assignment.prompt,
            "model": assignment.model or "",
            "system_prompt": assignment.system_prompt or "",
            "conversation": assignment.conversation or "",
            "home": assignment.home,
        }
        return tuple(
            _BLANK.sub(lambda blank: values[blank[1]], part)
            for part in self._template
            if not ((blank := _BLANK.fullmatch(part)) and not values[blank[1]])
        )

    def env(self, assignment: Assignment) -> dict[str, str]:
        """Nothing but what it inherits."""
        return {}

    def files(self, assignment: Assignment) -> tuple[File, ...]:
        """None."""
        return ()

    def first_input(self, assignment: Assignment) -> bytes:
        """The prompt, unless it is an argument."""
        return b"" if any("{prompt}" in part for part in self._template) else assignment.prompt.encode()

    def answer(self, ask: Ask, answer: str) -> bytes:
        """It never asks."""
        return b""

    def reader(self) -> PlainReader:
        """For one run."""
        return PlainReader()


class PlainReader:
    """Takes every line for words."""

    def __init__(self) -> None:
        self.garbage = 0
        self._kept: list[str] = []
        self._size = 0

    def feed(self, line: bytes, now: float) -> list[Step]:
        """A line of what it says."""
        text = line.decode(errors="replace")[:TEXT_MOST]
        self._kept.append(text)
        self._size += len(text) + 1
        while self._size > TEXT_MOST + 1 and len(self._kept) > 1:
            self._size -= len(self._kept.pop(0)) + 1
        return [Said(text)]

    def end(self, exit_code: int, complaint: str) -> Final | None:
        """Success is exit code 0; what failed is told by the exit code itself."""
        text = "\n".join(self._kept)
        if exit_code == 0:
            return Final(True, text)
        return Final(False, text, Detail.EXECUTION, summary(complaint)) if complaint.strip() and exit_code > 0 else None
