"""`agentd-web` in a terminal: settings from four places, their errors, links and tokens, the way it stops."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from benchlib.processes import PATIENCE_S, without_settings
from tests.daemon.harness import RealDaemon, until
from webui.main import main

from .conftest import MakeViewer
from .viewer import RealViewer

PROGRAM = [sys.executable, "-m", "webui.main"]


def run(place: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command, in a directory of its own and with no settings but those given; it must end by itself."""
    kept = without_settings() | {"XDG_STATE_HOME": str(place / "state")}
    return subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        cwd=place,
        env=kept | environ,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to start in, and no settings from elsewhere."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--port", "70000"], "port: 70000 is not one; give 0 to 65535"),
        (["--host", "not a host"], "host: 'not a host' is no address"),
        (["--agent", "one"], "--agent 'one': write NAME=URL, or NAME=DIRECTORY"),
        (["--agent", "a b=http://x"], "agent 'a b': a name has 1 to 63"),
        (
            ["--agent", "one=http://u:p@x"],
            "agent 'one': 'http://u:p@x' is not an http, https or unix URL without a user",
        ),
        (["--token-file", "one=f"], "--token-file 'one=f': write NAME=FILE, with the NAME of an --agent"),
        (["--public-url", "example.org"], "public_url: 'example.org' is not an http or https URL"),
        (["--public-url", "https://example.org/a b"], "public_url: the path '/a b' may have letters"),
        (["--public-url", "https://example.org/api"], "public_url: the path '/api' begins as one of the viewer's own"),
        (["--allowed-host", "http://x"], "allowed_hosts: 'http://x' is no name of a host"),
        (["--tls-key", "key.pem"], "tls_key: it needs its certificate too: give tls_cert"),
        (["--login-hours", "0"], "login_hours: must be more than 0"),
        (["--log-level", "loud"], "log_level: 'loud' is not one of debug, info, warning, error"),
        (["--config", "nothing.yaml"], "nothing.yaml: No such file or directory"),
        (["--secret-file", "."], "secret_file ."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_named_with_what_to_write_instead(place: Path, arguments: list[str], says: str) -> None:
    found = CliRunner().invoke(main, [*arguments, "link"])  # what begins as every command does, and ends by itself
    assert found.exit_code == 2
    assert says in found.stderr
    assert not list(place.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("port: many", "port: expected `int | null`, got `str`"),
        ("prot: 1", "unknown field `prot`; there are agents, host, port"),
        ("agents: [{name: one, url: 'http://x', tokn: y}]", "agents[0]: object contains unknown field `tokn`"),
        ("agents: [{name: one, url: 'http://x'}, {name: one, data_dir: y}]", "agents: 'one' is there twice"),
        ("agents: [{name: one}]", "agent 'one': give it either a url or a data_dir"),
        ("a: [", "it is not YAML"),
        ("[1]", "expected `object`, got `array`"),
        ("port: -1", "port: -1 is not one"),
    ],
)
def test_a_wrong_file_is_named_with_the_field(place: Path, text: str, says: str) -> None:
    (place / "webui.yaml").write_text(text)
    found = CliRunner().invoke(main, ["link"])
    assert found.exit_code == 2
    assert says in found.stderr


def test_flags_go_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    (tmp_path / "webui.yaml").write_text("public_url: https://file.example\nlogin_hours: 3\n")
    assert run(tmp_path, "link").stdout.startswith("https://file.example/login/")
    by_environment = run(tmp_path, "link", AGENTD_WEB_PUBLIC_URL="https://environ.example/x/")
    assert by_environment.stdout.startswith("https://environ.example/x/login/")
    flagged = run(tmp_path, "--public-url", "https://flag.example", "link", AGENTD_WEB_PUBLIC_URL="https://e.example")
    assert flagged.stdout.startswith("https://flag.example/login/")


def test_agents_come_from_flags_environment_and_file_and_say_from_where(
    make_viewer: MakeViewer, daemon: RealDaemon, tmp_path: Path
) -> None:
    viewer = make_viewer({"flagged": daemon.data_dir})
    viewer.place.mkdir()
    token = viewer.place / "token"
    token.write_text(daemon.token)
    written = {"agents": [{"name": "written", "url": daemon.agent["url"], "token_file": str(token)}]}
    (viewer.place / "webui.yaml").write_text(json.dumps(written))
    found = viewer.start().log_in().get("/agents")
    assert {each["agent"]: each["status"] for each in found["agents"]} == {"flagged": "fresh", "written": "fresh"}
    assert {row["agent"]: row["source"] for row in found["data"]} == {"flagged": "flag", "written": "file"}


