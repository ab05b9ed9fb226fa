"""agentd sessions: the directories that tasks share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click
from msgspec import UNSET, UnsetType
from msgspec.structs import asdict

from agentd.cli import rm
from agentd.cli.each import each_of
from agentd.cli.ids import session_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import AGO, DURATION, LABEL, SESSION
from agentd.cli.printing import notice
from agentd.cli.tables import SESSIONS, TASKS, session_facts
from agentd.model.requests import (
    AskedBudget,
    NewSession,
    PolicyChanges,
    SessionPatch,
    SessionQuery,
    SessionView,
    TaskQuery,
)
from agentd.model.session import Budget, SessionState
from agentd.model.task import State

if TYPE_CHECKING:
    from agentd.client import Client

F = TypeVar("F", bound=Callable[..., Any])

SORTS = ("-updated_at", "updated_at", "-created_at", "created_at", "session_id")


_BUDGET = (
    click.option(
        "--max-cost", "max_cost_usd", type=click.FloatRange(0), metavar="USD", help="End what runs when all cost this."
    ),
    click.option("--max-tokens", type=click.IntRange(0), metavar="N", help="The same for tokens."),
    click.option("--max-wall", "max_wall_s", type=DURATION, metavar="TIME", help="The same for the time they ran."),
)


def _budgeted(function: F) -> F:
    """The limits of a budget, on a command that takes them as `**budget`."""
    for option in reversed(_BUDGET):
        function = option(function)
    return function


def _budget(before: Budget, given: Mapping[str, Any]) -> AskedBudget | UnsetType:
    """The budget with what was given of it; nothing when nothing was."""
    changed = {name: value for name, value in given.items() if value is not None}
    return AskedBudget(**{**asdict(before), **changed}) if changed else UNSET


@click.group("sessions")
def command() -> None:
    """See, make and change sessions."""


@command.command("list")
@click.option("--state", type=click.Choice([s.value for s in SessionState]), multiple=True, help="Only in this state.")
@click.option("--label", multiple=True, metavar="KEY[=VALUE]", help="Only with this label.")
@click.option("-q", "--search", metavar="TEXT", help="Text in the id or the title.")
@click.option("--since", type=AGO, metavar="TIME", help="Changed since a time, or so long ago: 2h, 7d.")
@click.option(
    "--archived",
    type=click.Choice(["no", "yes", "any"]),
    default="no",
    show_default=True,
    help="Those put out of the way.",
)
@click.option("--sort", type=click.Choice(SORTS), default=SORTS[0], show_default=True, help="- is the last first.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on after a page: its `next`.")
@with_agent
async def _list(
    agent: Client,
    at: Invocation,
    state: tuple[str, ...],
    label: tuple[str, ...],
    search: str | None,
    since: str | None,
    archived: str,
    sort: str,
    limit: int,
    cursor: str | None,
) -> None:
    """List sessions, the latest changed first."""
    query = SessionQuery(
        state=tuple(SessionState(s) for s in state),
        label=label,
        q=search,
        since=since,
        archived=None if archived == "any" else archived == "yes",
        sort=sort,
        limit=limit,
        cursor=cursor,
    )
    page = await agent.sessions(query)
    at.printer.rows(page.data, SESSIONS, lambda s: s.session_id, next_cursor=page.next, empty="no sessions")
    if page.next is not None and at.output == "table":
        notice(f"there are more; --cursor {page.next} shows them")


@command.command("create")
@click.argument("session_id", metavar="[SESSION]", required=False)
@click.option("--title", help="What lists show beside its id.")
@click.option("--label", type=LABEL, multiple=True, metavar="KEY=VALUE", help="Label it; may be repeated.")
@click.option("--parallel", type=click.IntRange(1, 1000), metavar="N", help="Tasks that run at a time.  [default: 1]")
@click.option("--timeout", "timeout_s", type=DURATION, metavar="TIME", help="For all its tasks together.")
@click.option(
    "--tasks-kept",
    type=click.IntRange(0, 10_000),
    metavar="N",
    help="Finished tasks in its tasks.json.  [default: 100]",
)
@click.option("--pinned", is_flag=True, help="Retention never touches it.")
@_budgeted
@with_agent
async def _create(
    agent: Client,
    at: Invocation,
    /,
    session_id: str | None,
    title: str | None,
    label: tuple[tuple[str, str], ...],
    parallel: int | None,
    timeout_s: float | None,
    tasks_kept: int | None,
    pinned: bool,
    **budget: Any,
) -> None:
    """Make a session; without a name it gets one."""
    policy = PolicyChanges(
        max_parallel=UNSET if parallel is None else parallel,
        timeout_s=UNSET if timeout_s is None else timeout_s,
        tasks_kept=UNSET if tasks_kept is None else tasks_kept,
        pinned=True if pinned else UNSET,
        budget=_budget(Budget(), budget),
    )
    new = NewSession(session_id=session_id, title=title, labels=dict(label), policy=policy)
    _say(at, await agent.create_session(new))


@command.command("show")
@click.argument("session", metavar="SESSION", type=SESSION)
@with_agent
async def _show(agent: Client, at: Invocation, session: str) -> None:
    """Show a session with its tasks."""
    found = await agent.session(await session_of(agent, session))
    at.printer.one(found, found.session_id, session_facts)


@command.command("edit")
@click.argument("session", metavar="SESSION", type=SESSION)
@click.option("--title", help="An empty one takes it away.")
@click.option("--label", type=LABEL, multiple=True, metavar="KEY=VALUE", help="Add or change a label.")
@click.option("--remove-label", multiple=True, metavar="KEY", help="Take a label away.")
@click.option("--parallel", type=click.IntRange(1, 1000), metavar="N", help="Tasks that run at a time.")
@click.option(
    "--timeout", "timeout_s", type=DURATION, metavar="TIME", help="For all its tasks together; 0 takes it away."
)
@click.option("--tasks-kept", type=click.IntRange(0, 10_000), metavar="N", help="Finished tasks in its tasks.json.")
@click.option("--pinned/--not-pinned", default=None, help="Whether retention leaves it alone.")
@_budgeted
@click.option("--no-budget", is_flag=True, help="Take all limits of its budget away.")
@with_agent
async def _edit(
    agent: Client,
    at: Invocation,
    /,
    session: str,
    title: str | None,
    label: tuple[tuple[str, str], ...],
    remove_label: tuple[str, ...],
    parallel: int | None,
    timeout_s: float | None,
    tasks_kept: int | None,
    pinned: bool | None,
    no_budget: bool,
    **budget: Any,
) -> None:
    """Change title, labels or policy of a session."""
    before = await agent.session(await session_of(agent, session))
    labels = {key: value for key, value in before.labels.items() if key not in remove_label} | dict(label)
    policy = PolicyChanges(
        max_parallel=UNSET if parallel is None else parallel,
        timeout_s=UNSET if timeout_s is None else timeout_s or None,
        tasks_kept=UNSET if tasks_kept is None else tasks_kept,
        pinned=UNSET if pinned is None else pinned,
        budget=None if no_budget else _budget(before.policy.budget or Budget(), budget),
    )
    patch = SessionPatch(
        title=UNSET if title is None else title or None,
        labels=labels if label or remove_label else UNSET,
        policy=policy if policy != PolicyChanges() else UNSET,
    )
    if patch == SessionPatch():
        raise click.UsageError(
            "say what to change: --title, --label, --remove-label, --parallel, --timeout, --tasks-kept, --pinned,"
            " --max-cost, --max-tokens, --max-wall or --no-budget"
        )
    # labels are replaced as a whole, so nobody else may have changed them since they were read
    if_seq = before.seq if patch.labels is not UNSET else None
    _say(at, await agent.edit_session(before.session_id, patch, if_seq=if_seq))


@command.command("archive")
@click.argument("sessions", metavar="SESSION...", nargs=-1, required=True, type=SESSION)
@click.option("--undo", is_flag=True, help="Bring them back.")
@with_agent
async def _archive(agent: Client, at: Invocation, sessions: tuple[str, ...], undo: bool) -> int:
    """Put sessions out of the way: lists leave them out."""

    async def archived(text: str) -> SessionView:
        return await agent.edit_session(await session_of(agent, text), SessionPatch(archived=not undo))

    done, code = await each_of(sessions, archived)
    at.printer.rows(done, SESSIONS, lambda session: session.session_id)
    return code


@command.command("cancel")
@click.argument("session", metavar="SESSION", type=SESSION)
@with_agent
async def _cancel(agent: Client, at: Invocation, session: str) -> None:
    """Cancel all tasks of a session that have not ended."""
    tasks = await agent.cancel_session(await session_of(agent, session))
    at.printer.rows(tasks, TASKS, lambda task: task.task_id, empty="nothing to cancel")


@command.command("history")
@click.argument("session", metavar="SESSION", type=SESSION)
@click.option("--state", type=click.Choice([s.value for s in State]), multiple=True, help="Only ended so.")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="At most so many.")
@click.option("--cursor", help="Go on after a page: its `next`.")
@with_agent
async def _history(
    agent: Client, at: Invocation, session: str, state: tuple[str, ...], limit: int, cursor: str | None
) -> None:
    """List all finished tasks of a session, the last first.

    Those that retention keeps: `tasks.json` and `agentd ls` have the latest alone."""
    query = TaskQuery(state=tuple(State(s) for s in state), limit=limit, cursor=cursor)
    page = await agent.history(await session_of(agent, session), query)
    at.printer.rows(page.data, TASKS, lambda task: task.task_id, next_cursor=page.next, empty="no finished tasks")
    if page.next is not None and at.output == "table":
        notice(f"there are more; --cursor {page.next} shows them")


command.add_command(rm.command, "rm")


def _say(at: Invocation, session: SessionView) -> None:
    at.printer.rows([session], SESSIONS, lambda each: each.session_id)
