"""agentd token: more tokens, each with a role; kept as hashes in the data directory."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import click

from agentd.cli.invocation import Invocation, current
from agentd.cli.printing import Column, notice, write_json, write_line

if TYPE_CHECKING:
    from agentd.http.tokens import TokenFile


@click.group("token")
def command() -> None:
    """Make, list and revoke tokens.

    These work on the files of the data directory, whether the daemon runs or not; it notices.
    """


@command.command("create")
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["viewer", "operator", "admin"]), default="operator", show_default=True, help="May do."
)
def _create(name: str, role: str) -> None:
    """Make a token and show it, this once.

    A viewer reads, an operator also submits and cancels, an admin does everything.
    """
    invocation = current()
    token, text = _file(invocation).create(name, role, time.time())
    if invocation.output in ("json", "jsonl"):
        write_json({"token_id": token.token_id, "name": token.name, "role": token.role, "token": text})
        return
    write_line(text)
    notice("it is not shown again; clients read it from AGENTD_TOKEN")


@command.command("list")
def _list() -> None:
    """List the tokens, oldest first."""
    invocation = current()
    columns: tuple[Column[dict[str, str]], ...] = (
        Column("ID", lambda token, look: token["token_id"]),
        Column("NAME", lambda token, look: token["name"]),
        Column("ROLE", lambda token, look: token["role"]),
        Column("CREATED", lambda token, look: look.when(token["created_at"])),
    )
    shown = ("token_id", "name", "role", "created_at")
    tokens = [{field: getattr(token, field) for field in shown} for token in _file(invocation).all()]
    invocation.printer.rows(tokens, columns, lambda token: token["token_id"], empty="no tokens but the first")


@command.command("revoke")
@click.argument("token", metavar="ID|NAME")
def _revoke(token: str) -> None:
    """Take a token away; the daemon refuses it within a second."""
    write_line(_file(current()).revoke(token).token_id)


def _file(invocation: Invocation) -> TokenFile:
    from agentd.client.discovery import data_dirs
    from agentd.errors import NotFound
    from agentd.http.tokens import TokenFile

    directories = list(data_dirs(invocation.data_dir, os.environ))
    for directory in directories:
        if os.path.isdir(directory):
            return TokenFile(directory)
    raise NotFound(f"{' and '.join(directories)} do not exist; name the data directory with --data-dir")
