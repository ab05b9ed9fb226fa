"""agentd run: a command under the daemon, as if it ran here."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext, suppress
from typing import TYPE_CHECKING, Any

import click

from agentd.cli import exits
from agentd.cli.feeding import Feed, raw
from agentd.cli.following import Apart
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import notice
from agentd.cli.submit import accepted, print_id
from agentd.cli.task_options import described, new_task, task_options, words_or_image
from agentd.cli.terminal import Sink
from agentd.cli.watching import TaskLine
from agentd.errors import AgentdError, InvalidTransition
from agentd.model.task import CauseCode, State, Task

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("run", context_settings={"allow_interspersed_args": False})
@task_options
@click.option("-d", "--detach", is_flag=True, help="Do not wait: print the task's id, as `agentd submit`.")
@click.argument("argv", metavar="[--] [CMD [ARG]...]", nargs=-1, type=click.UNPROCESSED, callback=words_or_image)
@with_agent
async def command(agent: Client, at: Invocation, /, detach: bool, argv: tuple[str, ...], **options: Any) -> int | None:
    """Run a command as a task, and show its output as it comes.

    Its stdout and stderr come out as they are, and its exit code becomes this one's: 128 + n for signal n, 1 when it
    ended otherwise. With -i, standard input goes to it; with --tty too, key by key. Ctrl-C asks the task to stop; a
    second one leaves it alone. It does not depend on this terminal: when that closes, the task goes on.
    """
    task = await accepted(agent, new_task(options, *described(options, argv)))
    if detach:
        print_id(at, task)
        return exits.OK
    interactive: bool = options["interactive"]
    return await _watched(agent, task, feed=interactive, tty=interactive and options["tty"])


async def _watched(agent: Client, task: Task, *, feed: bool, tty: bool) -> int:
    line = TaskLine(agent, task, drawn=not tty)
    shown = asyncio.create_task(_shown(agent, task, line))
    fed = asyncio.create_task(Feed(agent, task, line.say).run(resize=tty)) if feed else None
    interrupts = asyncio.Semaphore(0)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupts.release)
    try:
        async with line:
            with raw() if tty else nullcontext():
                stopping = await _interrupted(shown, interrupts, line, agent, task)
    except BrokenPipeError:
        notice(f"nobody reads the output any more; {_goes_on(task)}")
        return exits.PIPE_CLOSED
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        if fed is not None:
            fed.cancel()
            await asyncio.gather(fed, return_exceptions=True)
    if not shown.done():
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)
        notice(f"left to itself; {_goes_on(task)}")
        return exits.INTERRUPTED
    return _told(await shown, stopping)


async def _interrupted(
    shown: asyncio.Task[Task], interrupts: asyncio.Semaphore, line: TaskLine, agent: Client, task: Task
) -> bool:
    """Wait for the end or for the second Ctrl-C; at the first, ask the task to stop. Whether that was asked."""
    stop: asyncio.Task[None] | None = None
    while True:
        ring = asyncio.create_task(interrupts.acquire())
        await asyncio.wait({shown, ring}, return_when=asyncio.FIRST_COMPLETED)
        rung = ring.done()
        ring.cancel()
        if shown.done() or stop is not None or not rung:
            break
        line.say(f"asked task {task.task_id} to stop; Ctrl-C again leaves it alone")
        stop = asyncio.create_task(_stop(agent, task, line))
    if stop is not None:
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)
    if shown.done():
        shown.result()  # raises what went wrong
    return stop is not None


async def _stop(agent: Client, task: Task, line: TaskLine) -> None:
    try:
        with suppress(InvalidTransition):  # it has just ended
            await agent.cancel(task.task_id)
    except AgentdError as error:
        line.say(f"it could not be asked to stop: {error.detail}")


async def _shown(agent: Client, task: Task, line: TaskLine) -> Task:
    out, err = Sink(sys.stdout), Sink(sys.stderr)
    parts = _merged(agent, task) if out.is_same_as(err) else Apart(agent, task, attempt=None).parts()
    async with aclosing(parts):
        async for part in parts:
            if isinstance(part, Task):
                task = part
                continue
            stream, data = part
            sink = err if stream == "err" else out
            line.make_room(sink.tty)
            await sink.write(data)
            line.leave(whole_lines=all(each.at_line_start for each in (out, err) if each.tty))
    return task


async def _merged(agent: Client, task: Task) -> AsyncGenerator[tuple[str, bytes] | Task, None]:
    """Both streams in the order in which they came, for where they go to one place anyway."""
    async with aclosing(agent.follow_output(task.task_id, attempt=1)) as parts:
        async for part in parts:
            yield part if isinstance(part, Task) else ("out", part.data)


def _told(task: Task, stopping: bool) -> int:
    """The exit code, after the sentence that says why, where the code does not."""
    if stopping and task.state is State.CANCELLED:
        notice(f"task {task.task_id} is cancelled")
        return exits.INTERRUPTED
    if task.cause is not None and task.cause.code not in (CauseCode.OK, CauseCode.EXIT_CODE):
        notice(f"task {task.task_id} {task.state}: {task.cause.message}")
    return exits.code_of_task(task)


def _goes_on(task: Task) -> str:
    return f"task {task.task_id} goes on. Back to it: agentd logs -f {task.task_id}"
