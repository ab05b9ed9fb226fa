"""What a command was called with: which daemon, in which form to answer; and the way to ask that daemon."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from agentd.cli.printing import Printer, notice
from agentd.errors import Unreachable

if TYPE_CHECKING:
    from agentd.client import Client, Endpoint

P = ParamSpec("P")


class Invocation:
    """The options that all commands share; they may stand before or behind the command's name."""

    def __init__(self) -> None:
        self.url: str | None = None
        self.data_dir: str | None = None
        self.output = "table"
        self.no_headers = False

    @property
    def printer(self) -> Printer:
        """Writes in the form that was asked for."""
        return Printer(self.output, not self.no_headers)

    def endpoint(self) -> Endpoint:
        """The daemon that is meant.

        Raises:
            Unreachable: there is none.
        """
        from agentd.client.discovery import discover

        return discover(self.data_dir, os.environ, url=self.url)

    def ask(self, function: Callable[[Client], Awaitable[int | None]]) -> int | None:
        """Call the function with a client of that daemon."""
        import asyncio  # here, as with the client: commands that need neither start without them

        from agentd.client import Client

        async def asked() -> int | None:
            found = self.endpoint()
            async with Client(found.url, found.token, rediscover=self.endpoint, on_lost=_lost) as agent:
                return await function(agent)

        return asyncio.run(asked())


def with_agent(
    function: Callable[Concatenate[Client, Invocation, P], Awaitable[int | None]],
) -> Callable[P, int | None]:
    """A command that is a coroutine of a connected client and the invocation; it may return an exit code."""

    @functools.wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> int | None:
        invocation = current()
        return invocation.ask(lambda agent: function(agent, invocation, *args, **kwargs))

    return command


def current() -> Invocation:
    """The invocation of the command that runs."""
    return click.get_current_context().ensure_object(Invocation)


def shared_options() -> list[click.Parameter]:
    """Fresh instances of the options that every command takes."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_keep, **attributes)

    return [
        option("--url", metavar="URL", help="The daemon; else AGENTD_URL, else the local one."),
        option("--data-dir", metavar="DIR", help="Use the daemon of this data directory."),
        option(
            "-o",
            "--output",
            type=click.Choice(["table", "json", "jsonl", "name"]),
            help="Form of the result; json is stable.",
        ),
        option("--no-headers", is_flag=True, default=None, help="Tables without their first line."),
    ]


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    if value is not None and parameter.name is not None:
        setattr(context.ensure_object(Invocation), parameter.name, value)


def _lost(error: Unreachable) -> None:
    from agentd.client.streams import PATIENCE_S

    notice(f"{error.detail}; trying again for {PATIENCE_S:.0f} s")
