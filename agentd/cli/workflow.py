"""agentd workflow: files of steps, and their runs."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentd.cli import exits
from agentd.cli.ids import session_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LABEL, SESSION
from agentd.cli.printing import notice, write_line
from agentd.cli.run_following import followed
from agentd.cli.run_tables import RUNS, say
from agentd.cli.wording import printable
from agentd.errors import (
    AgentdError,
    Invalid,
    NotFound,
    RunNotFound,
    SessionExists,
    SessionNotFound,
    WorkflowInvalid,
)
from agentd.model.ids import is_session_id, is_task_id
from agentd.model.requests import NewSession, PolicyChanges
from agentd.model.run import RunState
from agentd.model.run_views import SOURCE_BYTES, RunQuery, RunView

if TYPE_CHECKING:
    from agentd.client import Client

#: Tasks that run at a time in a session that is made for a run.
PARALLEL = 4


@click.group("workflow")
def command() -> None:
    """Run files of steps. What may run at once does, and what failed can be resumed."""


@command.command("run")
@click.argument("file", metavar="FILE|-", type=click.Path(allow_dash=True))
@click.option("-s", "--session", type=SESSION, metavar="SESSION", help="Its session, made if absent; else a new one.")
@click.option("-i", "--input", "inputs", type=LABEL, multiple=True, metavar="NAME=VALUE", help="An input of the file.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 1000),
    metavar="N",
    default=PARALLEL,
    show_default=True,
    help="Steps at a time, in a session that is made for it.",
)
@click.option("-d", "--detach", is_flag=True, help="Do not wait: print the run's id.")
@with_agent
async def _run(
    agent: Client,
    at: Invocation,
    file: str,
    session: str | None,
    inputs: tuple[tuple[str, str], ...],
    parallel: int,
    detach: bool,
) -> int:
    """Run a workflow, and tell on stderr how its steps go. Exits 0 when it completed, else 1.

    It does not depend on this terminal: Ctrl-C leaves it running.
    """
    try:
        source = _source(file)
        outline = await agent.validate_workflow(source)
        session, made_at = await _place(agent, session, parallel)
        try:
            run = await agent.run_workflow(session, source, dict(inputs))
        except Invalid:
            if made_at is not None:
                with suppress(AgentdError):  # it is used by others already
                    await agent.delete_session(session, if_seq=made_at)
            raise
    except WorkflowInvalid as error:
        return _tell_problems(file, error)
    if detach:
        say(at, run, name_only=True)
        return exits.OK
    notice(f"run {run.run_id} of {printable(outline.name)} in session {session}")
    return await _ended(agent, at, run)


@command.command("validate")
@click.argument("files", metavar="FILE...", type=click.Path(allow_dash=True), nargs=-1, required=True)
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings.  [default: agentd.yaml]")
def _validate(files: tuple[str, ...], config: Path | None) -> int:
    """Check files, without a daemon.

    Prints `FILE:LINE:COLUMN: problem` for each problem, and exits with 2 if there is any.

    What agents there are beside those that agentd knows is read from the settings, as `agentd serve` does.
    """
    from agentd.config import load
    from agentd.engines.local import system
    from agentd.kinds.registry import kinds
    from agentd.kinds.sandbox import options
    from agentd.workflows.reading import read

    code, known = exits.OK, kinds(load(file=config).agents, system.found(options))
    for file in files:
        try:
            workflow = read(_raw(file), known)
        except WorkflowInvalid as error:
            code = _tell_problems(file, error)
            continue
        steps, tasks = len(workflow.steps), len(workflow.instances)
        write_line(f"{file}: {workflow.name}: {steps} step{'s' * (steps != 1)}, {tasks} task{'s' * (tasks != 1)}")
    return code


@command.command("show")
@click.argument("which", metavar="RUN|SESSION", type=SESSION)
@with_agent
async def _show(agent: Client, at: Invocation, which: str) -> None:
    """Show a run, or the latest one of a session, with its steps."""
    say(at, await _meant(agent, which))


@command.command("list")
@click.argument("session", metavar="SESSION", type=SESSION)
@click.option("--state", type=click.Choice([s.value for s in RunState]), multiple=True, help="Only in this state.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on after a page: its `next`.")
@with_agent
async def _list(
    agent: Client, at: Invocation, session: str, state: tuple[str, ...], limit: int, cursor: str | None
) -> None:
    """List the runs of a session, the latest first."""
    query = RunQuery(state=tuple(RunState(each) for each in state), limit=limit, cursor=cursor)
    page = await agent.workflow_runs(await session_of(agent, session), query)
    at.printer.rows(page.data, RUNS, lambda run: run.run_id, next_cursor=page.next, empty="no runs")


@command.command("resume")
@click.argument("which", metavar="RUN|SESSION", type=SESSION)
@click.option("-d", "--detach", is_flag=True, help="Do not wait.")
@with_agent
async def _resume(agent: Client, at: Invocation, which: str, detach: bool) -> int:
    """Go on with a run that has ended. What failed, was interrupted or cancelled runs again."""
    run = await _meant(agent, which)
    run = await agent.resume_workflow(run.session_id, run.run_id)
    if detach:
        say(at, run, name_only=True)
        return exits.OK
    return await _ended(agent, at, run)


@command.command("cancel")
@click.argument("which", metavar="RUN|SESSION", type=SESSION)
@with_agent
async def _cancel(agent: Client, at: Invocation, which: str) -> None:
    """Cancel a run whole: its tasks too. Steps that run always() still do."""
    run = await _meant(agent, which)
    say(at, await agent.cancel_workflow(run.session_id, run.run_id), name_only=True)


async def _place(agent: Client, session: str | None, parallel: int) -> tuple[str, int | None]:
    """The session for a run, made if absent; and the seq at which it was made here, if it was."""
    try:
        new = NewSession(session_id=session, policy=PolicyChanges(max_parallel=parallel))
        made = await agent.create_session(new)
    except SessionExists:
        assert session is not None  # the daemon's own names are new
        return session, None
    return made.session_id, made.seq


async def _ended(agent: Client, at: Invocation, run: RunView) -> int:
    run = await followed(agent, run)
    if at.output != "table":
        say(at, run)
    return exits.OK if run.state is RunState.COMPLETED else exits.FAILED


async def _meant(agent: Client, text: str) -> RunView:
    """The run with this id, or the latest of the session.

    Raises:
        NotFound: there is none.
    """
    if is_task_id(text):  # runs have ids of the same form
        with suppress(RunNotFound):
            return await agent.workflow_run(text)
    if is_session_id(text):
        with suppress(SessionNotFound):
            session_id = await session_of(agent, text)
            page = await agent.workflow_runs(session_id, RunQuery(limit=1))
            if not page.data:
                raise RunNotFound(f"session {session_id} has no run of a workflow")
            return await agent.workflow_run(page.data[0].run_id, session_id)
    raise NotFound(f"there is no run or session {text!r}; `agentd workflow list SESSION` shows the runs of one")


# ---------------------------------------------------------------------- files


def _raw(file: str) -> bytes:
    """At most a byte more than a workflow may have."""
    try:
        if file == "-":
            return sys.stdin.buffer.read(SOURCE_BYTES + 1)
        with Path(file).open("rb") as opened:
            return opened.read(SOURCE_BYTES + 1)
    except OSError as error:
        raise WorkflowInvalid(f"cannot be read: {error.strerror or error}") from None


def _source(file: str) -> str:
    raw = _raw(file)
    if len(raw) > SOURCE_BYTES:
        raise click.BadParameter(f"{file} is larger than {SOURCE_BYTES >> 20} MiB", param_hint="FILE")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise click.BadParameter(f"{file}:{line}: is not UTF-8; save the file as UTF-8", param_hint="FILE") from None


def _tell_problems(file: str, error: WorkflowInvalid) -> int:
    """Every problem in the form in which editors find places."""
    for each in error.problems:
        click.echo(f"{file}:{each.line}:{each.column}: {printable(each.message)}", err=True)
    if not error.problems:
        click.echo(f"{file}: {printable(error.detail)}", err=True)
    return exits.USAGE
