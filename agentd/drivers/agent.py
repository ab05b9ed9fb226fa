"""`python -m agentd.drivers.agent`: runs an agent CLI as the kind `agent` tells it, an Assignment on standard input.

It ends as the CLI ended; what the CLI said of its success is written to AGENTD_RESULT, which the CLI does not know.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from agentd.drivers.child import Child, end_as
from agentd.drivers.conducting import Conducted, Conductor
from agentd.drivers.homes import Home
from agentd.drivers.reporting import Reports
from agentd.drivers.screen import moment
from agentd.drivers.writing import replace
from agentd.kinds.agents.command import Command
from agentd.kinds.agents.known import adapters
from agentd.kinds.agents.protocol import Adapter, Assignment, Record
from agentd.kinds.agents.steps import Detail
from agentd.kinds.sandbox import known_inside

#: As a shell says that it found no such command.
NOT_FOUND = 127
_RESULT = "AGENTD_RESULT"


def main() -> None:
    """Run the CLI; never returns."""
    environ = dict(os.environ)
    result_path = environ.pop(_RESULT, None)
    assignment = msgspec.json.decode(sys.stdin.buffer.read(), type=Assignment)
    adapter = _adapter(assignment)
    search = assignment.env.get("PATH", environ.get("PATH", os.defpath))
    program = shutil.which(adapter.program, path=search)
    if program is None:
        sentence = f"{adapter.program!r} was not found in PATH; to install it: {adapter.install}"
        _leave(result_path, Record(ok=False, detail=Detail.NOT_FOUND, message=sentence), assignment)
        sys.stderr.write(f"agentd: {sentence}\n")
        raise SystemExit(NOT_FOUND)
    home = Home(adapter, assignment, environ)
    home.prepare()
    child = Child((*assignment.within, program, *adapter.argv(assignment)[1:]), _env(adapter, assignment, environ))
    reports = Reports(environ.get("AGENTD_URL", ""), environ.get("AGENTD_TOKEN", ""), environ.get("AGENTD_TASK_ID", ""))
    conductor = Conductor(adapter, assignment, child, reports, home)
    try:
        code = conductor.run()
    finally:
        child.close()
        home.settle()
    known = conductor.known
    if known.skipped or known.garbage:
        sys.stderr.write(f"agentd: {known.skipped} lines too long to be read, {known.garbage} that were no events\n")
    if known.final is not None:
        _leave(result_path, _record(known), assignment)
    reports.close()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    end_as(code)


def _adapter(assignment: Assignment) -> Adapter:
    return Command(assignment.agent, assignment.template) if assignment.template else adapters()[assignment.agent]


def _env(adapter: Adapter, assignment: Assignment, environ: Mapping[str, str]) -> dict[str, str]:
    ours = adapter.env(assignment)
    env = {**(known_inside(environ) if assignment.within else environ), **ours, **assignment.env}
    if (home := adapter.home_variable) is not None and home in ours:
        env[home] = ours[home]  # what belongs to the session stays in it
    return env


def _record(known: Conducted) -> Record:
    final, used = known.final, known.used
    assert final is not None
    return Record(
        ok=final.ok,
        text=final.text,
        detail=final.detail,
        message=final.message,
        retry_at=moment(final.retry_at),
        num_turns=final.num_turns if final.num_turns is not None else known.turns or None,
        usage={"input_tokens": used.input_tokens, "output_tokens": used.output_tokens} if used is not None else None,
        cost_usd=used.cost_usd if used is not None else None,
        conversation_id=known.conversation,
    )


def _leave(path: str | None, record: Record, assignment: Assignment) -> None:
    """Write the record; a text that makes it too large is cut, and says so."""
    if path is None:
        return
    text = msgspec.json.encode(record)
    while len(text) > assignment.max_result_bytes and record.text:
        # One character may take six bytes.
        kept = record.text[: max(0, len(record.text) - (len(text) - assignment.max_result_bytes) // 6 - 100)]
        record = msgspec.structs.replace(record, text=kept and kept.removesuffix("…") + "…")
        text = msgspec.json.encode(record)
    try:
        replace(Path(path), text.decode())
    except OSError as error:
        sys.stderr.write(f"agentd: the result could not be written: {error}\n")


if __name__ == "__main__":
    main()
