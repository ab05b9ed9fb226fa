"""Text of attackers where it is shown, logged, sent or packed."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import structlog

import agentd.log
import webui.log
from agentd.config import Log
from benchlib.processes import peak_mib
from tests.daemon.harness import until
from tests.http.talk import Api
from tests.webui.conftest import MakeDaemon, MakeViewer
from tests.webui.odd_agent import OddAgent

#: Clears the screen, sets its title, draws, turns the direction of writing, and pretends to be the next line.
EVIL = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\r\n2026-01-01T00:00:00Z [info ] forged"


def daemons_log(fd: int) -> None:
    agentd.log.configure(Log(format="console"), fd)


def viewers_log(fd: int) -> None:
    webui.log.configure("info", "console", fd)


@pytest.mark.parametrize("configure", [daemons_log, viewers_log])
def test_no_line_of_a_log_on_a_terminal_steers_it_or_is_forged(configure: Callable[[int], None]) -> None:
    read, write = os.pipe()
    try:
        configure(write)
        try:
            raise ValueError(EVIL)
        except ValueError as error:
            structlog.get_logger().error(f"http.failed {EVIL}", detail=EVIL, exc_info=error)
        logging.getLogger("library").error("said %s", EVIL)
        os.close(write)
        with open(read, encoding="utf-8", closefd=False) as file:
            lines = file.read().split("\n")
    finally:
        os.close(read)
        structlog.reset_defaults()
        logging.getLogger().handlers[:] = []
    assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set("".join(lines))
    assert not any(line.startswith("2026-01-01") for line in lines)


def test_every_line_of_the_log_is_one_json_object_whatever_is_asked(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(log={"level": "debug", "format": "json"}).start()
    evil = quote(EVIL)
    for path in (f"/{evil}", f"/sessions/{evil}", f"/tasks/{evil}", f"/sessions?q={evil}", f"/sessions?{evil}=1"):
        assert daemon.request("GET", path).status < 500
    daemon.request("POST", "/sessions", {"session_id": "s", "title": EVIL, "labels": {"a": EVIL}})
    daemon.wait(daemon.shell("s", "exit 3", name=EVIL)["task_id"])
    daemon.request("PUT", f"/sessions/s/artifacts/{quote('a b')}", b"x", X_Request_Id="x" * 200)
    assert daemon.stop() == 0
    for line in daemon.log_text().splitlines():
        assert isinstance(json.loads(line), dict)
        assert "forged" not in line.partition('"event"')[0]


def test_no_command_of_the_command_line_lets_a_name_steer_the_terminal(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    daemon.request("POST", "/sessions", {"session_id": "s", "title": EVIL, "labels": {"a": EVIL}})
    task = daemon.shell("s", "exit 3", name=EVIL[:200], labels={"k": EVIL})
    lost = daemon.shell("s", "true", spec={"command": "true", "cwd": EVIL})
    daemon.wait(task["task_id"])
    daemon.wait(lost["task_id"])
    program = [sys.executable, "-m", "agentd.cli.main", "--data-dir", str(daemon.data_dir)]
    for arguments in (
        ["ls"],
        ["show", "s"],
        ["show", lost["task_id"]],
        ["sessions", "ls"],
        ["events", "s"],
        ["wait", lost["task_id"]],
        ["show", EVIL],
    ):
        done = subprocess.run([*program, *arguments], capture_output=True, check=False, timeout=60)
        for said in (done.stdout, done.stderr):
            text = said.decode()
            assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text), (arguments, text)
            assert not any(line.startswith("2026-01-01") for line in text.split("\n")), arguments


def test_no_command_lets_what_a_task_tells_or_asks_or_a_workflow_steer_the_terminal(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    task_id = daemon.shell("s", "sleep 60", artifacts=["*"])["task_id"]
    until(lambda: daemon.task(task_id)["attempts"], 60)
    told = {"phase": EVIL, "message": EVIL, "progress": 1, "usage": {"cost_usd": 1}}
    assert daemon.request("POST", f"/tasks/{task_id}/progress", told).status == 200
    asked = {"ask_id": "q", "prompt": EVIL, "options": [EVIL, "no"]}
    assert daemon.request("POST", f"/tasks/{task_id}/ask", asked).status == 202
    said = json.dumps(EVIL.replace("\r\n", " "))  # which is YAML, too
    step = f"{{id: a, name: {said}, run: 'printf %s {quote(EVIL)}', env: {{A: {said}}}}}"
    flow = f"name: {said}\nsteps: [{step}, {{id: b, needs: [a], run: {said}}}]"
    assert daemon.request("POST", "/sessions", {"session_id": "runs"}).status == 201
    run = daemon.request("POST", "/sessions/runs/workflow", {"source": flow})
    assert run.status == 201, run.body
    run_id = run.json["run_id"]
    until(lambda: daemon.get(f"/workflows/{run_id}")["state"] != "running", 60)
    wrong = daemon.data_dir.parent / "wrong.yaml"
    wrong.write_text(f"{said}: 1\nsteps: [{{id: {said}, run: x}}, {{id: a, needs: [{said}], if: {said}}}]")
    program = [sys.executable, "-m", "agentd.cli.main", "--data-dir", str(daemon.data_dir)]
    for arguments in (
        ["ls"],
        ["ls", "--awaiting"],
        ["show", task_id],
        ["show", "s"],
        ["answer", task_id, EVIL + "?"],
        ["answer", task_id],
        ["events", "s"],
        ["queue"],
        ["workflow", "list", "runs"],
        ["workflow", "show", run_id],
        ["workflow", "validate", str(wrong)],
        ["workflow", "show", EVIL],
    ):
        done = subprocess.run([*program, *arguments], capture_output=True, check=False, timeout=60)
        text = (done.stdout + done.stderr).decode()
        assert text, arguments
        assert not {"\x1b", "\x07", "\x9b", "\u202e", "\r"} & set(text), (arguments, text)
        assert not any(line.startswith("2026-01-01") for line in text.split("\n")), (arguments, text)


async def test_nothing_that_a_client_says_becomes_a_header_or_a_second_answer(api: Api) -> None:
    evil = "a%0d%0aX-Evil:%201%0d%0a%0d%0aHTTP/1.1%20200%20OK"
    await api.ask("POST", "/sessions", {"session_id": "s"})
    for method, path, body in (
        ("PUT", f"/sessions/s/artifacts/{evil}", b"x"),
        ("GET", f"/sessions/s/artifacts/{evil}", None),
        ("GET", f"/sessions/{evil}", None),
        ("GET", f"/{evil}?{evil}", None),
        ("POST", "/sessions", {"session_id": "s\r\nX-Evil: 1"}),
    ):
        answer = await api.ask(method, path, body)
        assert "X-Evil" not in answer.headers and 400 <= answer.status < 500, (method, path, answer.status)


FRAMINGS = (
    b"Content-Length: 4\r\nTransfer-Encoding: chunked",
    b"Content-Length: 4\r\nContent-Length: 60",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding : chunked",
    b"Content-Length: +4",
    b"Content-Length: 4, 60",
)


def test_no_body_is_taken_for_a_second_request(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    head = b"Host: localhost\r\nAuthorization: Bearer %b\r\n" % daemon.token.encode()
    hidden = b"POST /sessions HTTP/1.1\r\n%bContent-Type: application/json\r\nContent-Length: 21\r\n\r\n" % head
    hidden += b'{"session_id":"evil"}'
    place = urlsplit(daemon.agent["url"])
    for framing in FRAMINGS:
        with socket.create_connection((place.hostname, place.port), timeout=30) as client:
            client.sendall(b"POST /admin/check HTTP/1.1\r\n%b%b\r\n\r\n0\r\n\r\n%b" % (head, framing, hidden))
            said = b""
            while block := client.recv(65536):
                said += block
        assert said[:12] in (b"HTTP/1.1 400", b"HTTP/1.0 400"), (framing, said[:200])
        assert said.count(b"HTTP/1.") == 1, (framing, said)
    assert daemon.get("/sessions")["data"] == []


@cache
def bomb(how: str) -> bytes:
    """192 MiB of nothing, packed to less than one."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31 if how == "gzip" else 15)
    nothing = bytes(1 << 20)
    return b"".join(packer.compress(nothing) for _ in range(192)) + packer.flush()


