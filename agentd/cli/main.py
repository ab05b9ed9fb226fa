"""The `agentd` command: its subcommands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from typing import NoReturn

import click

from agentd import __version__
from agentd.cli import exits
from agentd.cli.invocation import shared_options
from agentd.errors import AgentdError, Unauthorized

#: Each is a module of this package, loaded when it is named.
COMMANDS = (
    "serve",
    "status",
    "run",
    "submit",
    "ls",
    "show",
    "logs",
    "wait",
    "cancel",
    "retry",
    "rm",
    "events",
    "sessions",
    "workers",
    "queue",
    "workflow",
    "progress",
    "ask",
    "answer",
    "input",
    "export",
    "import",
    "check",
    "cleanup",
    "token",
    "completion",
)
#: What a write to a file on stdout fails with, through no fault of ours.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Commands(click.Group):
    """Loads each subcommand when it is named, and gives it the shared options."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS and name not in self.commands:
            command: click.Command = importlib.import_module(f"agentd.cli.{name}").command
            _share_options(command)
            self.commands[name] = command
        return self.commands.get(name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Run the subcommand and leave with its exit code."""
        try:
            code = super().invoke(ctx) or exits.OK
            sys.stdout.flush()
        except AgentdError as error:
            code = exits.code_of(error)
            _tell(error)
        except KeyboardInterrupt:
            code = exits.INTERRUPTED
        except BrokenPipeError:
            code = exits.PIPE_CLOSED
            _drop_output()
        ctx.exit(code)


@click.group(
    cls=Commands,
    params=shared_options(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="agentd", message="%(prog)s %(version)s")
def cli() -> None:
    """Run long work on this machine and always know how it stands.

    Start the daemon with `agentd serve`; then `agentd run -- CMD` runs a command under it. Commands find the daemon of
    ./sessions_data, else that of ~/.local/share/agentd; AGENTD_DATA_DIR or AGENTD_URL name another.
    """


def _drop_output() -> None:
    """What is still buffered goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _share_options(command: click.Command) -> None:
    if isinstance(command, click.Group):
        for each in command.commands.values():
            _share_options(each)
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in shared_options() if not taken.intersection(option.opts)]


def _tell(error: AgentdError) -> None:
    click.echo(f"agentd: {error.detail}", err=True)
    for field in error.errors:
        if field.message not in error.detail:
            click.echo(f"  {field.field}: {field.message}", err=True)
    if isinstance(error, Unauthorized):
        click.echo("agentd: set AGENTD_TOKEN to what the file `token` in its data directory says", err=True)


def _open_what_is_closed() -> None:
    """What the caller closed (`>&-`) leads nowhere, or the first socket would get its number and what is printed."""
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
            setattr(sys, name, os.fdopen(fd, "w" if fd else "r", encoding="utf-8", closefd=False))


def main() -> None:
    """The console script."""
    _open_what_is_closed()
    # arguments are UTF-8 whatever the locale says, as everything that agentd writes
    args = [os.fsencode(arg).decode("utf-8", "surrogateescape") for arg in sys.argv[1:]]
    try:
        cli(args, prog_name="agentd")
    except KeyboardInterrupt:
        sys.exit(exits.INTERRUPTED)
    except OSError as error:
        if error.errno not in _NO_ROOM or error.filename is not None:
            raise
        _drop_output()
        click.echo(f"agentd: the output cannot be written: {error.strerror}", err=True)
        sys.exit(exits.FAILED)


if __name__ == "__main__":
    main()
