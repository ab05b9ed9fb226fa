"""A viewer under test, and the browser that looks at it."""

from __future__ import annotations

import http.client
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import NamedTuple
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, sync_playwright

from benchlib.daemon import Daemon

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


class Viewer(NamedTuple):
    """One `agentd-web`: its process, the link that it printed, and its address."""

    pid: int
    link: str

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return self.link.partition("/login/")[0]

    def cookie(self) -> str:
        """Use the link up; what a client without a browser sends from then on."""
        where = urlsplit(self.link)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        try:
            connection.request("POST", where.path)
            answer = connection.getresponse()
            return (answer.headers["Set-Cookie"] or "").partition(";")[0]
        finally:
            connection.close()


@contextmanager
def viewer(directory: Path, daemons: Mapping[str, Daemon], *flags: str) -> Iterator[Viewer]:
    """A viewer of these daemons, by name, started with more flags."""
    argv = [str(Path(sys.executable).with_name("agentd-web")), "--port", "0", *flags]
    argv += ["--secret-file", str(directory / "secret"), "--data-dir", str(directory / "none")]
    for name, daemon in daemons.items():
        argv += ["--agent", f"{name}={daemon.data_dir}"]
    with (directory / "viewer.log").open("ab") as log, Popen(argv, stdout=PIPE, stderr=log) as process:
        try:
            assert process.stdout is not None
            words = (word for line in process.stdout for word in line.decode().split())
            yield Viewer(process.pid, next(word for word in words if "/login/" in word))
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[BrowserContext]:
    """Chromium without a past."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        yield chromium.new_context(viewport={"width": 1280, "height": 800})
        chromium.close()
