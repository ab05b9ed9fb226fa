"""agentd import: a session out of its archive."""  # noqa: N999 - as the command is called

from __future__ import annotations

import sys
import tarfile
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, BinaryIO

import click

from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.printing import notice
from agentd.cli.tables import SESSIONS
from agentd.errors import Invalid
from agentd.model.ids import is_session_id

if TYPE_CHECKING:
    from agentd.client import Client

_BLOCK = 256 << 10


@click.command("import")
@click.argument("archive", metavar="FILE", type=click.Path())
@with_agent
async def command(agent: Client, at: Invocation, archive: str) -> None:
    """Make the session that an archive holds. It has the id that it had; - is stdin.

    The archive is verified to the last byte: the session is there as a whole or not at all. Nothing starts: tasks
    that had not ended are cancelled, and `agentd retry` runs them again.
    """
    with _opened(archive) as file:
        head = file.read(tarfile.BLOCKSIZE)
        view = await agent.import_session(_owner(archive, head), _rest(head, file))
    at.printer.rows([view], SESSIONS, lambda each: each.session_id)
    if ended := view.counts.get("cancelled"):
        notice(f"{ended} tasks are cancelled; those that had not ended say so in their cause")


def _opened(archive: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if archive == "-" else open(archive, "rb")
    except OSError as error:
        raise click.UsageError(f"{archive} cannot be read: {error.strerror}") from error


def _owner(archive: str, head: bytes) -> str:
    """The session that an archive begins with."""
    try:
        owner = tarfile.TarInfo.frombuf(head, "utf-8", "strict").name.partition("/")[0]
    except (tarfile.HeaderError, ValueError):
        owner = ""
    if not is_session_id(owner):
        raise Invalid(f"{archive} is not an archive that `agentd export` made")
    return owner


async def _rest(head: bytes, file: BinaryIO) -> AsyncIterator[bytes]:
    yield head
    while block := file.read(_BLOCK):
        yield block
