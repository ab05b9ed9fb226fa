"""Daemons, viewers and a browser, all real; each is ended whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
#: What a browser test waits for at most, in milliseconds; nothing waits as long unless it fails.
PATIENCE_MS = 15_000

MakeDaemon = Callable[..., RealDaemon]
MakeViewer = Callable[..., RealViewer]
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on directories under tmp_path; the same name is the same directory."""
    made: list[RealDaemon] = []

    def make(name: str = "data", **settings: object) -> RealDaemon:
        daemon = RealDaemon(tmp_path / name, **settings)
        made.append(daemon)
        return daemon

    yield make
    for daemon in made:
        daemon.end()


@pytest.fixture
def daemon(make_daemon: MakeDaemon) -> RealDaemon:
    """A running daemon."""
    return make_daemon().start()


@pytest.fixture
def make_viewer(tmp_path: Path) -> Iterator[MakeViewer]:
    """Makes viewers; `make_viewer({"name": target}, *flags)`."""
    made: list[RealViewer] = []

    def make(agents: dict[str, str | Path], *flags: str, name: str = "viewer") -> RealViewer:
        viewer = RealViewer(tmp_path / name, agents, *flags)
        made.append(viewer)
        return viewer

    yield make
    for viewer in made:
        viewer.end()


@pytest.fixture
def viewer(make_viewer: MakeViewer, daemon: RealDaemon) -> RealViewer:
    """A running viewer over one daemon, named `one`, and logged in."""
    return make_viewer({"one": daemon.data_dir}).start().log_in()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, one for all tests of a process. Without it they are skipped, unless AGENTD_BROWSER=required."""
    if CHROMIUM is None:
        if os.environ.get("AGENTD_BROWSER") == "required":
            pytest.fail("no Chromium: apt install chromium")
        pytest.skip("no Chromium here: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        running = asyncio._get_running_loop()
        yield browser
        asyncio._set_running_loop(running)  # a test without a browser may have been the last
        browser.close()


class Watched:
    """What a browser complained about: CSP violations, errors of scripts."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.expected: list[str] = []  #: texts of complaints that a test means to cause

    def listen(self, context: BrowserContext) -> None:
        context.on("console", self._message)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))

    def _message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def unexpected(self) -> list[str]:
        return [each for each in self.complaints if not any(text in each for text in self.expected)]


@pytest.fixture
def watched() -> Watched:
    """What the browser of the test complained about; a complaint that is not in `expected` fails the test."""
    return Watched()


@pytest.fixture
def context(browser: Browser, watched: Watched, make_viewer: MakeViewer) -> Iterator[BrowserContext]:
    """A browser without history or cookies; closed before the viewers end, so that it does not complain of that."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    watched.listen(context)
    yield context
    context.close()
    assert watched.unexpected() == []


@pytest.fixture
def page(context: BrowserContext, viewer: RealViewer) -> Page:
    """A tab that is logged in to `viewer`; it has yet to go somewhere."""
    enter(context, viewer)
    return context.new_page()


def enter(context: BrowserContext, viewer: RealViewer) -> None:
    """Give a browser the cookie of a viewer that a test has logged in to."""
    name, _, value = viewer.cookie.partition("=")
    cookie = {"name": name, "value": value.strip('"'), "url": viewer.url, "httpOnly": True, "sameSite": "Strict"}
    context.add_cookies([cookie])  # type: ignore[list-item]
