"""Artifacts that are looked at: texts as text, images as images, whatever their names and bytes pretend to be."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon

from .accessible import wrong_with
from .conftest import MakeDaemon, MakeViewer
from .viewer import RealViewer

#: One pixel each, as small as the formats allow.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")
SCRIPT = b"<script>alert(1)</script>"
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
NAMES = ["a\"'><b>.txt", "-rf.txt", "\u202egnp.txt", "a b%2f%25?#.txt", "deep/er/..txt", "ünï ☃.txt"]


def keep(daemon: RealDaemon, path: str, body: bytes) -> None:
    """Put an artifact into the session `build`, which is made if it is not there."""
    daemon.request("POST", "/sessions", {"session_id": "build"})
    assert daemon.request("PUT", f"/sessions/build/artifacts/{quote(path)}", body).status in (200, 201)


def at(path: str, what: str = "preview") -> str:
    return f"/a/one/s/build/{what}/{quote(path)}"


def test_a_text_is_shown_as_text_with_its_colours(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    keep(daemon, "x/report.html", SCRIPT + b"\n\x1b[31mred\x1b[0m &amp; plain\r\n\x00"[:-1])
    page.goto(f"{viewer.url}/a/one/s/build")
    page.get_by_role("link", name="x/report.html", exact=True).click()
    contents = page.get_by_role("region", name="Contents")
    expect(contents).to_have_text("<script>alert(1)</script>\nred &amp; plain\n")
    expect(contents.locator("span.f1")).to_have_text("red")
    assert page.locator("main script").count() == 0
    assert wrong_with(page) == []
    assert "<script>alert" in viewer.get(at("x/report.html"))["text"]


@pytest.mark.parametrize(("name", "body", "kind"), [("a.PNG", PNG, "image/png"), ("b.gif", GIF, "image/gif")])
def test_an_image_is_seen_and_its_bytes_are_of_a_type_that_we_say(
    viewer: RealViewer, daemon: RealDaemon, page: Page, name: str, body: bytes, kind: str
) -> None:
    keep(daemon, name, body)
    page.goto(viewer.url + at(name))
    image = page.get_by_role("img", name=f"The image {name}")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('img.preview').naturalWidth === 1")
    answer = viewer.request("GET", at(name, "image"))
    assert answer.body == body
    assert answer.headers["content-type"] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert wrong_with(page) == []


def test_what_could_run_is_never_sent_but_as_a_download(viewer: RealViewer, daemon: RealDaemon) -> None:
    for name, body in (("a.svg", SVG), ("a.html", SCRIPT), ("a.xml", SVG), ("png", PNG), (".png", PNG)):
        keep(daemon, name, body)
        assert viewer.request("GET", at(name, "image")).status == 415, name
        assert "<script>alert" not in viewer.html(at(name)), name
        assert viewer.request("GET", at(name, "artifacts")).headers["content-type"] == "application/octet-stream"
    keep(daemon, "lie.png", SCRIPT)
    lie = viewer.request("GET", at("lie.png", "image"))
    assert (lie.headers["content-type"], lie.headers["x-content-type-options"]) == ("image/png", "nosniff")


def test_what_is_no_text_is_there_to_download_alone(viewer: RealViewer, daemon: RealDaemon) -> None:
    for name, body in (("a.bin", b"a\x00b"), ("latin", b"caf\xe9 au lait")):
        keep(daemon, name, body)
        assert viewer.get(at(name))["kind"] == "other"
        page = viewer.html(at(name))
        assert "neither a text nor an image" in page and f'href="{at(name, "artifacts")}" download' in page
    keep(daemon, "empty", b"")
    assert "It is empty." in viewer.html(at("empty"))


def test_of_a_large_text_the_beginning_is_shown_and_that_it_is_one(viewer: RealViewer, daemon: RealDaemon) -> None:
    keep(daemon, "large", "€".encode() * 100_000)
    page = viewer.html(at("large"))
    assert "This is only its beginning" in page
    assert page.count("€") == (256 << 10) // 3
    keep(daemon, "long", b"x\n" * 20_000)
    page = viewer.html(at("long"))
    assert "This is only its beginning" in page and page.count("\nx") < 10_001


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_and_leads_to_its_file(
    viewer: RealViewer, daemon: RealDaemon, page: Page, name: str
) -> None:
    keep(daemon, name, b"these bytes")
    page.goto(f"{viewer.url}/a/one/s/build")
    page.locator("#artifacts tbody td a").first.click()
    expect(page.locator("h1")).to_have_text(name)
    expect(page.get_by_role("region", name="Contents")).to_have_text("these bytes")
    with page.expect_download() as saved:
        page.get_by_role("link", name="Download").click()
    assert saved.value.path().read_bytes() == b"these bytes"


def test_what_is_not_there_is_a_404_and_no_way_leads_out_of_the_session(viewer: RealViewer, daemon: RealDaemon) -> None:
    keep(daemon, "a.txt", b"here")
    assert viewer.request("GET", at("b.png", "image")).status == 404
    for wrong in ("b.txt", "../metadata.json", "..%2fmetadata.json", "%2e%2e/metadata.json", "/etc/passwd"):
        answer = viewer.request("GET", f"/a/one/s/build/preview/{wrong}", Accept="text/html")
        assert answer.status in (400, 404, 422), (wrong, answer.status)
        assert b"created_at" not in answer.body and b"root:" not in answer.body


def test_an_agent_that_does_not_answer_is_said_to_be_unknown(make_viewer: MakeViewer, make_daemon: MakeDaemon) -> None:
    daemon = make_daemon().start()
    keep(daemon, "a.txt", b"here")
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    daemon.kill9()
    assert 'data-unknown="one"' in viewer.html(at("a.txt"))
    assert viewer.request("GET", at("a.png", "image")).status == 503
