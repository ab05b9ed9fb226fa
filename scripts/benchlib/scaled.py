"""One real viewer over many scripted agents: what a page, a change and memory cost, by the number of agents.

`scripts/scale` prints the table; --write puts it into docs/scale.md.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from time import monotonic
from typing import IO, NamedTuple
from urllib.parse import urlsplit

from benchlib.figures import circumstances, median, ms, written
from benchlib.processes import descriptors, exact_cpu_s, rss_mib
from benchlib.viewer import Viewer, viewer

PAGE = Path("docs/scale.md")
SIZES = (10, 100, 300, 1000)
SESSIONS = 60
PATIENCE_S = 120.0


class Figures(NamedTuple):
    """What one number of agents costs."""

    agents: int
    first_s: float  #: the page after a start, when no connection is open yet
    page_s: float
    page_worst_s: float
    page_cpu_s: float
    known: int  #: agents that the page knows, asked with the patience of a reload
    change_s: float  #: until an open page is told of a change
    idle_mib: float
    mib: float  #: with one page open
    files: int
    stream_cpu: float  #: of one core, with one page open where nothing happens


@contextmanager
def crowd(number: int, *, good: bool) -> Iterator[tuple[list[int], IO[str]]]:
    """So many scripted agents: their ports, and where to write `touch K`."""
    program = str(Path(__file__).with_name("crowd.py"))
    command = [sys.executable, program, str(number), str(SESSIONS), *(["--good"] if good else [])]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield json.loads(process.stdout.readline()), process.stdin
        finally:
            process.kill()


@contextmanager
def viewer_of(directory: Path, ports: list[int]) -> Iterator[Viewer]:
    """A viewer of agents at these ports."""
    directory.mkdir()
    (directory / "token").write_text("a-token")
    token = str(directory / "token")
    agents = [
        {"name": f"agent-{n}", "url": f"http://127.0.0.1:{port}", "token_file": token} for n, port in enumerate(ports)
    ]
    (directory / "webui.yaml").write_text(json.dumps({"agents": agents}))
    with viewer(directory, {}, "--config", str(directory / "webui.yaml")) as web:
        yield web


def measured(directory: Path, number: int, pages: int, *, good: bool) -> Figures:
    """The figures of so many agents."""
    with crowd(number, good=good) as (ports, tell), viewer_of(directory / f"{number}", ports) as web:
        idle = rss_mib(web.pid)
        cookie = web.cookie()
        where = urlsplit(web.url).netloc

        def page(wait: int = 0) -> tuple[float, bytes]:
            connection = http.client.HTTPConnection(where, timeout=PATIENCE_S)
            began = monotonic()
            prefer = {"Prefer": f"wait={wait}"} if wait else {}
            connection.request("GET", "/", headers={"Cookie": cookie, "Accept": "application/json", **prefer})
            body = connection.getresponse().read()
            connection.close()
            return monotonic() - began, body

        first_s, _ = page()
        cpu = exact_cpu_s(web.pid)
        took = [page()[0] for _ in range(pages)]
        cpu = (exact_cpu_s(web.pid) - cpu) / pages
        contacts = json.loads(page(wait=30)[1])["agents"]
        stream = _Open(where, cookie)
        stream.until("hello", 1)
        stream.settled()
        began, cpu_s = monotonic(), exact_cpu_s(web.pid)
        stream.quiet(10.0 if pages > 3 else 3.0)
        stream_cpu = (exact_cpu_s(web.pid) - cpu_s) / (monotonic() - began)
        changes = []
        for _ in range(pages):
            stream.forget()
            began = monotonic()
            tell.write("touch 0\n")
            tell.flush()
            stream.until("changed", 1)
            changes.append(monotonic() - began)
        figures = Figures(
            agents=number,
            first_s=first_s,
            page_s=median(took),
            page_worst_s=max(took),
            page_cpu_s=cpu,
            known=sum(each["status"] == "fresh" for each in contacts),
            change_s=median(changes),
            idle_mib=idle,
            mib=rss_mib(web.pid),
            files=descriptors(web.pid),
            stream_cpu=stream_cpu,
        )
        stream.close()
        return figures


class _Open:
    """An open page's stream: a thread counts the events that come."""

    def __init__(self, where: str, cookie: str) -> None:
        self._connection = http.client.HTTPConnection(where, timeout=PATIENCE_S)
        self._connection.request("GET", "/live", headers={"Cookie": cookie, "Accept": "text/event-stream"})
        self._answer = self._connection.getresponse()
        self._seen: dict[str, int] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for line in self._answer:
                if line.startswith(b"event: "):
                    with self._news:
                        name = line[7:].strip().decode()
                        self._seen[name] = self._seen.get(name, 0) + 1
                        self._news.notify_all()
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            pass  # it was closed

    def until(self, event: str, count: int) -> None:
        with self._news:
            if not self._news.wait_for(lambda: self._seen.get(event, 0) >= count, PATIENCE_S):
                raise TimeoutError(event)

    def forget(self) -> None:
        with self._news:
            self._seen.clear()

    def quiet(self, within_s: float) -> None:
        with self._news:
            self._news.wait_for(lambda: False, within_s)

    def settled(self) -> None:
        """Wait until no agent is new: nothing but beats for two seconds."""
        while True:
            self.forget()
            with self._news:
                if not self._news.wait_for(lambda: bool(self._seen.keys() - {"beat"}), 2.0):
                    return

    def close(self) -> None:
        self._connection.close()


def table(found: list[Figures]) -> str:
    """The figures as Markdown."""
    lines = [
        "| agents | first page after a start | page, median (worst) | CPU a page | agents known | change shown | "
        "memory idle → one page open | files | CPU of one open page |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += (
        f"| {each.agents:,} | {ms(each.first_s)} | {ms(each.page_s)} ({ms(each.page_worst_s)}) | {ms(each.page_cpu_s)} "
        f"| {each.known:,} | {ms(each.change_s)} | {each.idle_mib:.0f} → {each.mib:.0f} MiB | {each.files:,} "
        f"| {100 * each.stream_cpu:.0f} % of a core |"
        for each in found
    )
    return "\n".join(lines)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__)
    parser.add_argument("--agents", type=int, nargs="+", default=SIZES, help="how many (10 100 300 1000)")
    parser.add_argument("--pages", type=int, default=15, help="pages and changes of each number (15)")
    parser.add_argument("--good", action="store_true", help="no agent is dead, slow or lying")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = []
        for number in given.agents:
            each = measured(Path(name), number, given.pages, good=given.good)
            found.append(each)
            print(f"{number:,} agents: page {ms(each.page_s)}, change shown {ms(each.change_s)}", file=sys.stderr)
        text = f"{circumstances(Path(name))}\n\n{table(found)}"
    print(text)
    if given.write:
        written(PAGE, "scale", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
