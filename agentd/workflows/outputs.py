"""What a step hands on: the text of its AGENTD_OUTPUT file, in the form of GITHUB_OUTPUT.

    NAME=VALUE              one line
    NAME<<END               several lines: all up to one that is END and nothing else
    …
    END

A later value of a name replaces an earlier one. Lines may end in \\n or \\r\\n; empty ones are nothing.
"""

from __future__ import annotations

from collections.abc import Collection

from agentd.model.task import Value
from agentd.workflows.parts import NAME
from agentd.workflows.problems import named

MAX_BYTES = 64 << 10
MAX_NAMES = 100
MAX_COMPLAINTS = 20


class Outputs(Value, frozen=True, kw_only=True):
    """What was read: the values that count, and a sentence for each thing that was refused."""

    values: dict[str, str] = {}
    refused: tuple[str, ...] = ()


def read_outputs(raw: bytes, declared: Collection[str]) -> Outputs:
    """The outputs in the text; `declared` are the names that the step may hand on.

    Nothing is raised: what is refused is left out. A file that is too large or not UTF-8 has no outputs at all, since
    nobody knows what its parts would mean. Whoever reads the file need not read more than MAX_BYTES + 1 of it.
    """
    if len(raw) > MAX_BYTES:
        return Outputs(refused=(f"AGENTD_OUTPUT is larger than {MAX_BYTES >> 10} KiB; hand files on as artifacts",))
    try:
        lines = raw.decode().split("\n")
    except UnicodeDecodeError as error:
        return Outputs(refused=(f"AGENTD_OUTPUT is not UTF-8 from byte {error.start + 1} on",))
    return _read([line.removesuffix("\r") for line in lines], declared)


def _read(lines: list[str], declared: Collection[str]) -> Outputs:
    values: dict[str, str] = {}
    refused: list[str] = []
    at = 0
    while at < len(lines):
        line, here = lines[at], f"AGENTD_OUTPUT, line {at + 1}"
        at += 1
        if not line:
            continue
        name, value = line, None
        equals, heredoc = line.find("="), line.find("<<")
        if heredoc >= 0 and not 0 <= equals < heredoc:
            name, end = line[:heredoc], line[heredoc + 2 :]
            try:
                stop = lines.index(end, at) if end else -1
            except ValueError:
                refused.append(f"{here}: no line {_cut(end)} ends this value; it and what follows is not read")
                break
            if stop < 0:
                refused.append(f"{here}: a word must follow <<, which ends the value")
                continue
            value, at = "\n".join(lines[at:stop]), stop + 1
        elif equals >= 0:
            name, value = line[:equals], line[equals + 1 :]
        if (wrong := _wrong(name, value, declared, values)) is not None:
            refused.append(f"{here}: {wrong}")
        elif value is not None:
            values[name] = value
    if len(refused) > MAX_COMPLAINTS:
        refused[MAX_COMPLAINTS:] = [f"and {len(refused) - MAX_COMPLAINTS} more"]
    return Outputs(values=values, refused=tuple(refused))


def _wrong(name: str, value: str | None, declared: Collection[str], values: dict[str, str]) -> str | None:
    if value is None:
        return f"{_cut(name)} is neither NAME=VALUE nor NAME<<END"
    if NAME.fullmatch(name) is None:
        return f"{_cut(name)!r} is no name; use letters, digits, _ and -, no digit first"
    if name not in declared:
        return f"{_cut(name)} is not among the outputs of the step ({named(declared) or 'it declares none'}); add it"
    if "\0" in value:
        return f"the value of {_cut(name)} holds a NUL byte"
    if name not in values and len(values) >= MAX_NAMES:
        return f"{_cut(name)} is one more than the {MAX_NAMES} names that a step may hand on"
    return None


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