def test_a_secret_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    assert run(tmp_path, "token").returncode == 0
    secret = tmp_path / "state/agentd-web/secret"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert stat.S_IMODE(secret.parent.stat().st_mode) == 0o700
    before = secret.read_text()
    assert len(before) >= 64 and run(tmp_path, "token").returncode == 0 and secret.read_text() == before
    secret.chmod(0o644)
    assert "chmod 600 it" in run(tmp_path, "token").stderr
    secret.chmod(0o600)
    secret.write_text("short")
    assert "remove it for a new one" in run(tmp_path, "token").stderr


def test_a_link_leads_to_the_port_where_the_viewer_runs(viewer: RealViewer) -> None:
    link = viewer.command("link").stdout.decode().strip()
    assert link.startswith(f"{viewer.url}/login/")
    viewer.cookie = ""
    assert viewer.request("POST", urlsplit(link).path).status == 303
    assert viewer.request("POST", urlsplit(link).path).status == 403


def test_without_a_running_viewer_there_is_no_link_and_it_is_said_why(viewer: RealViewer) -> None:
    viewer.kill9()
    found = viewer.command("link", check=False)
    assert found.returncode == 3
    assert b"no viewer runs with" in found.stderr and b"--public-url" in found.stderr


def test_port_0_picks_one_and_the_link_says_which(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir}, "--port", "0").start()
    link = urlsplit(viewer.link)
    assert link.port not in (0, viewer.port)
    viewer.port = link.port or 0
    viewer.log_in()


def test_a_port_that_is_taken_is_an_error_that_says_what_to_change(viewer: RealViewer, tmp_path: Path) -> None:
    found = run(tmp_path, "--port", str(viewer.port))
    assert found.returncode == 2
    assert f"cannot listen on 127.0.0.1:{viewer.port}: Address already in use" in found.stderr
    assert "--port" in found.stderr and "Traceback" not in found.stderr
    assert viewer.command("link").returncode == 0  # the one that failed has left the note of the other alone


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_and_that_is_success(viewer: RealViewer, number: int) -> None:
    assert viewer.process is not None
    viewer.process.send_signal(number)
    assert viewer.process.wait(PATIENCE_S) == 0
    assert not (viewer.place / "secret.running").exists()


def test_a_log_that_nobody_reads_stops_nothing(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir})
    viewer.place.mkdir()
    reading, writing = os.pipe()
    command = [*PROGRAM, "--port", str(viewer.port), "--secret-file", str(viewer.place / "secret"), "--trust-forwarded"]
    with open(viewer.place / "out", "wb") as out:
        viewer.process = subprocess.Popen(
            [*command, "--agent", f"one={daemon.data_dir}"], stdout=out, stderr=writing, cwd=viewer.place
        )
    os.close(writing)
    try:
        until(lambda: b"/login/" in (viewer.place / "out").read_bytes())
        for number in range(700):  # each is a line; a pipe holds some 500 of them
            viewer.request("POST", f"/login/{number}", X_Forwarded_For=f"10.0.{number // 250}.{number % 250}")
        assert viewer.request("GET", "/healthz").status == 200
        assert viewer.stop() == 0
    finally:
        os.close(reading)


def test_the_console_form_is_for_people(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir}, "--log-format", "console").start()
    assert viewer.stop() == 0
    assert "viewer.ready" in viewer.log_text() and not viewer.log_text().startswith("{")


def test_a_first_start_without_any_agent_says_what_to_do(make_viewer: MakeViewer) -> None:
    viewer = make_viewer({}).start()
    assert b"Start one with <code>agentd serve</code>" in viewer.request("GET", "/login").body


def test_a_viewer_that_others_can_reach_without_tls_says_so(make_viewer: MakeViewer, daemon: RealDaemon) -> None:
    viewer = make_viewer({"one": daemon.data_dir}, "--host", "0.0.0.0").start()
    assert viewer.link.startswith(f"http://127.0.0.1:{viewer.port}/login/")
    assert "viewer.exposed" in viewer.log_text()
    assert viewer.request("GET", "/healthz", Host="0.0.0.0").status == 403  # browsers let any page reach that name
