"""Pages and JSON are sent as small as the client takes them."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.daemon.harness import RealDaemon

from .viewer import RealViewer


def test_a_page_is_gzipped_for_those_who_take_it_and_is_the_same(viewer: RealViewer) -> None:
    plain = viewer.request("GET", "/agents", Accept="text/html", Accept_Encoding="identity")
    small = viewer.request("GET", "/agents", Accept="text/html", Accept_Encoding="gzip, br")
    assert "content-encoding" not in plain.headers
    assert small.headers["content-encoding"] == "gzip"
    assert small.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
    assert len(small.body) < len(plain.body) / 2
    assert b"<h1>Agents</h1>" in gzip.decompress(small.body)


@pytest.mark.parametrize(
    ("taken", "sent"),
    [
        ("gzip", True),
        ("br;q=1, GZIP;q=0.5", True),
        ("deflate, gzip ; q=1.000", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
        ("x-gzip-2", False),
        ("", False),
    ],
)
def test_gzip_is_sent_to_those_who_give_it_a_weight(viewer: RealViewer, taken: str, sent: bool) -> None:
    for path in ("/agents", "/static/agentd.js"):
        answer = viewer.request("GET", path, Accept="text/html", Accept_Encoding=taken)
        assert ("content-encoding" in answer.headers) is sent


def test_what_is_small_is_sent_as_it_is(viewer: RealViewer) -> None:
    answer = viewer.request("GET", "/healthz", Accept_Encoding="gzip")
    assert "content-encoding" not in answer.headers


def test_the_scripts_of_the_heaviest_page_weigh_at_most_25_kib(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = daemon.shell("build", "true")
    wanted = re.findall(r'src="/static/([^"]+)"', viewer.html(f"/a/one/s/build/t/{task['task_id']}"))
    sizes: dict[str, int] = {}
    while wanted:
        name = wanted.pop()
        if name not in sizes:
            script = viewer.request("GET", f"/static/{name}", Accept_Encoding="gzip").body
            sizes[name] = len(script)
            wanted += re.findall(r'from "\./([^"]+)"', gzip.decompress(script).decode())
    assert {"agentd.js", "tally.js"} < sizes.keys()
    assert sum(sizes.values()) <= 25 << 10, sizes
