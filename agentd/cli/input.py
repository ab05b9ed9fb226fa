"""agentd input: write to a running task."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

import click

from agentd.cli.feeding import PIECE_BYTES, given
from agentd.cli.ids import task_of
from agentd.cli.invocation import Invocation, with_agent
from agentd.cli.parameters import LIVE_TASK
from agentd.model.reports import NewInput

if TYPE_CHECKING:
    from agentd.client import Client


@click.command("input")
@click.option("-n", "no_line_end", is_flag=True, help="Send TEXT as it is, without a line end behind it.")
@click.option("--eof", is_flag=True, help="End its input afterwards.")
@click.argument("task", metavar="ID", type=LIVE_TASK)
@click.argument("text", metavar="[TEXT|-]", required=False)
@with_agent
async def command(agent: Client, at: Invocation, task: str, text: str | None, no_line_end: bool, eof: bool) -> None:
    """Write a line to a running interactive task. With -, all of standard input, as it is.

    The task must have been started with `agentd run -i`, `agentd submit -i`, or `interactive: true`. What is sent is
    not recorded.
    """
    if text is None and not eof:
        raise click.UsageError("say what to send: TEXT, - for standard input, or --eof alone")
    task_id = (await task_of(agent, task)).task_id
    if text == "-":
        while data := sys.stdin.buffer.read(PIECE_BYTES):
            await given(agent, task_id, NewInput(data_base64=base64.b64encode(data).decode()))
    elif text is not None:
        data = text.encode("utf-8", "surrogateescape") + (b"" if no_line_end else b"\n")
        for at_byte in range(0, len(data), PIECE_BYTES):
            piece = base64.b64encode(data[at_byte : at_byte + PIECE_BYTES]).decode()
            await given(agent, task_id, NewInput(data_base64=piece))
    if eof:
        await given(agent, task_id, NewInput(eof=True))
