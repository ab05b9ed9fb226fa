"""Behind a reverse proxy with a path prefix, which it keeps or takes off: links, forms, cookies, streams, files."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from playwright.sync_api import BrowserContext, expect
from yarl import URL

from benchlib.processes import PATIENCE_S, held_port
from tests.daemon.harness import RealDaemon

from .conftest import MakeViewer
from .viewer import RealViewer

PREFIX = "/tools/agentd"
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Proxy:
    """A reverse proxy for what is under PREFIX, in a thread of its own; whatever else is asked for, it notes."""

    def __init__(self, port: int, target: str, keeps: bool) -> None:
        self._port = port
        self._target = target
        self._keeps = keeps
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.outside: list[str] = []

    def __enter__(self) -> Proxy:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    async def _serve(self) -> None:
        async with aiohttp.ClientSession(auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()) as self._client:
            runner = web.ServerRunner(web.Server(self._pass_on, handler_cancellation=True), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self._port).start()
            self._ready.set()
            await self._stopped.wait()
            await runner.cleanup()

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if not path.startswith(PREFIX):
            self.outside.append(path)
            return web.Response(status=404)
        if not self._keeps:
            path = path.removeprefix(PREFIX)
        url = URL(self._target + path, encoded=True)
        headers = {name: value for name, value in request.headers.items() if name.lower() not in {*_HOP, "host"}}
        body = await request.read()
        sent = self._client.request(request.method, url, headers=headers, data=body, allow_redirects=False)
        async with sent as answer:
            response = web.StreamResponse(status=answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in _HOP:
                    response.headers.add(name, value)
            await response.prepare(request)
            with contextlib.suppress(aiohttp.ClientError, ConnectionError):
                async for block in answer.content.iter_any():
                    await response.write(block)
            return response


Behind = Callable[[bool], tuple[RealViewer, Proxy]]


@pytest.fixture
def behind(make_viewer: MakeViewer, daemon: RealDaemon) -> Iterator[Behind]:
    """A running viewer behind a proxy that keeps the prefix or takes it off."""
    with contextlib.ExitStack() as stack:

        def make(keeps: bool) -> tuple[RealViewer, Proxy]:
            port: int = stack.enter_context(held_port()).getsockname()[1]
            viewer = make_viewer({"one": daemon.data_dir}, "--public-url", f"http://127.0.0.1:{port}{PREFIX}/").start()
            return viewer, stack.enter_context(Proxy(port, viewer.url, keeps))

        yield make


both = pytest.mark.parametrize("keeps", [True, False], ids=["kept", "taken off"])


@both
def test_all_of_it_works_under_a_prefix(
    behind: Behind, daemon: RealDaemon, context: BrowserContext, keeps: bool
) -> None:
    viewer, proxy = behind(keeps)
    assert urlsplit(viewer.link).path.startswith(f"{PREFIX}/login/")
    page = context.new_page()
    page.goto(viewer.link)
    expect(page.get_by_role("heading", name="Sessions")).to_be_visible()
    assert urlsplit(page.url).path == f"{PREFIX}/"
    expect(page.locator("nav [aria-current=page]")).to_have_text("Sessions")
    [cookie] = context.cookies()
    assert cookie["path"] == PREFIX
    daemon.shell("build", "sleep 100")
    row = page.locator("#row-one-build")
    expect(row.locator("[data-state=working]")).to_be_visible()  # told by the stream, behind the proxy too
    row.get_by_role("link", name="build").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("build")
    for name in ("History", "Queue", "Workers", "Agents", "Sessions"):
        page.get_by_role("navigation", name="Pages").get_by_role("link", name=name).click()
        expect(page.locator("nav [aria-current=page]")).to_have_text(name)
        assert urlsplit(page.url).path.startswith(PREFIX)
    assert proxy.outside == []


@both
def test_who_is_turned_away_comes_back_to_where_they_wanted(
    behind: Behind, daemon: RealDaemon, context: BrowserContext, keeps: bool
) -> None:
    viewer, proxy = behind(keeps)
    page = context.new_page()
    page.goto(viewer.link.partition("/login/")[0] + "/history?state=failed")
    assert urlsplit(page.url).path == f"{PREFIX}/login"
    page.get_by_label("Token").fill(daemon.token)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("History")
    assert (urlsplit(page.url).path, urlsplit(page.url).query) == (f"{PREFIX}/history", "state=failed")
    assert proxy.outside == []


@both
def test_the_api_works_under_a_prefix_and_names_no_place_outside_it(
    behind: Behind, daemon: RealDaemon, keeps: bool
) -> None:
    viewer, _ = behind(keeps)
    at = PREFIX if keeps else ""
    bearer = {"Authorization": f"Bearer {viewer.command('token', '--role', 'operator').stdout.decode().strip()}"}
    body = b'{"kind": "shell", "spec": {"command": "true"}, "session_id": "s"}'
    made = viewer.request("POST", f"{at}/api/agents/one/tasks", body, Content_Type="application/json", **bearer)
    assert made.status == 201
    assert made.headers["location"].startswith(f"{PREFIX}/api/agents/one/")
    missing = viewer.request("GET", f"{at}/api/agents/two/status", body=None, **bearer)
    assert missing.status == 404 and missing.headers["content-type"].startswith("application/problem+json")
    assert viewer.request("GET", PREFIX, body=None, **bearer).headers["location"] == f"{PREFIX}/"


def test_forms_of_the_public_address_are_its_own_and_those_of_its_neighbours_are_not(
    behind: Behind, daemon: RealDaemon
) -> None:
    viewer, _ = behind(False)
    path = urlsplit(viewer.link).path.removeprefix(PREFIX)
    public = f"http://{urlsplit(viewer.link).netloc}"
    assert viewer.request("POST", path, Origin="https://127.0.0.1.evil.example").status == 403
    assert viewer.request("POST", path, Origin=public).status == 303
