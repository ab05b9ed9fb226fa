"""The daemon and the viewer side by side, as scripts/serve runs them: real processes, a real terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect

from benchlib.processes import PATIENCE_S, alive, argv, children, until, without_settings

ROOT = Path(__file__).parents[2]
LINK = re.compile(rb"http://127\.0\.0\.1:\d+/login/[\w-]+")


class Serving:
    """`scripts/serve` without what it installs, on a terminal of its own or none."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data_dir = place / "data"
        self.out = place / "out"
        self.environ = without_settings() | {"XDG_STATE_HOME": str(place / "state"), "AGENTD_WEB_PORT": "0"}
        self.process: subprocess.Popen[bytes] | None = None
        self.master = -1

    def start(self, *arguments: str, terminal: bool = False) -> Serving:
        command = [sys.executable, str(ROOT / "scripts/side_by_side.py"), "--data-dir", str(self.data_dir)]
        with open(self.out, "wb") as out:
            slave: int | None = None
            if terminal:
                self.master, slave = pty.openpty()
            self.process = subprocess.Popen(
                [*command, "--port", "0", *arguments],
                stdin=slave if terminal else subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=self.environ,
                cwd=self.place,
                start_new_session=True,
                preexec_fn=_take_terminal if terminal else None,
            )
            if slave is not None:
                os.close(slave)
        return self

    def until_ready(self) -> Serving:
        until(lambda: self.process is not None and (self.process.poll() is not None or LINK.search(self.text())))
        assert LINK.search(self.text()), self.text()
        return self

    def text(self) -> bytes:
        return self.out.read_bytes()

    def code(self) -> int:
        assert self.process is not None
        return self.process.wait(PATIENCE_S)

    def children(self) -> dict[str, int]:
        """The two processes, by program."""
        assert self.process is not None
        return {os.path.basename(argv(pid)[1]): pid for pid in children().get(self.process.pid, [])}

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            for pid in [*self.children().values(), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        if self.master >= 0:
            os.close(self.master)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    serving = Serving(tmp_path)
    yield serving
    serving.end()


def test_the_one_link_that_is_printed_leads_to_a_form_that_starts_a_task(
    serving: Serving, context: BrowserContext
) -> None:
    serving.start().until_ready()
    [link] = LINK.findall(serving.text())
    page = context.new_page()
    page.goto(link.decode())
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    page.get_by_role("link", name="New task").first.click()
    page.get_by_role("textbox", name="Command").fill("echo hello; sleep 100")
    page.get_by_label("Session").fill("build")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#main [data-state=running]").first).to_be_visible()
    expect(page.locator("#main")).to_contain_text("hello")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#main [data-state=cancelled]").first).to_be_visible()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_stops_both_and_that_is_success(serving: Serving, number: int) -> None:
    serving.start().until_ready()
    pids = serving.children()
    assert set(pids) == {"agentd", "agentd-web"}
    assert serving.process is not None
    serving.process.send_signal(number)
    assert serving.code() == 0
    assert not any(alive(pid) for pid in pids.values())
    assert b"agent.stopped" in serving.text() and b"viewer.stopping" in serving.text()


def test_ctrl_c_on_a_terminal_stops_both_once(serving: Serving) -> None:
    serving.start(terminal=True).until_ready()
    pids = serving.children()
    os.write(serving.master, b"\x03")
    assert serving.code() == 0, serving.text()
    assert not any(alive(pid) for pid in pids.values())
    assert serving.text().count(b"agent.draining") == 1


@pytest.mark.parametrize(("killed", "other"), [("agentd", "agentd-web"), ("agentd-web", "agentd")])
def test_when_one_dies_the_other_is_stopped_and_it_is_said(serving: Serving, killed: str, other: str) -> None:
    serving.start().until_ready()
    pids = serving.children()
    os.kill(pids[killed], signal.SIGKILL)
    assert serving.code() == 1
    assert f"{killed} ended with SIGKILL; stopping {other}".encode() in serving.text()
    assert not alive(pids[other])


def test_a_port_that_is_taken_stops_both_and_says_which_setting_to_change(serving: Serving, tmp_path: Path) -> None:
    first = serving.start().until_ready()
    port = urlsplit(LINK.findall(first.text())[0].decode()).port
    second = Serving(tmp_path / "second")
    second.place.mkdir()
    second.environ["AGENTD_WEB_PORT"] = str(port)
    try:
        assert second.start().code() == 2
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use".encode() in second.text()
        assert b"--port" in second.text()
        assert b"agentd-web ended with exit code 2; stopping agentd" in second.text()
    finally:
        second.end()


def test_a_daemon_that_cannot_start_starts_no_viewer(serving: Serving) -> None:
    assert serving.start("--workers-max", "-1").code() == 2
    assert b"agentd-web" not in serving.text()
    assert b"workers" in serving.text()
