"""Daemons, viewers and a browser, all real; each is ended whatever happens."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from benchlib.daemon import open_streams
from tests.daemon.harness import RealDaemon, until

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
PATIENCE_MS = 60_000

#: For browsers that are to see what good agents tell, however slow a busy machine makes them. Without it pages wait for
#: none of them, and scripts fill in what comes later.
PATIENT = {"Prefer": "wait=10"}

#: Lets a test say whether the tab is seen: headless tabs always are.
VISIBILITY = """
let state = "visible";
Object.defineProperty(document, "visibilityState", { get: () => state });
Object.defineProperty(document, "hidden", { get: () => state === "hidden" });
window.setVisibility = (next) => { state = next; document.dispatchEvent(new Event("visibilitychange")); };
"""

MakeDaemon = Callable[..., RealDaemon]
MakeViewer = Callable[..., RealViewer]
expect.set_options(timeout=PATIENCE_MS)


@contextmanager
def daemons(place: Path) -> Iterator[MakeDaemon]:
    """Makes daemons on directories under a place, by name; the same name is the same directory."""
    made: list[RealDaemon] = []

    def make(name: str = "data", **settings: object) -> RealDaemon:
        made.append(RealDaemon(place / name, **settings))
        return made[-1]

    try:
        yield make
    finally:
        for daemon in made:
            daemon.end()


@contextmanager
def viewers(place: Path) -> Iterator[MakeViewer]:
    """Makes viewers; `make_viewer({"name": target}, *flags)`."""
    made: list[RealViewer] = []

    def make(agents: dict[str, str | Path], *flags: str, name: str = "viewer") -> RealViewer:
        made.append(RealViewer(place / name, agents, *flags))
        return made[-1]

    try:
        yield make
    finally:
        for viewer in made:
            viewer.end()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[MakeDaemon]:
    """Makes daemons of the test's own."""
    with daemons(tmp_path) as make:
        yield make


@pytest.fixture
def make_viewer(tmp_path: Path) -> Iterator[MakeViewer]:
    """Makes viewers of the test's own."""
    with viewers(tmp_path) as make:
        yield make


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealDaemon]:
    with daemons(tmp_path_factory.mktemp("shared")) as make:
        yield make(limits={"auth_failures": 1_000_000}).start()  # wrong tokens of one test are not held against others


@pytest.fixture(scope="session")
def shared_viewer(tmp_path_factory: pytest.TempPathFactory, shared_daemon: RealDaemon) -> Iterator[RealViewer]:
    with viewers(tmp_path_factory.mktemp("shared")) as make:
        yield make({"one": shared_daemon.data_dir}).start().log_in()


@pytest.fixture
def daemon(shared_daemon: RealDaemon) -> RealDaemon:
    """A running daemon without sessions. It is the same in all tests, as starting one takes longer than most of them:
    what a test has left in it goes before the next, and one that a test has killed is started again.
    """
    if shared_daemon.ended():
        shared_daemon.start()
    while found := shared_daemon.get("/sessions?archived=any&limit=1000")["data"]:
        for session in found:
            shared_daemon.request("DELETE", f"/sessions/{session['session_id']}?force=true")
    return shared_daemon


@pytest.fixture
def viewer(shared_viewer: RealViewer, daemon: RealDaemon) -> Iterator[RealViewer]:
    """A running viewer over `daemon`, named `one`, and logged in; the same in all tests, as `daemon` is."""
    if shared_viewer.ended():
        shared_viewer.start()
    cookie = shared_viewer.cookie
    until(lambda: not shared_viewer.get("/")["partial"])  # a daemon that was started again is at another port
    yield shared_viewer
    shared_viewer.cookie = cookie


@pytest.fixture
def own_viewer(make_viewer: MakeViewer, daemon: RealDaemon) -> RealViewer:
    """As `viewer`, and of this test alone: for one that looks at its memory or its log, or ends it."""
    return make_viewer({"one": daemon.data_dir}).start().log_in()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, one for all tests of a process. Without it they are skipped, unless TEST_BROWSER=required."""
    if CHROMIUM is None:
        if os.environ.get("TEST_BROWSER") == "required":
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
    """A patient tab that is logged in to `viewer`; it has yet to go somewhere."""
    enter(context, viewer)
    page = context.new_page()
    page.set_extra_http_headers(PATIENT)
    return page


def enter(context: BrowserContext, viewer: RealViewer) -> None:
    """Give a browser the cookie of a viewer that a test has logged in to."""
    name, _, value = viewer.cookie.partition("=")
    cookie = {"name": name, "value": value.strip('"'), "url": viewer.url, "httpOnly": True, "sameSite": "Strict"}
    context.add_cookies([cookie])  # type: ignore[list-item]


def show(page: Page, state: str) -> None:
    """Make a tab with VISIBILITY `hidden` or `visible`."""
    page.evaluate("(state) => setVisibility(state)", state)


def streams(daemon: RealDaemon) -> int:
    """Event streams that are open at a daemon."""
    return open_streams(daemon.request("GET", "/metrics").body.decode())
