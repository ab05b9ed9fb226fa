"""agentd check: verify the data directory, and repair it while no daemon runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentd.cli import exits
from agentd.cli.invocation import current
from agentd.cli.printing import Column, Look, Printer, notice
from agentd.errors import AlreadyRunning, NotFound
from agentd.model.upkeep import CheckFinding, CheckReport

if TYPE_CHECKING:
    from agentd.client import Client

COLUMNS = (
    Column[CheckFinding]("SESSION", lambda finding, look: finding.session_id or "-"),
    Column[CheckFinding]("FILE", lambda finding, look: finding.file),
    Column[CheckFinding]("REPAIRED", lambda finding, look: finding.repaired or "no"),
    Column[CheckFinding]("PROBLEM", lambda finding, look: finding.problem),
)


@click.command("check")
@click.option("--repair", is_flag=True, help="Put right what can be; needs the daemon to be stopped.")
def command(repair: bool) -> int | None:
    """Verify every record of every session.

    A running daemon checks its own directory; without one this command does, and can repair. Exits 1 when something
    is wrong and not repaired.
    """
    from agentd.store.locks import DirectoryLock

    invocation = current()
    if invocation.url is not None or (invocation.data_dir is None and os.environ.get("AGENTD_URL")):
        return _running(repair)
    directory = _data_dir(invocation.data_dir)
    lock = DirectoryLock.take(directory)
    if lock is None:
        return _running(repair)
    try:
        return _offline(directory, repair)
    finally:
        lock.release()


def _running(repair: bool) -> int | None:
    if repair:
        raise AlreadyRunning("a daemon owns the data directory; stop it to repair, its next start repairs as well")
    reports: list[CheckReport] = []

    async def asked(agent: Client) -> None:
        reports.append(await agent.check())

    current().ask(asked)
    return _told(reports[0])


def _offline(directory: Path, repair: bool) -> int:
    from agentd.store.check import check
    from agentd.store.disk import RealDisk

    return _told(check(RealDisk(), str(directory), repair=repair))


def _told(report: CheckReport) -> int:
    printer = current().printer

    def table(report: CheckReport, look: Look) -> None:
        if report.findings:
            Printer("table", printer.headers).table(report.findings, COLUMNS, look)

    left = [finding for finding in report.findings if finding.repaired is None]
    printer.one(report, "\n".join(finding.file for finding in report.findings), table)
    notice(f"{_found(report, left)}; sessions: {report.sessions}, events: {report.events}")
    return exits.FAILED if left else exits.OK


def _found(report: CheckReport, left: Sequence[CheckFinding]) -> str:
    if not report.findings:
        return "all is well"
    problems = f"{len(report.findings)} problem{'s' if len(report.findings) > 1 else ''}"
    if not left:
        return f"{problems}, all repaired"
    return f"{problems}, {len(left)} not repaired; `agentd check --repair`, with the daemon stopped, mends what can be"


def _data_dir(named: str | None) -> Path:
    from agentd.client.discovery import data_dirs

    directories = list(data_dirs(named, os.environ))
    for directory in directories:
        if os.path.isdir(os.path.join(directory, "sessions")):
            return Path(os.path.realpath(directory))
    raise NotFound(f"{' and '.join(directories)} hold no sessions; name the data directory with --data-dir")
