"""A real `agentd-web` in a process of its own, for tests that look at it, and kill it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchlib.processes import PATIENCE_S, held_port, peak_mib, until, without_settings
from tests.daemon.harness import Answer

#: A form's token, in a page of the viewer.
_CSRF = re.compile(r'name="csrf-token" content="([0-9a-f]+)"')


def token_flags(place: Path, name: str, token: str = "a-token") -> tuple[str, str]:
    """Flags that give a viewer a token for an agent."""
    file = place / f"{name}.token"
    file.write_text(token)
    return "--token-file", f"{name}={file}"


class RealViewer:
    """`agentd-web` on a port of its own, which it keeps when it is started again.

    Args:
        place: a directory for its secret, its log and webui.yaml.
        agents: by name, a URL or a data directory.
        flags: more of its flags.
    """

    def __init__(self, place: Path, agents: dict[str, str | Path], *flags: str) -> None:
        self.place = place
        self.agents = agents
        self.flags = flags
        self._held = held_port()
        self.port: int = self._held.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.cookie = ""
        self.prefer = "wait=30"  #: of all requests: a busy machine makes good agents slow; nothing is as a browser asks
        self.environ: dict[str, str] = {}  #: beside what tests have of it
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> RealViewer:
        """Start it, and wait until it has printed its link."""
        self.place.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "webui.main", "--port", str(self.port)]
        command += ["--secret-file", str(self.place / "secret"), "--data-dir", str(self.place / "none")]
        for name, target in self.agents.items():
            command += ["--agent", f"{name}={target}"]
        environ = without_settings() | self.environ
        with open(self.place / "out", "wb") as out, open(self.place / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.flags], stdout=out, stderr=log, env=environ, cwd=self.place
            )
        until(lambda: self.ended() or b"/login/" in (self.place / "out").read_bytes())
        assert not self.ended(), self.log_text()
        return self

    @property
    def link(self) -> str:
        """The one-time link that the latest start printed."""
        return (self.place / "out").read_text().split()[-1]

    @property
    def peak_mib(self) -> int:
        """The most memory that it ever had."""
        assert self.process is not None
        return int(peak_mib(self.process.pid))

    def log_text(self) -> str:
        return (self.place / "log").read_text()

    def ended(self) -> bool:
        assert self.process is not None
        return self.process.poll() is not None

    def log_in(self) -> RealViewer:
        """Use the link up; further requests carry the cookie."""
        answer = self.request("POST", urlsplit(self.link).path)
        assert answer.status == 303, answer.body
        self.cookie = answer.headers["set-cookie"].split(";")[0]
        return self

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if self.cookie:
                sent.setdefault("Cookie", self.cookie)
            if self.prefer:
                sent.setdefault("Prefer", self.prefer)
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Any:
        """A page as JSON."""
        answer = self.request("GET", path, None, **{"Accept": "application/json", **headers})
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def html(self, path: str) -> str:
        """A page."""
        answer = self.request("GET", path, Accept="text/html")
        assert answer.status == 200, answer.body
        return answer.body.decode()

    @property
    def csrf(self) -> str:
        """The token that forms of this login carry."""
        match = _CSRF.search(self.html("/agents"))
        assert match is not None
        return match[1]

    def post(self, path: str, **fields: str) -> Answer:
        """Send a form as the viewer's own pages do."""
        form = urlencode({"csrf": self.csrf, **fields}).encode()
        return self.request("POST", path, form, Content_Type="application/x-www-form-urlencoded", Accept="text/html")

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Another `agentd-web` by the same secret: `link`, `token`."""
        program = [sys.executable, "-m", "webui.main", "--secret-file", str(self.place / "secret")]
        return subprocess.run(
            [*program, *arguments],
            capture_output=True,
            check=check,
            timeout=PATIENCE_S,
            env=without_settings(),
            cwd=self.place,
        )

    def kill9(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, within_s: float = PATIENCE_S) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def end(self) -> None:
        """Whatever the test did: it runs no more."""
        if self.process is not None and not self.ended():
            self.kill9()
        self._held.close()
