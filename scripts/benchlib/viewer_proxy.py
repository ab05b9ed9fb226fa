"""The viewer as a proxy: what it adds to the time of an answer."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from benchlib.daemon import Daemon
from benchlib.figures import Row, ms, percentile
from benchlib.processes import rss_mib
from benchlib.viewer import viewer

WARM_UP = 50


def proxy(directory: Path, requests: int) -> list[Row]:
    """The same requests to the agent and through the viewer, by turns, each on a kept connection."""
    with Daemon(directory / "proxy") as daemon, daemon.client() as client:
        client.session("s")
        task = client.submit("s", "seq", "1000")
        client.wait(task)
        url = json.loads((daemon.data_dir / "agent.json").read_bytes())["url"]
        token = {"Authorization": f"Bearer {(daemon.data_dir / 'token').read_text().strip()}"}
        with viewer(directory, {"one": daemon}) as seen:
            idle = rss_mib(seen.pid)
            cookie = {"Cookie": seen.cookie()}
            direct, through = _connected(url), _connected(seen.url)
            rows = []
            for what, path in (
                ("one task", f"/tasks/{task}"),
                ("200 lines of output", f"/tasks/{task}/output/lines?count=200"),
            ):
                near: list[float] = []
                far: list[float] = []
                for _ in range(WARM_UP + requests):
                    near.append(_took(direct, path, token))
                    far.append(_took(through, f"/api/agents/one{path}", cookie))
                rows.append(_added(what, near[WARM_UP:], far[WARM_UP:]))
            direct.close()
            through.close()
    return [*rows, Row("memory of a viewer that was just started", f"{idle:.0f} MiB", "≤ 80 MiB", idle <= 80)]


def _added(what: str, near: list[float], far: list[float]) -> Row:
    p50 = percentile(far, 50) - percentile(near, 50)
    p99 = percentile(far, 99) - percentile(near, 99)
    return Row(f"added by the viewer: {what}, p50 / p99", f"{ms(p50)} / {ms(p99)}", "p99 ≤ 5 ms", p99 <= 0.005)


def _connected(url: str) -> http.client.HTTPConnection:
    where = urlsplit(url)
    return http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)


def _took(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> float:
    began = perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}: {body[:200]!r}")
    return perf_counter() - began
