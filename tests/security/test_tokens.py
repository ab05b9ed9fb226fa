"""Where tokens are, and where they never are; what a web page of another origin gets."""

from __future__ import annotations

import hmac
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from agentd.config import Limits
from agentd.http import auth
from agentd.http.tokens import TokenFile
from benchlib.processes import children
from tests.daemon.harness import RealDaemon, until
from tests.http.conftest import Serve
from tests.http.talk import Api
from tests.webui.conftest import MakeDaemon, MakeViewer


def processes_of(daemon: RealDaemon) -> dict[int, str]:
    """The daemon, its workers and their tasks, with what each is."""
    assert daemon.process is not None
    below = children()
    found = {daemon.process.pid: "daemon"}
    for worker in below.get(daemon.process.pid, []):
        found[worker] = "worker"
        found |= dict.fromkeys(below.get(worker, []), "task")
    return found


def test_no_token_is_in_an_argv_an_environment_a_log_a_metric_or_a_file(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemon = make_daemon(log={"level": "debug"}, tasks={"env_pass": ["*"]}).start()
    _, other = TokenFile(daemon.data_dir).create("ci", "operator", 0.0)
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    task_id = daemon.shell("s", "sleep 60")["task_id"]
    pid = until(lambda: next((each["pid"] for each in daemon.task(task_id)["attempts"]), None), 30)
    environ = Path(f"/proc/{pid}/environ").read_bytes()
    own = next(each.partition(b"=")[2].decode() for each in environ.split(b"\0") if each.startswith(b"AGENTD_TOKEN="))
    for token in ("wrong" * 10, f"{daemon.token}x", other):
        daemon.request("GET", "/status", Authorization=f"Bearer {token}")
        daemon.request("GET", f"/sessions/{token}?q={token}", Authorization=f"Bearer {token}")
    secrets = {"first": daemon.token, "other": other, "task": own}
    seen: dict[str, bytes] = {}
    assert viewer.process is not None
    for pid, what in {**processes_of(daemon), viewer.process.pid: "viewer"}.items():
        seen[f"argv of the {what}"] = Path(f"/proc/{pid}/cmdline").read_bytes()
        if what != "task":
            seen[f"environment of the {what}"] = Path(f"/proc/{pid}/environ").read_bytes()
    for path in ("/metrics", "/status", "/openapi.json", f"/tasks/{task_id}", "/sessions/s", "/sessions/s/events"):
        seen[path] = daemon.request("GET", path).body
    for path in ("/", f"/a/one/s/s/t/{task_id}", "/settings", "/agents"):
        seen[f"page {path}"] = viewer.html(path).encode()
    daemon.request("POST", f"/tasks/{task_id}/cancel")
    daemon.wait(task_id)
    seen["environment of a task"] = environ.replace(own.encode(), b"")
    assert daemon.stop() == 0 and viewer.stop() == 0
    seen |= {"log": daemon.log_text().encode(), "log of the viewer": viewer.log_text().encode()}
    for file in daemon.data_dir.rglob("*"):
        if file.is_file() and file.name != "token":
            seen[str(file)] = file.read_bytes()
    for where, text in seen.items():
        assert [what for what, token in secrets.items() if token.encode() in text] == [], where
    assert len(seen) > 20


async def test_every_known_token_is_compared_whichever_it_is(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time tells nothing if the work is the same: counted, not timed."""
    tokens = TokenFile(tmp_path / "data")
    given = [tokens.create(f"t{n}", "viewer", 0.0)[1] for n in range(5)]
    await api.until_status(200, given[-1])
    compared: list[tuple[Any, Any]] = []
    real = hmac.compare_digest

    def counted(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return real(one, other)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    works = {}
    for name, token in {"first": api.token, "oldest": given[0], "newest": given[-1], "unknown": "x" * 50}.items():
        compared.clear()
        await api.ask("GET", "/status", token=token)
        works[name] = [len(each[0]) for each in compared]
    assert set(map(tuple, works.values())) == {(32,) * 6}


async def test_failures_count_for_an_address_and_for_the_user_of_a_socket(serve: Serve) -> None:
    api = await serve(Limits(auth_failures=3))
    told = {"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::/64", "2001:db8::f:1": "2001:db8::/64"}
    for remote, as_one in {**told, "::ffff:192.0.2.9": "192.0.2.9", "": "user None"}.items():
        request = cast(web.BaseRequest, SimpleNamespace(remote=remote, transport=None))
        assert auth.address_of(request) == as_one
    assert [(await api.ask("GET", "/status", token="x")).status for _ in range(4)] == [401, 401, 401, 429]


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_a_page_of_another_port_or_site_gets_nothing_even_with_the_token(api: Api, site: str) -> None:
    for method, path in (("GET", "/status"), ("GET", "/healthz"), ("POST", "/sessions")):
        answer = await api.ask(method, path, {} if method == "POST" else None, headers={"Sec-Fetch-Site": site})
        assert (answer.status, answer.code) == (403, "forbidden")
    answer = await api.ask("OPTIONS", "/sessions", headers={"Access-Control-Request-Method": "POST"})
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain"])
async def test_what_a_form_of_another_site_can_send_is_never_read(api: Api, kind: str) -> None:
    """These need no preflight, so a page may send them anywhere."""
    for path in ("/sessions", "/tasks", "/tasks/shell"):
        answer = await api.ask("POST", path, b'{"command": "true"}', headers={"Content-Type": kind})
        assert (answer.status, answer.code) == (415, "unsupported_media_type")


@pytest.mark.parametrize("make", ["fifo", "link", "directory", "open"])
async def test_a_token_file_that_is_not_ours_alone_lets_nobody_in_and_holds_nobody_up(
    api: Api, tmp_path: Path, make: str
) -> None:
    tokens = TokenFile(tmp_path / "data")
    _, text = tokens.create("ci", "viewer", 0.0)
    await api.until_status(200, text)
    path = tmp_path / "data" / "tokens.json"
    kept = path.read_bytes()
    path.unlink()
    if make == "fifo":
        os.mkfifo(path, 0o600)
    elif make == "link":
        (tmp_path / "elsewhere").write_bytes(kept)
        (tmp_path / "elsewhere").chmod(0o600)
        path.symlink_to(tmp_path / "elsewhere")
    elif make == "directory":
        path.mkdir()
    else:
        path.write_bytes(kept)
        path.chmod(0o644)
    await api.until_status(401, text)
    assert (await api.ask("GET", "/status")).status == 200


def test_a_link_of_a_login_and_a_cookie_are_for_nobody_else(make_viewer: MakeViewer, tmp_path: Path) -> None:
    viewer = make_viewer({"one": tmp_path / "none"}).start()
    answer = viewer.request("POST", viewer.link.partition(viewer.url)[2])
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie and sys.executable not in cookie
    assert viewer.request("POST", viewer.link.partition(viewer.url)[2]).status == 403
