"""The viewer in a browser: how soon a page is there, how soon it shows a change, what it weighs and leaves behind."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter, sleep, time

from playwright.sync_api import BrowserContext, Page

from benchlib.daemon import Client, Daemon, open_streams
from benchlib.figures import Row, median, ms, percentile
from benchlib.fill import fill
from benchlib.viewer import browser, viewer

AGENTS = 3  #: a, b and c
SESSIONS = 1000
TABS = 12
#: After so long no tab that was closed may have left a stream.
LEFT_S = 2.0
#: Writes down when each title was first there, in milliseconds since the epoch.
WATCH = """() => {
  window.shown = {};
  const look = () => {
    const title = document.querySelector("#row-a-watched [data-go]")?.textContent;
    if (title) window.shown[title] ??= Date.now();
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, characterData: true });
}"""
#: A headless tab is always seen; this lets it be hidden, as a tab is behind which another opens.
HIDES = """
let state = "visible";
Object.defineProperty(document, "visibilityState", { get: () => state });
Object.defineProperty(document, "hidden", { get: () => state === "hidden" });
window.hide = () => { state = "hidden"; document.dispatchEvent(new Event("visibilitychange")); };
"""
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
TRANSFERRED = """() => {
  const all = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  return all.map((each) => [new URL(each.name).pathname, each.transferSize]);
}"""
KIB = 1024


def live(directory: Path, changes: int, rounds: int) -> list[Row]:
    """1,000 sessions over three agents, looked at in Chromium."""
    with ExitStack() as stack:
        daemons = [Daemon(directory / f"live-{name}") for name in "abc"]
        for at, daemon in enumerate(daemons):
            fill(daemon.data_dir, SESSIONS // AGENTS + (at < SESSIONS % AGENTS) - (at == 0), 1)
            stack.enter_context(daemon)
        client = stack.enter_context(daemons[0].client())
        client.session("watched")
        seen = stack.enter_context(viewer(directory, dict(zip("abc", daemons, strict=True))))
        context = stack.enter_context(browser())
        page = context.new_page()
        page.goto(seen.link)
        page.wait_for_url("**/")
        url = page.url
        return [
            *_weight(context, url),
            *_painted(page, url, rounds),
            *_changes(page, url, client, changes),
            *_tabs(context, url, client),
        ]


def _weight(context: BrowserContext, url: str) -> list[Row]:
    """What the first visit loads, with nothing in the browser's cache."""
    assert context.browser is not None
    first = context.browser.new_context(storage_state=context.storage_state())
    page = first.new_page()
    page.goto(url)
    sizes: list[tuple[str, int]] = page.evaluate(TRANSFERRED)
    first.close()
    static = [(path, size) for path, size in sizes if "/static/" in path]
    scripts = sum(size for path, size in static if path.endswith(".js")) / KIB
    styles = sum(size for path, size in static if path.endswith(".css")) / KIB
    total = sum(size for _, size in sizes) / KIB
    return [
        Row("weight of a first visit, 50 sessions shown", f"{total:.1f} KiB", "≤ 60 KiB", total <= 60),
        Row("… scripts", f"{scripts:.1f} KiB", "≤ 25 KiB", scripts <= 25),
        Row("… styles", f"{styles:.1f} KiB", "≤ 6 KiB", styles <= 6),
    ]


def _painted(page: Page, url: str, rounds: int) -> list[Row]:
    rows = []
    for what, query, bar_s in (("the first 50 shown", "", 0.5), ("all of them shown", "?limit=1000", 1.5)):
        times = []
        for _ in range(rounds):
            page.goto("about:blank")
            page.goto(url + query)
            page.wait_for_selector("[data-row]")
            times.append(page.evaluate(PAINTED) / 1000)
        name = f"first paint, {SESSIONS:,} sessions over {AGENTS} agents, {what}"
        worst = f"{ms(median(times))} (worst {ms(max(times))})"
        rows.append(Row(name, worst, f"≤ {bar_s * 1000:.0f} ms", median(times) <= bar_s))
    return rows


def _changes(page: Page, url: str, client: Client, changes: int) -> list[Row]:
    """From just before an agent is asked to change something to when an open page shows it."""
    page.goto(url)
    page.evaluate(WATCH)
    _title(client, "begin")
    page.get_by_text("begin", exact=True).wait_for()
    sent = {}
    for number in range(changes):
        sleep(0.15 + (number * 37 % 100) / 1000)  # at no time of the ticks' own
        name = f"change {number}"
        sent[name] = time()
        _title(client, name)
    page.get_by_text(f"change {changes - 1}", exact=True).wait_for()
    shown: dict[str, float] = page.evaluate("window.shown")
    times = [shown[name] / 1000 - at for name, at in sent.items() if name in shown]
    missed = changes - len(times)
    p50, p99 = median(times), percentile(times, 99)
    figure = f"{ms(p50)} / {ms(p99)}" + (f", {missed} never shown" if missed else "")
    return [Row("a change at an agent until the page shows it, p50 / p99", figure, "p99 ≤ 250 ms", p99 <= 0.25)]


def _title(client: Client, title: str) -> None:
    client.call("PATCH", "/sessions/watched", {"title": title})


def _tabs(context: BrowserContext, url: str, client: Client) -> list[Row]:
    for page in context.pages:
        page.close()
    context.add_init_script(HIDES)
    pages: list[Page] = []
    began = perf_counter()
    for _ in range(TABS):
        if pages:
            pages[-1].evaluate("hide()")
        pages.append(context.new_page())
        pages[-1].goto(url)
        pages[-1].wait_for_selector("[data-row]")
    took = perf_counter() - began
    sleep(LEFT_S)
    opened = _streams(client)
    for page in pages:
        page.close()
    sleep(LEFT_S)
    left = _streams(client)
    return [
        Row(f"{TABS} tabs opened one after the other", f"{took:.1f} s, {opened} stream", "all load", True),
        Row(f"streams left {LEFT_S:.0f} s after they were closed", str(left), "0", left == 0),
    ]


def _streams(client: Client) -> int:
    return open_streams(client.raw("GET", "/metrics")[1].decode())
