"""The page of a log, as a browser without scripts and a program have it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser

from tests.daemon.harness import RealDaemon, until
from tests.written import written

from .conftest import PATIENT, MakeViewer, enter
from .log_pages import done, log_of
from .scripted_agent import ScriptedAgent
from .viewer import RealViewer


def rows(text: str) -> list[str]:
    """The numbers of the lines that a page or fragment has."""
    return re.findall(r'id="L(\d+)"', text)


def test_a_log_is_shown_with_its_colours_and_nothing_in_it_is_taken_for_html(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = done(daemon, r"printf '\033[31mred <b>&\nstill\033[0m plain\n'")
    found = viewer.html(log_of(task))
    assert '<span class="f1">red &lt;b&gt;&amp;</span></div>' in found
    assert '<span class="f1">still</span> plain</div>' in found
    assert viewer.get(log_of(task))["log"]["total_lines"] == 2


def test_the_colours_of_a_window_are_those_that_the_lines_before_it_left(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = done(daemon, r"printf '\033[1;32m'; seq 5000")
    found = viewer.request("GET", log_of(task, "/lines?line=4000&count=1"), Accept="text/html").body.decode()
    assert '<span class="bo f2">4000</span>' in found


def test_progress_shows_its_last_state_and_bad_utf8_its_place(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, r"printf '10%%\r55%%\r100%%\nbad \377 byte\n\007bell\n'")
    found = viewer.html(log_of(task))
    assert ">1</a>100%</div>" in found
    assert ">2</a>bad \ufffd byte</div>" in found
    assert ">3</a>\u2407bell</div>" in found


def test_stdout_and_stderr_are_told_apart_and_each_can_be_seen_alone(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, f"echo good; {written(5)}; echo bad >&2")
    assert 'class="ln err" id="L2"' in viewer.html(log_of(task))
    for stream, text in (("out", "good"), ("err", "bad")):
        found = viewer.get(log_of(task, f"?stream={stream}"))["log"]
        assert [line["text"] for line in found["lines"]] == [text]
        assert viewer.request("GET", log_of(task, f"/raw?stream={stream}")).body == f"{text}\n".encode()


def test_times_are_shown_when_they_are_asked_for(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "echo a")
    assert "<time datetime" not in viewer.html(log_of(task, "/lines?attempt=1"))
    at = daemon.get(f"/tasks/{task['task_id']}/output/lines?detail=true")["lines"][0]["at"]
    assert f'<time datetime="{at}" title="{at}">{at[11:23]}</time>' in viewer.html(log_of(task, "/lines?ts=1"))


def test_a_log_of_up_to_two_thousand_lines_is_one_page(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "seq 1700")
    assert rows(viewer.html(log_of(task))) == [str(n) for n in range(1, 1701)]


def test_a_large_log_is_read_page_by_page_without_scripts(
    viewer: RealViewer, daemon: RealDaemon, browser: Browser
) -> None:
    task = done(daemon, "seq 5000")
    context = browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT)
    try:
        enter(context, viewer)
        page = context.new_page()
        page.goto(viewer.url + log_of(task))
        assert page.locator(".ln").count() == 200
        assert page.locator("#L5000").is_visible()
        page.get_by_role("link", name="Lines before").click()
        assert page.locator(".ln").first.get_attribute("id") == "L4601"
        page.get_by_role("link", name="First lines").click()
        page.get_by_role("link", name="Next lines").click()
        assert page.locator(".ln").first.get_attribute("id") == "L201"
        page.get_by_label("Search the log").fill("999")
        page.get_by_role("button", name="Find").click()
        assert "5 lines" in page.locator("#log-found").inner_text()
        page.get_by_role("link", name="Line 1999", exact=True).click()
        assert page.locator("#L1999").is_visible()
    finally:
        context.close()


def test_a_line_that_is_not_there_yet_shows_the_end(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "seq 5000")
    assert rows(viewer.html(log_of(task, "?line=70000")))[-1] == "5000"


def test_a_search_finds_all_there_is_forwards_and_back(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "seq 1 30000; echo Needle; seq 1 30000; echo needle")
    find = log_of(task, "/search?attempt=1&q=")
    found = viewer.get(find + "NEEDLE")
    assert (found["total"], found["first"], [m["line"] for m in found["matches"]]) == (2, 1, [30001, 60002])
    assert viewer.get(find + "needle&case=1")["total"] == 1
    found = viewer.get(find + "7&from=40000&limit=2")
    assert found["first"] == 1 + sum("7" in str(n) for n in range(1, 30001)) + sum(
        "7" in str(n) for n in range(1, 40000 - 30001)
    )
    for before in (2, 100, 6000, 30001, 30010, 59999, 60003):
        found = viewer.get(f"{find}1&before={before}&limit=3")
        numbers = [*range(1, 30001), 0, *range(1, 30001), 0]
        having = [line for line, n in enumerate(numbers[: before - 1], 1) if "1" in str(n)]
        assert [m["line"] for m in found["matches"]] == having[-3:]
        assert found["first"] == max(1, len(having) - 2)


def test_the_nearest_match_before_a_line_is_found_behind_many_others(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "yes hit | head -n 20000; yes none | head -n 70000; yes hit | head -n 3000")
    found = viewer.get(log_of(task, "/search?attempt=1&q=hit&before=89000&limit=1"))
    assert (found["matches"][0]["line"], found["first"], found["total"]) == (20000, 20000, 23000)


def test_the_raw_log_is_the_file_itself_whole_in_ranges_and_by_lines(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, r"seq 100000; printf '\000\377\r<b>no line feed'")
    (file,) = daemon.data_dir.glob(f"sessions/s/output/{task['task_id']}.1.log")
    raw = viewer.request("GET", log_of(task, "/raw"))
    assert raw.body == file.read_bytes()
    assert raw.headers["content-disposition"] == f'attachment; filename="{task["task_id"]}.1.log"'
    assert (raw.headers["content-type"], raw.headers["x-content-type-options"]) == (
        "text/plain; charset=utf-8",
        "nosniff",
    )
    part = viewer.request("GET", log_of(task, "/raw"), Range="bytes=10-19")
    assert (part.status, part.body) == (206, file.read_bytes()[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{file.stat().st_size}"
    lines = viewer.request("GET", log_of(task, "/raw?lines=99-101"))
    assert (lines.status, lines.body) == (200, b"99\n100\n101\n")
    assert viewer.request("GET", log_of(task, "/raw?lines=100001-100009")).body == b"\0\xff\r<b>no line feed"
    assert viewer.request("GET", log_of(task, "/raw?lines=200000-200001")).body == b""
    assert viewer.request("GET", log_of(task, "/raw"), Range="bytes=99999999-").status == 416


def test_a_line_of_100_mb_is_cut_and_opens_in_pieces(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, r"head -c 100000000 /dev/zero | tr '\0' x; printf 'é\nnext\n'")
    page = viewer.html(log_of(task))
    assert len(page) < 40_000
    where = re.search(r'<a class="whole" href="([^"]+)">whole line, 95.4 MiB</a>', page)
    assert where is not None
    first = viewer.html(where[1])
    assert "piece 1 of 382" in first
    assert first.count("x") >= 256 << 10
    last = viewer.get(where[1] + "&piece=382")
    assert last["text"] == "x" * (100_000_000 - 381 * (256 << 10)) + "é"
    assert viewer.request("GET", where[1] + "&piece=383", Accept="text/html").status == 404


def test_what_cannot_be_is_refused_by_name(viewer: RealViewer, daemon: RealDaemon) -> None:
    task = done(daemon, "echo a")
    for more, status, says in (
        ("?line=x", 400, "line: must be a whole number"),
        ("?attempt=0", 400, "attempt: must be a whole number from 1"),
        ("?stream=in", 400, "stream: 'in' is not one of"),
        ("?attempt=7", 422, "attempt"),
        ("/lines?count=5000", 400, "count: must be a whole number from 1 to 1000"),
        ("/search?attempt=1&q=", 400, "q: must be 1 to 1000 characters"),
        ("/search?attempt=1&q=a%0Ab", 400, "q: must be 1 to 1000 characters"),
        ("/raw?lines=9-3", 400, "lines: '9-3' is not FIRST-LAST"),
        ("/line/99", 404, "none is 99"),
        ("/line/0", 404, "no page"),
    ):
        answer = viewer.request("GET", log_of(task, more), Accept="application/json")
        assert (answer.status, says in answer.json["detail"]) == (status, True), (more, answer.body)
    for log in ("one/x/1/in", "one/x", "two/x/1", "one/x/-1"):
        assert viewer.request("GET", f"/live?log={log}", Accept="application/json").status in (400, 404)


def test_the_log_of_a_task_that_has_not_begun_is_empty_and_says_so(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.shell("s", "sleep 100")
    task = daemon.shell("s", "echo late")
    found = viewer.get(log_of(task))["log"]
    assert (found["attempt"], found["total_lines"], found["state"]) == (0, 0, "queued")
    assert viewer.request("GET", log_of(task, "/raw")).body == b""


def test_an_agent_that_is_gone_is_said_to_be_and_no_script_is_left_guessing(
    viewer: RealViewer, daemon: RealDaemon
) -> None:
    task = done(daemon, "echo a")
    daemon.kill9()
    until(lambda: viewer.get("/")["agents"][0]["reason_code"] == "not_running")
    found = viewer.get(log_of(task))
    assert (found["log"], found["partial"]) == (None, True)
    assert "data-nothing" in viewer.html(log_of(task))
    for more in ("/lines?attempt=1", "/search?attempt=1&q=a", "/raw?attempt=1"):
        answer = viewer.request("GET", log_of(task, more), Accept="application/json")
        assert (answer.status, answer.json["code"]) == (502, "not_running")


def test_an_agent_that_tells_odd_things_of_a_log_is_shown_as_far_as_it_makes_sense(
    make_viewer: MakeViewer, tmp_path: Path
) -> None:
    odd = {"line": 1, "text": "<i>odd</i>", "offset": "x", "length": None, "at": 7, "stream": [], "new": {}}
    task = {"task_id": "t", "session_id": "s", "state": "pondering", "attempt": 1, "attempts": "many"}
    window = {"lines": [odd], "total_lines": 1500, "size": 10, "sgr": 5, "ended": "no"}
    answers: dict[str, Any] = {"/tasks/t": task, "/tasks/t/output/lines": window}
    with ScriptedAgent(answers) as agent:
        viewer = make_viewer({"one": agent.url}, *agent.flags(tmp_path, "one")).start().log_in()
        at = log_of({"session_id": "s", "task_id": "t"})
        found = viewer.html(at + "?ts=1")
        assert "&lt;i&gt;odd&lt;/i&gt;</div>" in found
        assert 'data-state="pondering"' in found
        bad: list[Any] = [{**window, "lines": ["x"]}, {**window, "lines": [{}]}, {**window, "total_lines": "2"}, [], 7]
        for wrong in bad:
            answers["/tasks/t/output/lines"] = wrong
            found = viewer.get(at)
            assert (found["log"], found["agents"][0]["reason_code"]) == (None, "bad_shape"), wrong
            assert viewer.request("GET", at + "/lines?attempt=1", Accept="text/html").status == 502
        answers["/tasks/t/output/search"] = {"matches": 7}
        refused = viewer.request("GET", at + "/search?attempt=1&q=a", Accept="application/json")
        assert (refused.status, refused.json["code"]) == (502, "bad_shape")
        assert viewer.request("GET", log_of({"session_id": "other", "task_id": "t"}), Accept="text/html").status == 404
