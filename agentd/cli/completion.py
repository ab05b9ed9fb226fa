"""agentd completion: what a shell needs to complete commands, options and ids."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from agentd.cli.printing import write_line


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print a completion script.

    \b
    bash:  source <(agentd completion bash)
    zsh:   source <(agentd completion zsh)
    fish:  agentd completion fish | source
    """
    root = ctx.find_root()
    found = get_completion_class(shell)
    assert found is not None
    write_line(found(root.command, {}, "agentd", "_AGENTD_COMPLETE").source())