def test_nothing_packed_is_unpacked_by_the_daemon(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(limits={"body_bytes": "8MiB"}).start()
    assert daemon.process is not None
    before = peak_mib(daemon.process.pid)
    daemon.request("POST", "/sessions", {"session_id": "s"})
    for method, path in (("POST", "/sessions"), ("PUT", "/sessions/s/artifacts/a"), ("POST", "/admin/check")):
        for how in ("gzip", "deflate"):
            answer = daemon.request(method, path, bomb(how), Content_Encoding=how, Content_Type="application/json")
            assert answer.status == 415, (path, answer.body)
    assert peak_mib(daemon.process.pid) < before + 64


def packed_answer(how: str) -> bytes:
    body = bomb(how)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: {how}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_a_packed_answer_of_an_agent_is_not_unpacked_by_the_viewer(
    make_viewer: MakeViewer, tmp_path: Path, how: str
) -> None:
    with OddAgent(packed_answer(how)) as agent:
        viewer = make_viewer({"odd": agent.url}, *agent.flags(tmp_path)).start().log_in()
        before = viewer.peak_mib
        for path in ("/", "/api/sessions", "/api/agents/odd/sessions"):
            assert viewer.request("GET", path, Accept="application/json").status in (200, 502)
        assert agent.requests
        assert viewer.peak_mib < before + 64


#: Runs a program and tells its peak memory in KiB; a process begins with that of the one that forked it.
MEASURED = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


@pytest.mark.parametrize("how", ["gzip", "deflate"])
def test_a_packed_answer_is_unpacked_by_a_client_no_further_than_its_bound(how: str) -> None:
    with OddAgent(packed_answer(how)) as agent:
        program = [sys.executable, "-c", MEASURED, sys.executable, "-m", "agentd.cli.main", "--url", agent.url, "ls"]
        done = subprocess.run(program, capture_output=True, check=False, env={**os.environ, "AGENTD_TOKEN": "x"})
        assert done.returncode == 1 and b"answered more than" in done.stderr, done
        assert int(done.stdout) >> 10 < 200  # 64 MiB of an answer, and a Python
