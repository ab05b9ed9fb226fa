"""agentd serve: the daemon itself, in the foreground."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from agentd.cli.invocation import current


@click.command("serve")
@click.option("--host", metavar="ADDRESS", help="Where to listen.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65_535), help="Which port; 0 picks one.  [default: 8420]")
@click.option("--socket", metavar="PATH", help="Listen on a unix socket as well.")
@click.option("--config", metavar="FILE", type=click.Path(path_type=Path), help="Settings.  [default: agentd.yaml]")
@click.option("--workers-max", metavar="N", type=int, help="Tasks that can run at once.")
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error.")
def command(
    host: str | None,
    port: int | None,
    socket: str | None,
    config: Path | None,
    workers_max: int | None,
    log_level: str | None,
) -> None:
    """Run the daemon.

    It owns one data directory (--data-dir) and writes agent.json there once it answers, so that every other command
    finds it. SIGTERM or Ctrl-C drains and stops it.
    """
    # structlog loads it where it is installed, for tracebacks that are not shown here: 3 MiB, 45 ms.
    sys.modules.setdefault("rich", None)  # type: ignore[arg-type] # as `import` wants it for "there is none"
    from agentd.config import load
    from agentd.serving import run

    settings = load(
        file=config,
        environ=os.environ,
        flags={
            "data_dir": current().data_dir,
            "http.host": host,
            "http.port": port,
            "http.socket": socket,
            "workers.max": workers_max,
            "log.level": log_level,
        },
    )
    run(settings)
