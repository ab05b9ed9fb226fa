"""The log view in a browser: what it shows of logs of any size, finds, links and copies."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon, until

from .accessible import wrong_with
from .log_pages import GROWING, done, follow_button, log_of, look_at, stop, taken_over, top, total
from .viewer import RealViewer

#: 200 MB in 2,000,000 lines with colours, in about a second.
LARGE = (
    r"""awk 'BEGIN{for(i=1;i<=2000000;i++) printf "\033[32mINFO\033[0m line %d of the build """
    r"""\033[1;31mwarning\033[0m with some more words to read %d\n", i, i}'"""
)


def test_two_hundred_megabytes_are_looked_at_like_a_page(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = done(daemon, LARGE)
    look_at(page, viewer, task)
    expect(page.locator("#L2000000")).to_be_visible()
    expect(page.locator("#log-end")).to_contain_text("completed")
    page.keyboard.press("g")
    expect(page.locator("#L1")).to_be_visible()
    page.get_by_label("Go to line").fill("1234567")
    page.keyboard.press("Enter")
    expect(page.locator("#L1234567 .f2")).to_have_text("INFO")
    page.evaluate("document.querySelector('.lines').scrollTop += 1e9")  # what the scroll bar spans moves on
    until(lambda: top(page) > 1_500_000)
    held = top(page)
    page.locator(".lines").hover()
    page.mouse.wheel(0, 4000)
    until(lambda: held + 190 <= top(page) <= held + 210)
    page.get_by_label("Search the log").fill("line 1999999 ")
    page.keyboard.press("Enter")
    expect(page.locator(".ln.hit")).to_have_id("L1999999")
    expect(page.locator("#log-found")).to_have_text("1 of 1 line")
    page.get_by_label("Search the log").fill("WARNING")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_contain_text("of 2,000,000 lines")
    page.evaluate("document.querySelector('.lines').scrollTop /= 2")
    until(lambda: 0 < top(page) < 1_900_000)
    assert page.evaluate("document.querySelectorAll('.log *').length") < 1000
    look_at(page, viewer, task, "#L600000-L600003")
    page.reload()
    taken_over(page)
    expect(page.locator(".ln.sel")).to_have_count(4)
    expect(page.locator("#L600000")).to_be_in_viewport()


def test_a_link_to_lines_holds_while_the_log_grows_and_is_made_by_clicks(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = daemon.shell("s", GROWING)
    until(lambda: daemon.get(f"/tasks/{task['task_id']}/output/lines?count=1")["total_lines"] > 4000)
    look_at(page, viewer, task, "#L1500")
    expect(page.locator("#L1500")).to_have_class("ln sel")
    known = total(page)
    until(lambda: total(page) > known + 4000)
    expect(page.locator("#L1500")).to_be_in_viewport()
    page.locator("#L1502 > a").click()
    page.locator("#L1505 > a").click(modifiers=["Shift"])
    expect(page).to_have_url(re.compile("#L1502-L1505$"))
    page.reload()
    taken_over(page)
    expect(page.locator(".ln.sel")).to_have_count(4)
    expect(page.locator("#L1502")).to_be_in_viewport()
    expect(follow_button(page)).to_have_attribute("aria-pressed", "false")
    stop(daemon)


def test_a_line_gone_to_is_marked_and_escape_keeps_what_is_searched(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    look_at(page, viewer, done(daemon, "seq 3000"))
    page.get_by_label("Go to line").fill("200")
    page.keyboard.press("Enter")
    expect(page.locator(".ln.sel")).to_have_id("L200")
    expect(page).to_have_url(re.compile("#L200$"))
    field = page.get_by_label("Search the log")
    field.fill("2999")
    page.keyboard.press("Enter")
    expect(page.locator(".ln.hit")).to_have_id("L2999")
    page.keyboard.press("Escape")
    expect(field).not_to_be_focused()
    expect(field).to_have_value("2999")


def test_lines_are_copied_as_they_are_in_the_file(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = done(daemon, r"seq 99999; printf '\033[31mred\033[0m\ttab\n'; seq 3000")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    look_at(page, viewer, task, "#L99999-L100001")
    page.get_by_role("button", name="Copy lines 99999 to 100001").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "99999\n\x1b[31mred\x1b[0m\ttab\n1\n"


def test_the_raw_log_is_downloaded_whole(viewer: RealViewer, daemon: RealDaemon, page: Page, tmp_path: Path) -> None:
    task = done(daemon, r"seq 100000; printf '\377'")
    look_at(page, viewer, task)
    with page.expect_download() as download:
        page.get_by_role("link", name="Raw").click()
    download.value.save_as(tmp_path / "raw")
    (file,) = daemon.data_dir.glob(f"sessions/s/output/{task['task_id']}.1.log")
    assert (tmp_path / "raw").read_bytes() == file.read_bytes()
    assert download.value.suggested_filename == f"{task['task_id']}.1.log"


def test_a_line_of_6_mb_is_a_short_row_that_opens(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = done(
        daemon, r"""awk 'BEGIN{for(i=0;i<300000;i++) printf "\033[3%dmword%d ", i%8, i; print ""; print "after"}'"""
    )
    look_at(page, viewer, task)
    expect(page.locator("#L2")).to_contain_text("after")
    assert page.locator("#L1 *").count() < 250
    page.locator("#L1 .whole").click()
    expect(page.locator("h1")).to_contain_text("Line 1")
    expect(page.locator("pre")).to_contain_text("word5000")
    page.get_by_role("link", name="Last").click()
    expect(page.locator("pre")).to_contain_text("word299999")


def test_matches_are_walked_both_ways_and_round_the_end(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = done(daemon, "seq 5000")
    look_at(page, viewer, task)
    page.keyboard.press("g")
    page.keyboard.press("/")
    page.keyboard.type("999")
    page.keyboard.press("Enter")
    hit = page.locator(".ln.hit")
    expect(hit).to_have_id("L999")
    page.keyboard.press("Escape")
    for key, line, where in (
        ("n", 1999, "2 of 5 lines"),
        ("N", 999, "1 of 5 lines"),
        ("N", 4999, "5 of 5 lines"),
        ("n", 999, "1 of 5 lines"),
    ):
        page.keyboard.press(key)
        expect(hit).to_have_id(f"L{line}")
        expect(page.locator("#log-found")).to_have_text(where)
    page.reload()
    taken_over(page)
    expect(page.locator("#log-found")).to_contain_text("of 5 lines")
    page.get_by_label("Search the log").fill("nowhere")
    page.keyboard.press("Enter")
    expect(page.locator("#log-found")).to_have_text("no line has it")


def test_the_browsers_search_opens_that_of_the_whole_log_where_the_page_has_only_a_part(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    small, large = done(daemon, "seq 100"), done(daemon, "seq 3000")
    for task, ours in ((small, False), (large, True)):
        look_at(page, viewer, task)
        expect(follow_button(page)).to_be_hidden()
        page.keyboard.press("Control+f")
        focused = page.evaluate("document.activeElement.name === 'q'")
        assert focused is ours


def test_a_log_can_be_read_by_all_on_screens_of_all_widths(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    colours = "".join(rf"\033[3{n}mtext\033[0m \033[4{n}mground\033[0m \033[7;9{n}minverse\033[0m\n" for n in range(8))
    task = done(daemon, f"printf '{colours}'; seq 3000 | sed 's/$/ {'x' * 300}/'; echo err >&2")
    for more in ("?ts=1&line=1#L2-L3", "/line/9"):
        page.goto(viewer.url + log_of(task, more))
        expect(page.locator(".ln, .ln-whole").first).to_be_visible()
        assert wrong_with(page) == []
