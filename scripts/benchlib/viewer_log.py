"""The log view in a browser: how soon a large log is there, how it follows, what it costs."""

from __future__ import annotations

import http.client
import os
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from playwright.sync_api import Page

from benchlib.daemon import Daemon
from benchlib.figures import Row, median, ms
from benchlib.processes import argv, cpu_s, peak_mib, tree
from benchlib.viewer import browser, viewer

LINES = 2_000_000
#: 200 MB of lines with colours.
LARGE = (
    r"""BEGIN { for (i = 1; i <= %d; i++) printf "\033[32mINFO\033[0m line %%d of the build """
    r"""\033[1;31mwarning\033[0m with some more words to read here %%d\n", i, i }"""
)
#: So many lines a second, for so many seconds.
RATE = 20_000
GROWING = f"for i in $(seq {{}}); do seq {RATE // 40}; sleep 0.022; done"
#: Do something, then wait for what should come of it; milliseconds, to the frame.
UNTIL = """async ([act, shown]) => {
  const began = performance.now();
  const [kind, what] = act;
  if (kind === "key") document.dispatchEvent(new KeyboardEvent("keydown", { key: what }));
  else {
    const field = document.querySelector(`.log [name=${kind}]`);
    field.value = what;
    field.form.requestSubmit();
  }
  while (!document.querySelector(shown)) await new Promise(requestAnimationFrame);
  return performance.now() - began;
}"""
FRAMES = """async (seconds) => {
  const frames = [];
  const end = performance.now() + seconds * 1000;
  for (let before = performance.now(); before < end; ) {
    const now = await new Promise(requestAnimationFrame);
    frames.push(now - before);
    before = now;
  }
  return [frames.length / seconds, Math.max(...frames)];
}"""
KNOWN = "Number(document.querySelector('#log-size').textContent.split(' ')[0].replaceAll(',', ''))"
MIB = 1 << 20


def log_view(directory: Path, rounds: int, follow_s: int) -> list[Row]:
    """A log of 200 MB looked at, another followed, both through a viewer and its proxy."""
    with Daemon(directory / "log-view") as daemon, daemon.client() as client:
        client.session("s")
        large = client.submit("s", "awk", LARGE % LINES)
        client.wait(large)
        daemon.stop()
        daemon.start()  # it has read none of the log yet
        with viewer(directory, {"one": daemon}) as seen, browser() as context:
            page = context.new_page()
            page.goto(seen.link)
            page.wait_for_url("**/")
            at = f"{seen.url}/a/one/s/s/t/"
            rows = _looked_at(page, f"{at}{large}/log", rounds)
            with daemon.client() as again:
                growing = again.submit("s", "sh", "-c", GROWING.format(follow_s * 60))
            rows += _followed(page, f"{at}{growing}/log", follow_s)
            cookie = "; ".join(f"{each['name']}={each['value']}" for each in context.cookies())
            rows += _passed_through(seen.pid, f"{at}{large}/log/raw", cookie)
        return rows


def _looked_at(page: Page, url: str, rounds: int) -> list[Row]:
    first, lines = _opened(page, url, f"#L{LINES}")
    again = [_opened(page, url, f"#L{LINES}") for _ in range(rounds)]
    links = [
        _opened(page, f"{url}#L{n}-L{n + 3}", f"#L{n}.sel")[1] for n in range(900_000, 900_000 + 1000 * rounds, 1000)
    ]
    jumps = [_until(page, ("line", str(n)), f"#L{n}") for n in range(5000, LINES, LINES // rounds // 3)]
    searches = [_until(page, ("q", f"line {n} "), f"#L{n}.hit") for n in range(LINES - rounds, LINES)]
    nodes = page.evaluate("document.querySelectorAll('.log *').length")
    painted = median([paint for paint, _ in again])
    return [
        Row("log of 200 MB: first paint, the agent has yet to read it", ms(first), "≤ 500 ms", first <= 0.5),
        Row("… its last lines are there", ms(lines), "≤ 800 ms", lines <= 0.8),
        Row("… first paint, looked at again", ms(painted), "≤ 500 ms", painted <= 0.5),
        _row("… a link to lines, opened anew", links, 0.5),
        _row("… jump to a line", jumps, 0.3),
        _row("… search over all of it", searches, 1.0),
        Row("… elements in the log", str(nodes), "≤ 1000", nodes <= 1000),
    ]


def _followed(page: Page, url: str, seconds: int) -> list[Row]:
    _opened(page, url, ".ln")
    page.wait_for_timeout(1000)
    began, used, known = perf_counter(), _browser_cpu_s(), page.evaluate(KNOWN)
    rate, worst = page.evaluate(FRAMES, seconds)
    took = perf_counter() - began
    share, grown = (_browser_cpu_s() - used) / took, (page.evaluate(KNOWN) - known) / took
    memory = max(_unshared_mib(pid) for pid in _renderers())
    nodes = page.evaluate("document.querySelectorAll('.log *').length")
    name = f"following {grown:,.0f} lines/s"
    return [
        Row(f"{name}: frames a second (worst frame)", f"{rate:.0f} ({worst:.0f} ms)", "≥ 50", rate >= 50),
        Row(f"{name}: renderers' processor", f"{share:.0%} of a core", "≤ 50 %", share <= 0.5),
        Row(f"{name}: the largest renderer's own memory", f"{memory:.0f} MiB", "≤ 150 MiB", memory <= 150),
        Row(f"{name}: elements in the log", str(nodes), "≤ 1000", nodes <= 1000),
    ]


def _passed_through(pid: int, url: str, cookie: str) -> list[Row]:
    """The whole raw log through the viewer."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
    began, size = perf_counter(), 0
    try:
        connection.request("GET", where.path, headers={"Cookie": cookie})
        answer = connection.getresponse()
        while block := answer.read(MIB):
            size += len(block)
    finally:
        connection.close()
    took = perf_counter() - began
    peak = peak_mib(pid)
    return [
        Row(f"{size // MIB} MiB raw through the viewer", f"{size / MIB / took:.0f} MiB/s", "", size > 0),
        Row("the viewer's memory at its highest, all of this through it", f"{peak:.0f} MiB", "≤ 80 MiB", peak <= 80),
    ]


def _opened(page: Page, url: str, shown: str) -> tuple[float, float]:
    """Seconds to the first paint, and until something is shown, in a page that had nothing before."""
    page.goto("about:blank")
    began = perf_counter()
    page.goto(url, wait_until="commit")
    page.wait_for_selector(shown)
    took = perf_counter() - began
    page.wait_for_load_state()
    return page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000, took


def _until(page: Page, act: tuple[str, str], shown: str) -> float:
    return float(page.evaluate(UNTIL, [act, shown])) / 1000


def _row(what: str, samples: list[float], bar_s: float) -> Row:
    return Row(
        what, f"{ms(median(samples))} (worst {ms(max(samples))})", f"≤ {bar_s * 1000:.0f} ms", median(samples) <= bar_s
    )


def _renderers() -> list[int]:
    return [pid for pid in tree(os.getpid()) if any("--type=renderer" in word for word in argv(pid))]


def _browser_cpu_s() -> float:
    return sum(cpu_s(pid) for pid in _renderers())


def _unshared_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024
