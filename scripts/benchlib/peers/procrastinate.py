"""procrastinate on PostgreSQL, which wakes it. This module is also what the worker imports."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import procrastinate as library
import psycopg

from benchlib.peers.peer import LOST, QUEUED, RUNNING, Peer, beside, fresh, without_error
from benchlib.processes import free_port, until

PLACES = [str(Path(each).parent) for each in glob.glob("/usr/lib/postgresql/*/bin/postgres")]


async def _run(argv: list[str]) -> int:
    process = await asyncio.create_subprocess_exec(*argv)
    return await process.wait()


def _app(where: str) -> Any:
    app = library.App(connector=library.PsycopgConnector(conninfo=where))
    app.task(name="run")(_run)
    return app


if "BENCH_PROCRASTINATE" in os.environ:
    app = _app(os.environ["BENCH_PROCRASTINATE"])


class Procrastinate(Peer):
    """One worker that runs two at a time."""

    title = "procrastinate"
    settings = "`--concurrency 2`, PostgreSQL as it comes"
    durable = True
    commands = ("postgres", "initdb")
    packages = ("postgresql",)
    _where = ""
    _rows: Any = None
    _client: Any = None

    def _postgres(self) -> None:
        data = fresh(self.directory / "postgres")
        user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
        if user:
            shutil.chown(data, user)
        data.chmod(0o700)
        # By a name that needs no way to it: what lies above may be closed to the user that it runs as.
        fd = os.open(data, os.O_RDONLY)
        here = f"/proc/self/fd/{fd}"
        argv = [_program("initdb"), "-A", "trust", "-U", "postgres", "--no-sync", "-D", here]
        subprocess.run(argv, user=user, cwd="/", pass_fds=[fd], check=True, capture_output=True)
        port = free_port()
        where = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=")
        self.run(_program("postgres"), "-D", here, "-p", str(port), *where, server=True, user=user, pass_fds=[fd])
        os.close(fd)
        self._where = f"host=127.0.0.1 port={port} user=postgres dbname=postgres"
        until(lambda: without_error(lambda: psycopg.connect(self._where).close()), 30, 0.05)
        self._rows = psycopg.connect(self._where, autocommit=True)
        self._client = library.App(connector=library.SyncPsycopgConnector(conninfo=self._where))
        self._client.open()
        self._client.schema_manager.apply_schema()

    def start(self, parallel: int) -> None:
        if not self._where:
            self._postgres()
        argv = ("-v", "--app=benchlib.peers.procrastinate.app", "worker", "--concurrency", str(parallel))
        self.said("Starting worker", self.run(beside("procrastinate"), *argv, BENCH_PROCRASTINATE=self._where))

    def submit(self, argv: Sequence[str]) -> Any:
        return self._client.configure_task("run").defer(argv=list(argv))

    def wait(self, handle: Any) -> None:
        until(lambda: self.status(handle) not in (QUEUED, RUNNING), 60)

    def wait_all(self, handles: Sequence[Any]) -> None:
        left = "select count(*) from procrastinate_jobs where status in ('todo', 'doing')"
        until(lambda: self._rows.execute(left).fetchone()[0] == 0, 600, 0.01)

    def status(self, handle: Any) -> str:
        row = self._rows.execute("select status from procrastinate_jobs where id = %s", (handle,)).fetchone()
        return {"todo": QUEUED, "doing": RUNNING}.get(row[0], str(row[0])) if row else LOST

    def stop(self) -> None:
        if self._where:
            self._client.close()
            self._rows.close()
            self._where = ""
        super().stop()

    def version(self) -> str:
        number = self._rows.execute("show server_version").fetchone()[0].split()[0]
        return f"{version('procrastinate')}, PostgreSQL {number}"


def _program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([*PLACES, os.environ["PATH"]]))
    if found is None:
        raise FileNotFoundError(name)
    return found
