"""`agentd-web`: its flags and commands."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import time
from pathlib import Path

import click
from click.core import ParameterSource

from webui.identity import Identity, Role, Seals, new_sid
from webui.links import Links
from webui.running import address
from webui.secret import read_secret, state_dir
from webui.serving import serve
from webui.settings import LOG_FORMATS, LOG_LEVELS, Settings, SettingsError, agent_settings, load

_FILE = click.Path(path_type=Path)
_ROLES = click.Choice([role.name.lower() for role in Role])


@click.group(
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "AGENTD_WEB", "help_option_names": ["-h", "--help"]},
)
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=int, metavar="PORT", help="Which port; 0 picks one.  [default: 8421]")
@click.option(
    "--agent",
    "agents",
    metavar="NAME=URL|DIR",
    multiple=True,
    help="An agent, or the data directory of one on this machine.",
)
@click.option(
    "--token-file", "token_files", metavar="NAME=FILE", multiple=True, help="The file with the token for an agent."
)
@click.option(
    "--data-dir",
    "data_dirs",
    metavar="DIR",
    multiple=True,
    help="Where local agents are looked for.  [default: where agentd looks]",
)
@click.option(
    "--config",
    metavar="FILE",
    type=_FILE,
    help="Settings and agents; the agents are read again when it changes.  [default: webui.yaml, if it is there]",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=_FILE,
    help="Seals logins; made if absent.  [default: ~/.local/state/agentd-web/secret]",
)
@click.option("--public-url", metavar="URL", help="How browsers reach it behind a proxy, with its path prefix.")
@click.option(
    "--allowed-host", "allowed_hosts", metavar="NAME", multiple=True, help="A Host to accept beside loopback."
)
@click.option(
    "--trust-forwarded", is_flag=True, default=None, help="Believe X-Forwarded-For: behind a proxy that sets it."
)
@click.option("--tls-cert", metavar="FILE", type=_FILE, help="Serve TLS with this certificate (PEM).")
@click.option("--tls-key", metavar="FILE", type=_FILE, help="Its key.  [default: in the same file]")
@click.option("--login-hours", metavar="HOURS", type=float, help="How long a login lasts.  [default: 12]")
@click.option("--log-level", metavar="LEVEL", help=f"{', '.join(LOG_LEVELS)}.  [default: info]")
@click.option(
    "--log-format", metavar="FORM", help=f"{', '.join(LOG_FORMATS)}.  [default: auto: json but on a terminal]"
)
@click.pass_context
def main(ctx: click.Context, /, **flags: object) -> None:
    """Show the sessions and tasks of agentd daemons in a browser, and act on them.

    Prints a link that logs in once. Without --agent it shows the daemons of this machine. Each flag is also a variable
    of the environment (AGENTD_WEB_PORT, …) and a key of webui.yaml; see docs/viewer.md.
    """
    os.umask(0o077)
    # Memory holds tokens and the secret: no core is left.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        settings = _settings(ctx, flags)
        secret = read_secret(settings.secret_file)
        if ctx.invoked_subcommand is None:
            asyncio.run(serve(settings, secret))
    except SettingsError as error:
        click.echo(f"agentd-web: {error}", err=True)
        sys.exit(2)
    ctx.obj = (settings, secret)


@main.command()
@click.option("--role", type=_ROLES, default="admin", show_default=True, help="The most that the login may do.")
@click.pass_obj
def link(obj: tuple[Settings, bytes], role: str) -> None:
    """Print a new link to the running viewer; it logs in once, within ten minutes."""
    settings, secret = obj
    url = settings.public_url or address(settings.secret_file)
    if url is None:
        click.echo(
            f"agentd-web: no viewer runs with {settings.secret_file}; start it, or name its --public-url", err=True
        )
        sys.exit(3)
    click.echo(f"{url.rstrip('/')}/login/{Links(secret, time.time).make(Role[role.upper()])}")


@main.command()
@click.option("--role", type=_ROLES, default="viewer", show_default=True, help="The most that it may do.")
@click.option("--hours", type=click.FloatRange(0, min_open=True), help="How long it lasts.  [default: as a login]")
@click.pass_obj
def token(obj: tuple[Settings, bytes], role: str, hours: float | None) -> None:
    """Print a token for scripts that ask the viewer: `Authorization: Bearer TOKEN`.

    It acts by the tokens that the viewer has for its agents. It ends by time, or with the secret file.
    """
    settings, secret = obj
    expires_at = time.time() + (settings.login_hours if hours is None else hours) * 3600
    most = Role[role.upper()]
    click.echo(Seals(secret).seal(Identity(sid=new_sid(), role=most, configured=most, expires_at=expires_at)))


def _settings(ctx: click.Context, flags: dict[str, object]) -> Settings:
    given = dict(flags)
    agents, token_files = flags["agents"], flags["token_files"]
    assert isinstance(agents, tuple) and isinstance(token_files, tuple)
    from_environment = ctx.get_parameter_source("agents") is ParameterSource.ENVIRONMENT
    given["agents"] = agent_settings(agents, token_files, "environment" if from_environment else "flag")
    del given["token_files"]
    return load(given, secret_file=state_dir(os.environ) / "secret")


if __name__ == "__main__":
    main()
