"""Artifacts over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from agentd.config import Limits

from .conftest import Serve
from .talk import Api, until


@pytest.fixture
async def session(api: Api) -> str:
    """A session's path."""
    await api.ask("POST", "/sessions", {"session_id": "s"})
    return "/sessions/s"


async def test_a_file_goes_in_and_comes_out(api: Api, session: str) -> None:
    content = bytes(range(256)) * 4000
    put = await api.ask("PUT", f"{session}/artifacts/reports/a%20b.bin", content, headers={"Content-Type": "image/png"})
    assert put.status == 201
    assert put.headers["Location"] == f"{session}/artifacts/reports/a%20b.bin"
    assert (put.json["path"], put.json["size"]) == ("reports/a b.bin", len(content))
    got = await api.ask("GET", f"{session}/artifacts/reports/a%20b.bin")
    assert (got.status, got.body) == (200, content)
    assert got.headers["Content-Type"] == "application/octet-stream"
    assert got.headers["Content-Disposition"] == "attachment"
    same = await api.ask(
        "GET", f"{session}/artifacts/reports/a%20b.bin", headers={"If-None-Match": got.headers["ETag"]}
    )
    assert same.status == 304
    head = await api.ask("HEAD", f"{session}/artifacts/reports/a%20b.bin")
    assert (head.body, head.headers["Content-Length"]) == (b"", str(len(content)))
    assert (await api.ask("DELETE", f"{session}/artifacts/reports/a%20b.bin")).status == 204
    gone = await api.ask("GET", f"{session}/artifacts/reports/a%20b.bin")
    assert (gone.status, gone.code) == (404, "artifact_not_found")


async def test_they_are_listed_by_path_in_pages(api: Api, session: str) -> None:
    assert (await api.get(f"{session}/artifacts"))["data"] == []
    for name in ("b", "a/2", "a/1"):
        await api.ask("PUT", f"{session}/artifacts/{name}", b"x")
    page = await api.get(f"{session}/artifacts?limit=2")
    assert [each["path"] for each in page["data"]] == ["a/1", "a/2"]
    page = await api.get(f"{session}/artifacts?limit=2&cursor={page['next']}")
    assert ([each["path"] for each in page["data"]], page["next"]) == (["b"], None)


@pytest.mark.parametrize(
    "path", ["../metadata.json", "..%2fmetadata.json", "%2fetc%2fpasswd", "a/../../x", "%00", "a%0ab", "./a", ""]
)
async def test_no_path_leads_out(api: Api, session: str, path: str, tmp_path: Path) -> None:
    before = sorted(str(each) for each in (tmp_path / "data").rglob("*.json"))
    for method in ("GET", "PUT", "DELETE"):
        body = b"x" if method == "PUT" else None
        answer = await api.ask(method, f"{session}/artifacts/{path}", body)
        assert (answer.status, answer.code) == (422, "invalid"), method
    assert sorted(str(each) for each in (tmp_path / "data").rglob("*.json")) == before


async def test_a_file_over_the_limit_is_refused_and_leaves_nothing(serve: Serve, tmp_path: Path) -> None:
    api = await serve(Limits(artifact_bytes=1000))
    await api.ask("POST", "/sessions", {"session_id": "s"})
    assert (await api.ask("PUT", "/sessions/s/artifacts/a", b"x" * 1001)).code == "too_large"

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    answer = await api.ask("PUT", "/sessions/s/artifacts/a", chunks())
    assert (answer.status, answer.code) == (413, "too_large")
    assert (await api.ask("PUT", "/sessions/s/artifacts/a", b"x" * 1000)).status == 201
    assert [each.name for each in (tmp_path / "data/sessions/s/artifacts").iterdir()] == ["a"]


async def test_an_upload_that_breaks_off_leaves_what_was_there(api: Api, session: str, tmp_path: Path) -> None:
    await api.ask("PUT", f"{session}/artifacts/a", b"before")
    place = urlsplit(api.daemon.url)
    _, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(
        b"PUT %s/artifacts/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Length: 100\r\n\r\nhalf"
        % (session.encode(), api.token.encode())
    )
    await writer.drain()
    folder = tmp_path / "data/sessions/s/artifacts"
    await until(lambda: len(list(folder.iterdir())) == 2)
    writer.close()
    await writer.wait_closed()
    await until(lambda: len(list(folder.iterdir())) == 1)
    assert (await api.ask("GET", f"{session}/artifacts/a")).body == b"before"


async def test_an_upload_into_a_session_that_is_deleted_meanwhile_is_a_conflict(
    api: Api, session: str, tmp_path: Path
) -> None:
    gone = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b"begun"
        await gone.wait()
        yield b"ended"

    uploading = asyncio.create_task(api.ask("PUT", f"{session}/artifacts/a/b", slowly()))
    folder = tmp_path / "data/sessions/s/artifacts/a"
    await until(lambda: folder.is_dir() and len(list(folder.iterdir())) == 1)
    assert (await api.ask("DELETE", session)).status == 204
    gone.set()
    answer = await uploading
    assert (answer.status, answer.code) == (409, "conflict")
    assert "removed meanwhile" in answer.json["detail"]


async def test_artifacts_of_no_session_are_not_found(api: Api) -> None:
    for method in ("GET", "PUT", "DELETE"):
        assert (await api.ask(method, "/sessions/nope/artifacts/a")).code == "session_not_found"
    assert (await api.ask("GET", "/sessions/nope/artifacts")).code == "session_not_found"
