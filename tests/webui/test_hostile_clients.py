"""Clients that mean harm: forms that are none, forms that never end, and guesses all at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from webui import forms, login
from webui.app import Viewer
from webui.connections import Runner
from webui.failures import MAX_FAILURES
from webui.settings import AgentSetting, Settings

from .bad_agents import BadAgent
from .test_login import FORM
from .viewer import RealViewer

PART = b"--x\r\nContent-Disposition: form-data; name=token\r\n"
UPLOAD = "multipart/form-data; boundary=x"
NO_FORMS = {
    "not UTF-8": (FORM, b"agent=\xff&token=a"),
    "no such charset": (FORM + "; charset=bogus", b"agent=one&token=a"),
    "a charset that is no charset": (FORM + "; charset=rot13", b"agent=one&token=a"),
    "without a boundary": ("multipart/form-data", b"--x\r\n"),
    "without a name": (UPLOAD, b"--x\r\nContent-Disposition: \xff\r\n\r\nabc"),
    "parts in parts": (UPLOAD, b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n"),
    "an encoding nobody knows": (UPLOAD, PART + b"Content-Transfer-Encoding: wat\r\n\r\na\r\n--x--\r\n"),
    "a part in no charset": (UPLOAD, PART + b"Content-Type: text/plain; charset=bogus\r\n\r\n\xff\r\n--x--\r\n"),
    "heads without end": (UPLOAD, PART + b"X: " + b"a" * 100_000 + b"\r\n\r\n"),
}


@pytest.mark.parametrize("path", ["/login", "/logout", "/sessions/new"])
@pytest.mark.parametrize(("kind", "body"), NO_FORMS.values(), ids=NO_FORMS)
def test_a_form_that_is_none_is_refused_and_is_no_error_of_the_viewers(
    viewer: RealViewer, path: str, kind: str, body: bytes
) -> None:
    answer = viewer.request("POST", path, body, Content_Type=kind, Accept="application/json")
    assert answer.status in (400, 403, 415), answer.body
    assert answer.json["code"] in ("malformed", "csrf", "unsupported_media_type")


async def test_a_login_form_that_never_ends_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "FORM_S", 0.05)
    viewer = Viewer(Settings(secret_file=tmp_path / "secret", data_dirs=(str(tmp_path),)), {}, b"s" * 32)
    runner = Runner(viewer.application(), viewer.refused)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        reader, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(f"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {FORM}\r\n".encode())
        writer.write(b"Content-Length: 100\r\n\r\nagent=one")
        async with asyncio.timeout(60):
            assert b" 408 " in await reader.readline()
        writer.close()
    finally:
        await runner.cleanup()


async def test_guesses_all_at_once_are_not_more_than_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "ASK_S", 120.0)  # all of them have come before the first is given up
    with BadAgent("one") as agent:
        settings = Settings(secret_file=tmp_path / "secret", agents=(AgentSetting(name="one", url=agent.url),))
        viewer = Viewer(settings, {}, b"s" * 32)
        runner = Runner(viewer.application(), viewer.refused)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/login"

            async def guess(token: str) -> int:
                async with client.post(url, data={"agent": "one", "token": token}) as answer:
                    return answer.status

            async with aiohttp.ClientSession() as client, asyncio.timeout(100):
                agent.mode = "silent"
                answers = [asyncio.create_task(guess(f"guess-{number}")) for number in range(30)]
                while sum(answer.done() for answer in answers) < 30 - MAX_FAILURES:
                    await asyncio.wait([each for each in answers if not each.done()], return_when="FIRST_COMPLETED")
                agent.mode = "token_rejected"
                assert sorted(await asyncio.gather(*answers)) == [403] * MAX_FAILURES + [429] * 20
                assert len(agent.requests) == MAX_FAILURES
                assert await guess("another") == 429
        finally:
            await runner.cleanup()
