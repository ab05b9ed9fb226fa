"""agentd rm: delete sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from agentd.cli.each import each_of
from agentd.cli.ids import session_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import SESSION
from agentd.cli.printing import write_line
from agentd.errors import SessionNotFound

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("rm")
@click.argument("sessions", metavar="SESSION...", nargs=-1, required=True, type=SESSION)
@click.option("-f", "--force", is_flag=True, help="Even while it has tasks that are not ended: they are stopped.")
@with_agent
async def command(agent: Client, at: Invocation, sessions: tuple[str, ...], force: bool) -> int:
    """Delete sessions with all their files.

    History, output, artifacts and workspace: what is gone does not come back, so ids must be whole here.
    """

    async def removed(text: str) -> str:
        session_id = await session_of(agent, text)
        if session_id != text:
            raise SessionNotFound(f"there is no session {text!r}; if you mean {session_id}, write its whole id")
        await agent.delete_session(session_id, force=force)
        return session_id

    done, code = await each_of(sessions, removed)
    for session_id in done:
        write_line(session_id)
    return code
