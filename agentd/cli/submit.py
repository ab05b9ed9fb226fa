"""agentd submit: a task, and its id at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import write_line
from agentd.cli.tables import TASKS, task_facts
from agentd.cli.task_options import described, new_task, task_options
from agentd.errors import Invalid
from agentd.model.reading import read
from agentd.model.requests import BATCH_MOST, NewTask
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("submit", context_settings={"allow_interspersed_args": False})
@task_options
@click.option("-c", "--command", "text", metavar="TEXT", help="A line for sh -c, in place of CMD.")
@click.option("--spec", metavar="JSON|@FILE|-", help="The whole spec, as the kind takes it.")
@click.option("--key", help="Idempotency key: the same again makes no second task.")
@click.option("--batch", type=click.File("rb"), metavar="FILE", help="Lines of JSON, each a task; - is standard input.")
@click.argument("argv", metavar="[--] [CMD [ARG]...]", nargs=-1, type=click.UNPROCESSED)
@with_agent
async def command(
    agent: Client,
    at: Invocation,
    /,
    text: str | None,
    spec: str | None,
    key: str | None,
    batch: BinaryIO | None,
    argv: tuple[str, ...],
    **options: Any,
) -> None:
    """Submit a task and print its id. It is accepted for good when this returns.

    With --batch, the tasks are as POST /tasks takes them, all of one session; each thousand is accepted whole or not.
    """
    said = sum((bool(argv), text is not None, spec is not None, batch is not None))
    if said > 1 or (not said and options["image"] is None):
        raise click.UsageError("say what to run, once: CMD, --command, --spec or --batch")
    if batch is not None:
        await _submit_batch(agent, at, batch, options["session"], key)
        return
    if spec is not None:
        if options["agent"] or options["image"]:
            raise click.UsageError("--spec says all of it: leave out --agent and --image")
        new = new_task(options, options["kind"] or "shell", _spec(spec))
    else:
        new = new_task(options, *described(options, argv, text))
    print_id(at, await accepted(agent, new, key))


async def accepted(agent: Client, new: NewTask, key: str | None = None) -> Task:
    """The task, durably accepted; what it needs may be named by beginnings of ids."""
    needs = tuple([(await task_of(agent, need)).task_id for need in new.needs])
    return await agent.submit(msgspec.structs.replace(new, needs=needs), key=key)


async def _submit_batch(agent: Client, at: Invocation, file: BinaryIO, session_id: str | None, key: str | None) -> None:
    lines = {number: _new(number, line) for number, line in enumerate(file, 1) if line.strip()}
    if not lines:
        raise click.BadParameter("has no task", param_hint="--batch")
    numbers, tasks, made = list(lines), list(lines.values()), list[Task]()
    try:
        for first in range(0, len(tasks), BATCH_MOST):
            part = f"{key}-{first}" if key and first else key
            try:
                each = await agent.submit_batch(tasks[first : first + BATCH_MOST], session_id=session_id, key=part)
            except Invalid as error:
                raise Invalid(_at_lines(error.detail, numbers[first:]), errors=error.errors) from None
            session_id = each[0].session_id  # the others belong to it too
            made += each
            if at.output != "json":
                for task in each:
                    print_id(at, task)
    finally:
        if at.output == "json" and made:  # one document, also of what was accepted before a refusal
            at.printer.rows(made, TASKS, lambda task: task.task_id)


def _at_lines(detail: str, numbers: Sequence[int]) -> str:
    """What the daemon says of a batch, its places (`[17].spec`) as lines of the file (`line 19: spec`)."""

    def line(place: re.Match[str]) -> str:
        number = int(place[1])
        return f"line {numbers[number]}: " if number < len(numbers) else place[0]

    return re.sub(r"(?:(?<=; )|^)\[(\d{1,3})\]\.", line, detail)


def _new(number: int, line: bytes) -> NewTask:
    try:
        return read(line, NewTask)
    except msgspec.MsgspecError as error:
        raise click.BadParameter(f"line {number}: {error}", param_hint="--batch") from None


def print_id(at: Invocation, task: Task) -> None:
    """The task's id alone, unless JSON was asked for."""
    if at.output in ("table", "name"):
        write_line(task.task_id)
    else:
        at.printer.one(task, task.task_id, task_facts)


def _spec(text: str) -> dict[str, Any]:
    if text == "-":
        raw = sys.stdin.buffer.read(1 << 20)
    elif text.startswith("@"):
        try:
            raw = Path(text[1:]).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"cannot read {text[1:]}: {error.strerror}", param_hint="--spec") from None
    else:
        raw = text.encode()
    try:
        return read(raw, dict[str, Any])
    except msgspec.MsgspecError as error:
        raise click.BadParameter(f"is not a JSON object: {error}", param_hint="--spec") from None
