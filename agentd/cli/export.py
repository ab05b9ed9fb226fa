"""agentd export: a session as one archive."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import TYPE_CHECKING

import click

from agentd.cli.ids import session_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import SESSION
from agentd.cli.printing import notice
from agentd.errors import Unreachable

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("export")
@click.argument("session", metavar="SESSION", type=SESSION)
@click.option("-o", "--output", "target", type=click.Path(), help="Where to; - is stdout.  [default: SESSION.tar]")
@click.option("-f", "--force", is_flag=True, help="Replace a file that is there.")
@with_agent
async def command(agent: Client, at: Invocation, session: str, target: str | None, force: bool) -> None:
    """Write a session to one archive.

    Its history, output and artifacts, as they are now. Not its workspace, and no login. A session that goes on
    meanwhile is exported as of one moment.
    """
    session_id = await session_of(agent, session)
    target = target or f"{session_id}.tar"
    with nullcontext(sys.stdout.buffer) if target == "-" else _Whole(target, force) as file:
        came = 0
        try:
            async for block in agent.export_session(session_id):
                file.write(block)
                came += len(block)
        except Unreachable as error:
            if not came:
                raise
            left = "what was written is no archive" if target == "-" else f"{target} was not made"
            raise Unreachable(
                f"the export broke off after {came} bytes, and {left}; the daemon's log may say why: {error}"
            ) from error


class _Whole:
    """A file that is there once all of it is written, and otherwise not."""

    def __init__(self, path: str, force: bool) -> None:
        if os.path.exists(path) and not force:
            raise click.UsageError(f"{path} is there already; --force replaces it")
        self._path = path
        self._half = f"{path}.part"
        try:
            self._file = open(self._half, "wb")  # noqa: SIM115 - closed in __exit__
        except OSError as error:
            raise click.UsageError(f"{path} cannot be written: {error.strerror}") from error

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def __enter__(self) -> _Whole:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if error is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if error is None:
                os.replace(self._half, self._path)
                notice(f"{self._path}: {os.path.getsize(self._path)} bytes")
        finally:
            with suppress(FileNotFoundError):
                os.unlink(self._half)
