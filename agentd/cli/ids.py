"""From what was typed to what is meant: whole ids, or beginnings that only one has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentd.errors import Forbidden, Invalid, NotFound, SessionNotFound, TaskNotFound
from agentd.model.ids import ALPHABET, is_session_id, is_task_id
from agentd.model.requests import SessionQuery, SessionView, TaskQuery
from agentd.model.task import Task

if TYPE_CHECKING:
    from agentd.client import Client

#: How many of several candidates are named.
SHOWN = 5


async def task_of(agent: Client, text: str) -> Task:
    """The task with this id, or the only one whose id begins so.

    Raises:
        TaskNotFound: there is none.
        Invalid: there are several.
    """
    if is_task_id(text):
        return await agent.task(text)
    if not text or not set(text) <= set(ALPHABET):
        raise TaskNotFound(f"there is no task {text!r}; `agentd ls` shows them")
    page = await agent.tasks(TaskQuery(prefix=text, limit=SHOWN + 1))
    if not page.data:
        raise TaskNotFound(f"there is no task {text!r}; `agentd ls` shows them")
    if len(page.data) > 1:
        raise _ambiguous("tasks", text, [task.task_id for task in page.data])
    return page.data[0]


async def session_of(agent: Client, text: str) -> str:
    """The id of the session with this id, or of the only one that begins so.

    Raises:
        SessionNotFound: there is none.
        Invalid: there are several.
    """
    missing = SessionNotFound(f"there is no session {text!r}; `agentd sessions list` shows them")
    if not is_session_id(text):
        raise missing
    try:
        page = await agent.sessions(SessionQuery(q=text, archived=None, limit=1000, sort="session_id"))
    except Forbidden:  # a task's own token sees its session, not the list
        return text
    found = [session.session_id for session in page.data if session.session_id.startswith(text)]
    if text in found or page.next is not None:
        return text  # with a thousand that hold the text it is taken as whole, and the daemon says if it is not
    if not found:
        raise missing
    if len(found) > 1:
        raise _ambiguous("sessions", text, found)
    return found[0]


async def task_or_session(agent: Client, text: str) -> Task | SessionView:
    """The task or the session that is meant; a whole id goes before a beginning, a session before a task.

    Raises:
        NotFound: neither.
        Invalid: several.
    """
    if is_task_id(text):
        try:
            return await agent.task(text)
        except TaskNotFound:
            pass
    if is_session_id(text):
        try:
            return await agent.session(text)
        except SessionNotFound:
            pass
    try:
        return await task_of(agent, text)
    except TaskNotFound:
        pass
    try:
        return await agent.session(await session_of(agent, text))
    except SessionNotFound:
        raise NotFound(f"there is no task or session {text!r}; `agentd ls` shows what there is") from None


async def task_meant(agent: Client, text: str | None) -> Task:
    """A task by its id, the newest one of a session by the session's, or the newest of all.

    Raises:
        NotFound: none.
        Invalid: several.
    """
    if text is None:
        page = await agent.tasks(TaskQuery(limit=1))
        if not page.data:
            raise TaskNotFound("there are no tasks yet; `agentd run -- CMD` makes one")
        return page.data[0]
    found = await task_or_session(agent, text)
    if isinstance(found, Task):
        return found
    page = await agent.tasks(TaskQuery(limit=1), session_id=found.session_id)
    if not page.data:
        raise TaskNotFound(f"session {found.session_id} has no tasks")
    return page.data[0]


def _ambiguous(what: str, text: str, found: Sequence[str]) -> Invalid:
    names = ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
    return Invalid(f"several {what} begin with {text!r}: {names}")
