"""`agentd-web`: settings from flags, environment and webui.yaml; then serve until told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import ssl
import sys
import time
from pathlib import Path

import click
import structlog
from aiohttp import web

from webui.app import Viewer
from webui.identity import Role, Seals
from webui.links import make_link
from webui.settings import AgentSetting, Settings, SettingsError, agent_setting, read_file

#: What requests in progress get when the viewer stops.
SHUTDOWN_S = 1.0
SECRET_BYTES = 32


@click.group(
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "AGENTD_WEB", "help_option_names": ["-h", "--help"]},
)
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Which port; 0 picks one.  [default: 8421]")
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
    type=click.Path(path_type=Path),
    help="Settings and agents; read again when it changes.  [default: webui.yaml, if it is there]",
)
@click.option(
    "--secret-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Seals cookies; made if absent.  [default: ~/.local/state/agentd-web/secret]",
)
@click.option("--public-url", metavar="URL", help="How browsers reach it behind a proxy, with its path prefix.")
@click.option(
    "--allowed-host", "allowed_hosts", metavar="NAME", multiple=True, help="A Host to accept beside loopback."
)
@click.option("--tls-cert", metavar="FILE", type=click.Path(path_type=Path), help="Serve TLS with this certificate.")
@click.option("--tls-key", metavar="FILE", type=click.Path(path_type=Path), help="The key of the certificate.")
@click.pass_context
def main(ctx: click.Context, /, **flags: object) -> None:
    """Show the sessions and tasks of agentd daemons in a browser, and act on them.

    Prints a link that logs in once. Without --agent it shows the daemons of this machine.
    """
    try:
        settings = _settings(flags)
        secret = _secret(settings.secret_file)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    ctx.obj = (settings, secret)
    if ctx.invoked_subcommand is None:
        sys.exit(asyncio.run(serve(settings, secret)))


@main.command()
@click.option("--role", type=click.Choice(["viewer", "operator", "admin"]), default="admin", show_default=True)
@click.pass_obj
def link(obj: tuple[Settings, bytes], role: str) -> None:
    """Print a new link that logs in once, within ten minutes."""
    settings, secret = obj
    url = settings.public_url or f"{'https' if settings.secure else 'http'}://{settings.host}:{settings.port}"
    click.echo(f"{url.rstrip('/')}/login/{make_link(Seals(secret), time.time(), Role[role.upper()])}")


async def serve(settings: Settings, secret: bytes) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    viewer = Viewer(settings, os.environ, secret)
    runner = web.AppRunner(
        viewer.application(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        context = None
        if settings.tls_cert is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(settings.tls_cert, settings.tls_key)
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
        await site.start()
    except (OSError, ssl.SSLError) as error:
        click.echo(f"agentd-web: cannot listen on {settings.host}:{settings.port}: {error}", err=True)
        await runner.cleanup()
        return 2
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    origin = f"{'https' if context else 'http'}://{host}:{port}"
    if settings.public_url:
        origin = settings.public_url.rstrip("/").removesuffix(settings.prefix)
    click.echo(f"agentd-web: open {origin}{viewer.link()}", err=False)
    sys.stdout.flush()
    await stop.wait()
    await runner.cleanup()
    return 0


def _settings(flags: dict[str, object]) -> Settings:
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    config = given.pop("config", None)
    if config is None and Path("webui.yaml").exists():
        config = Path("webui.yaml")
    if config is not None:
        file = read_file(Path(str(config)))
        for name in ("host", "port", "public_url", "allowed_hosts", "login_hours"):
            if (value := getattr(file, name)) is not None:
                given.setdefault(name, value)
    agents = [agent_setting(str(text), "flag") for text in given.pop("agents", ())]  # type: ignore[attr-defined]
    for text in given.pop("token_files", ()):  # type: ignore[attr-defined]
        name, _, path = str(text).partition("=")
        at = next((i for i, agent in enumerate(agents) if agent.name == name), None)
        if at is None or not path:
            raise SettingsError(f"--token-file {text!r}: write NAME=FILE, with the NAME of an --agent")
        agents[at] = AgentSetting(
            name=name, url=agents[at].url, data_dir=agents[at].data_dir, token_file=path, source="flag"
        )
    secret_file = given.pop("secret_file", None) or _state_dir() / "secret"
    return Settings(agents=tuple(agents), config=config, secret_file=Path(str(secret_file)), **given)  # type: ignore[arg-type]


def _state_dir() -> Path:
    """Where the XDG base directory specification wants state."""
    home = os.environ.get("XDG_STATE_HOME", "")
    return Path(home if os.path.isabs(home) else Path.home() / ".local" / "state") / "agentd-web"


def _secret(path: Path) -> bytes:
    """The secret in the file; a new one if there is none.

    Raises:
        SettingsError: it cannot be read or made, is too short, or others may read it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_hex(SECRET_BYTES))
        except FileExistsError:
            pass
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise SettingsError(f"{path} can be read by others: chmod 600 it")
            secret = file.read(4096).strip()
    except OSError as error:
        raise SettingsError(f"--secret-file {path}: {error.strerror}") from error
    if len(secret) < SECRET_BYTES:
        raise SettingsError(f"{path} holds less than {SECRET_BYTES} bytes: remove it, and a new one is made")
    return secret


if __name__ == "__main__":
    main()
