"""Files of a session: sent and fetched through the viewer as they come, whole or not at all, never shown as pages."""

from __future__ import annotations

import hashlib
import http.client
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.harness import Answer, RealDaemon, until

from .conftest import MakeDaemon, MakeViewer
from .viewer import RealViewer

BOUNDARY = "----a-boundary"
LARGE = 50 << 20


def part(name: str, value: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename is not None else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def send(viewer: RealViewer, *parts: bytes, end: bytes = f"--{BOUNDARY}--\r\n".encode(), **headers: str) -> Answer:
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    headers = {"Content_Type": kind, "Accept": "text/html", **headers}
    return viewer.request("POST", "/a/one/s/build/artifacts", b"".join(parts) + end, **headers)


def token(viewer: RealViewer) -> bytes:
    return part("csrf", viewer.csrf.encode())


def paths(daemon: RealDaemon) -> list[str]:
    return [row["path"] for row in daemon.get("/sessions/build/artifacts")["data"]]


@pytest.fixture
def session(daemon: RealDaemon) -> RealDaemon:
    """The daemon, with a session named build."""
    daemon.wait(daemon.shell("build", "true")["task_id"])
    return daemon


def test_several_files_are_uploaded_into_a_folder(viewer: RealViewer, session: RealDaemon) -> None:
    answer = send(
        viewer,
        token(viewer),
        part("folder", b" reports/may "),
        part("file", b"1,2\r\n--x\r\n", "a b.csv"),
        part("file", b"", "temp/empty.txt"),
        part("file", b"\x00\xff", "ünï.bin"),
    )
    assert (answer.status, answer.headers["location"]) == (303, "/a/one/s/build#artifacts")
    assert paths(session) == ["reports/may/a b.csv", "reports/may/empty.txt", "reports/may/ünï.bin"]
    assert session.request("GET", "/sessions/build/artifacts/reports/may/a%20b.csv").body == b"1,2\r\n--x\r\n"


def test_a_large_file_goes_both_ways_and_the_viewer_never_holds_it(own_viewer: RealViewer, session: RealDaemon) -> None:
    sent = hashlib.sha256(b"agentd").digest() * (LARGE // 32)
    own_viewer.html("/a/one/s/build")
    before = own_viewer.peak_mib
    assert send(own_viewer, token(own_viewer), part("file", sent, "large.bin")).status == 303
    found = own_viewer.request("GET", "/a/one/s/build/artifacts/large.bin")
    assert found.headers["content-length"] == str(LARGE)
    assert found.body == sent
    assert own_viewer.peak_mib - before < 12


def test_what_is_downloaded_is_saved_and_never_a_page(viewer: RealViewer, session: RealDaemon) -> None:
    session.request("PUT", "/sessions/build/artifacts/x/a%22%20%3Cb%3E.html", b"<script>alert(1)</script>")
    answer = viewer.request("GET", "/a/one/s/build/artifacts/x/a%22%20%3Cb%3E.html")
    assert answer.body == b"<script>alert(1)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''a%22%20%3Cb%3E.html"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_a_file_is_deleted_after_a_question_also_one_that_is_named_delete(
    viewer: RealViewer, session: RealDaemon
) -> None:
    for name in ("a/delete", "delete", "b.txt"):
        session.request("PUT", f"/sessions/build/artifacts/{name}", b"kept")
    assert viewer.request("GET", "/a/one/s/build/artifacts/a/delete").body == b"kept"
    assert "What is gone does not come back" in viewer.html("/a/one/s/build/artifacts/a/delete?ask=delete")
    assert viewer.post("/a/one/s/build/artifacts/a/delete/delete").status == 303
    assert viewer.post("/a/one/s/build/artifacts/b.txt/delete").status == 303
    assert paths(session) == ["delete"]
    gone = viewer.post("/a/one/s/build/artifacts/b.txt/delete")
    assert gone.status == 404
    assert "deleted meanwhile" in gone.body.decode()
    assert viewer.request("GET", "/a/one/s/build/artifacts/b.txt").status == 404


def test_an_upload_without_its_token_first_is_refused_and_nothing_is_kept(
    viewer: RealViewer, session: RealDaemon
) -> None:
    file = part("file", b"x", "x.txt")
    for parts in ((file,), (file, token(viewer)), (part("csrf", b"0" * 64), file), (part("csrf", b""), file)):
        assert send(viewer, *parts).status == 403
    assert send(viewer, token(viewer), file, Origin="https://evil.example").status == 403
    assert send(viewer, file, X_CSRF_Token=viewer.csrf).status == 303
    assert paths(session) == ["x.txt"]


def test_an_upload_that_ends_in_the_middle_leaves_nothing(viewer: RealViewer, session: RealDaemon) -> None:
    answer = send(viewer, token(viewer), part("file", b"x" * 500_000, "half.bin"), end=b"")
    assert answer.status == 400
    assert "did not come whole" in answer.body.decode()
    body = token(viewer) + part("file", b"x" * 500_000, "cut.bin")
    connection = http.client.HTTPConnection("127.0.0.1", viewer.port, timeout=60)
    connection.putrequest("POST", "/a/one/s/build/artifacts")
    connection.putheader("Cookie", viewer.cookie)
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(body) * 2))
    connection.endheaders(body)
    artifacts = session.data_dir / "sessions" / "build" / "artifacts"
    until(lambda: any(artifacts.iterdir()))
    connection.close()
    until(lambda: not any(artifacts.iterdir()))
    assert paths(session) == []


def test_what_the_agent_does_not_take_is_said(make_daemon: MakeDaemon, make_viewer: MakeViewer) -> None:
    daemon = make_daemon(limits={"artifact_bytes": 1000}).start()
    daemon.wait(daemon.shell("build", "true")["task_id"])
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    answer = send(viewer, token(viewer), part("file", b"y", "first"), part("file", b"x" * 3_000_000, "big"))
    assert answer.status == 413
    assert "Upload big (1 before it stored): not done" in answer.body.decode()
    assert "limits.artifact_bytes" in answer.body.decode()
    assert paths(daemon) == ["first"]
    assert send(viewer, token(viewer), part("folder", b"../up"), part("file", b"x", "x")).status == 422
    assert send(viewer, token(viewer), part("file", b"", "")).status == 422
    assert send(viewer, token(viewer)).status == 422
    odd = viewer.request("POST", "/a/one/s/build/artifacts", b"x", X_CSRF_Token=viewer.csrf, Content_Type="text/plain")
    assert odd.status == 415
    assert paths(daemon) == ["first"]


def test_a_person_uploads_a_large_file_downloads_it_and_deletes_it(
    viewer: RealViewer, session: RealDaemon, page: Page, tmp_path: Path
) -> None:
    large = tmp_path / "large.bin"
    large.write_bytes(hashlib.sha256(b"agentd").digest() * (LARGE // 32))
    page.goto(f"{viewer.url}/a/one/s/build")
    page.get_by_label("Files").set_input_files(large)
    page.get_by_role("button", name="Upload").click()
    link = page.get_by_role("link", name="large.bin", exact=True)
    expect(link).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download large.bin").click()
    assert saved.value.suggested_filename == "large.bin"
    assert Path(saved.value.path()).read_bytes() == large.read_bytes()
    page.get_by_role("link", name="Delete large.bin").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("What is gone does not come back")
    assert paths(session) == ["large.bin"]
    dialog.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("No file yet")).to_be_visible()
    assert paths(session) == []
