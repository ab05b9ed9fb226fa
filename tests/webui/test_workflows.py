"""Workflows: checked before anything starts, run, drawn as they stand, cancelled, resumed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, expect

from tests.daemon.harness import RealDaemon, until
from webui.graph import NODE_HEIGHT, NODE_WIDTH, STEP_X, graph

from .accessible import wrong_with
from .conftest import PATIENT, Watched, enter
from .viewer import RealViewer

NAMED = """name: build <b>
inputs: {what: {default: thing, description: What to build.}}
steps:
  - id: fetch
    run: while [ ! -e go ]; do sleep 0.02; done; echo "file=<i>$WHAT" >> "$AGENTD_OUTPUT"
    env: {WHAT: "${{ inputs.what }}"}
    outputs: [file]
  - id: test
    needs: [fetch]
    matrix: {n: [0, 3]}
    run: "[ -e mended ] || exit ${{ matrix.n }}"
  - id: last
    needs: [test]
    run: echo over
"""
WRONG = "steps:\n  - id: a\n    rum: echo\n  - id: b\n    needs: [nobody]\n    run: echo <b>\n"


def started(daemon: RealDaemon, source: str = NAMED) -> dict[str, Any]:
    """A run in the session `s`."""
    daemon.request("POST", "/sessions", {"session_id": "s", "policy": {"max_parallel": 4}})
    answer = daemon.request("POST", "/sessions/s/workflow", {"source": source})
    assert answer.status == 201, answer.body
    return dict(answer.json)


def let_go(daemon: RealDaemon, name: str = "go") -> None:
    (daemon.data_dir / "sessions/s/workspace" / name).touch()


def path_of(run: dict[str, Any]) -> str:
    return f"/a/one/s/s/w/{run['run_id']}"


def state_of(daemon: RealDaemon, run: dict[str, Any]) -> str:
    return str(daemon.get(f"/sessions/s/workflows/{run['run_id']}")["state"])


def test_a_run_is_drawn_with_live_states_says_where_it_stopped_and_is_resumed(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    run = started(daemon)
    page.goto(viewer.url + path_of(run))
    expect(page.locator("h1")).to_have_text("build <b>")
    nodes = page.locator("svg.graph > a")
    expect(nodes).to_have_count(3)
    expect(nodes.nth(0)).to_have_accessible_name("fetch: running")
    expect(nodes.nth(1)).to_have_accessible_name("test: 2 waiting")
    expect(page.locator("svg.graph path")).to_have_count(2)
    let_go(daemon)
    expect(nodes.nth(1)).to_have_accessible_name("test: 1 completed, 1 failed")
    expect(nodes.nth(2)).to_have_accessible_name("last: skipped")
    expect(page.locator("#where")).to_contain_text("It stopped at test[n=3]")
    expect(page.locator("tr[data-step=fetch]")).to_contain_text("file=<i>thing")
    expect(page.locator("tr[data-step='test[n=3]'] [data-state=failed]")).to_be_visible()
    assert wrong_with(page) == []
    let_go(daemon, "mended")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#standing [data-state=completed]")).to_be_visible()
    expect(nodes.nth(2)).to_have_accessible_name("last: completed")
    page.locator("tr[data-step=last] a").click()
    expect(page.locator("#facts")).to_contain_text("step last of the run")
    page.get_by_role("link", name=f"the run {run['run_id']}").click()
    expect(page).to_have_url(viewer.url + path_of(run))


def test_a_step_that_asks_is_shown_so_with_its_question_until_it_is_answered(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    run = started(daemon, "steps: [{id: approve, run: sleep 600}, {id: other, run: sleep 600}]")
    until(lambda: len(daemon.get("/tasks?state=running")["data"]) == 2)
    page.goto(viewer.url + path_of(run))
    node = page.locator("a[data-step=approve]")
    expect(node).to_have_accessible_name("approve: running")
    steps = daemon.get(f"/workflows/{run['run_id']}")["steps"]
    [task_id] = [each["task_id"] for each in steps if each["id"] == "approve"]
    question = {"ask_id": "q1", "prompt": "Publish <b>?", "options": ["yes", "no"]}
    assert daemon.request("POST", f"/tasks/{task_id}/ask", question).status == 202
    expect(page.locator("#standing")).to_contain_text("awaits an answer approve: Publish <b>?")
    expect(node).to_have_accessible_name("approve: awaits an answer")
    expect(page.locator("a[data-step=other]")).to_have_accessible_name("other: running")
    assert wrong_with(page) == []
    page.locator("#standing").get_by_role("link", name="approve").click()
    page.get_by_role("button", name="yes").click()
    expect(page.locator("#answered")).to_be_visible()
    page.goto(viewer.url + path_of(run))
    expect(node).to_have_accessible_name("approve: running")
    expect(page.locator("#standing")).not_to_contain_text("awaits an answer")


def test_a_run_is_cancelled_whole(viewer: RealViewer, daemon: RealDaemon) -> None:
    run = started(daemon)
    until(lambda: len(daemon.get("/tasks?state=running")["data"]) == 1)
    answer = viewer.post(f"{path_of(run)}/cancel")
    assert (answer.status, answer.headers["location"]) == (303, path_of(run))
    until(lambda: state_of(daemon, run) == "cancelled")
    again = viewer.post(f"{path_of(run)}/cancel")
    assert again.status == 409 and "Cancel the run: not done" in again.body.decode()
    assert "Resume" in viewer.html(path_of(run))


def test_a_file_is_checked_run_and_followed_without_scripts(
    browser: Browser, viewer: RealViewer, daemon: RealDaemon
) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    context = browser.new_context(java_script_enabled=False, extra_http_headers=PATIENT)
    try:
        enter(context, viewer)
        page = context.new_page()
        page.goto(f"{viewer.url}/a/one/s/s")
        page.get_by_role("link", name="Run a workflow").click()
        page.get_by_label("Workflow file").fill(NAMED)
        page.get_by_label("Inputs").fill("what=a b")
        page.get_by_role("button", name="Check").click()
        expect(page.locator("#outline")).to_contain_text("build <b> can be run")
        expect(page.locator("#outline")).to_contain_text("What to build.")
        assert daemon.get("/sessions/s/workflows")["data"] == []
        expect(page.get_by_label("Inputs")).to_have_value("what=a b")
        page.get_by_role("button", name="Run", exact=True).click()
        page.wait_for_url(re.compile("/s/s/w/"))
        expect(page.locator("#facts")).to_contain_text("what=a b")
    finally:
        context.close()
    assert [each["inputs"] for each in daemon.get("/sessions/s/workflows")["data"]] == [{"what": "a b"}]


def test_what_is_wrong_with_a_file_is_said_beside_its_lines_and_nothing_starts(
    viewer: RealViewer, daemon: RealDaemon, page: Page, watched: Watched
) -> None:
    watched.expected.append("422")
    daemon.request("POST", "/sessions", {"session_id": "s"})
    page.goto(f"{viewer.url}/a/one/s/s/workflow")
    for button in ("Check", "Run"):
        page.get_by_label("Workflow file").fill(WRONG)
        page.get_by_role("button", name=button, exact=True).click()
        wrong = page.get_by_role("alert")
        expect(wrong).to_contain_text("line 3, column 5: a step has no key rum; did you mean run?")
        expect(wrong).to_contain_text("line 5, column 13: there is no step nobody")
        expect(wrong.locator("pre .wrong").nth(1)).to_contain_text("3      rum: echo")
        expect(page.get_by_label("Workflow file")).to_have_value(WRONG)
    assert wrong_with(page) == []
    assert daemon.get("/sessions/s/workflows")["data"] == []
    bad = viewer.post("/a/one/s/s/workflow", source=NAMED, inputs="no equals")
    assert bad.status == 422 and "line 1: write KEY=VALUE" in bad.body.decode()
    unknown = viewer.post("/a/one/s/s/workflow", source=NAMED, inputs="nothing=1")
    assert unknown.status == 422 and "nothing" in unknown.body.decode()


def test_a_file_is_chosen_from_disk_and_can_be_changed_before_it_runs(
    viewer: RealViewer, daemon: RealDaemon, page: Page, tmp_path: Path
) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    file = tmp_path / "build.yaml"
    file.write_text("name: größer\nsteps: [{id: a, run: 'true'}]\n")
    page.goto(f"{viewer.url}/a/one/s/s/workflow")
    page.get_by_label("Take it from a file").set_input_files(file)
    source = page.get_by_label("Workflow file")
    expect(source).to_have_value(file.read_text())
    assert wrong_with(page) == []
    source.fill(file.read_text().replace("true", "exit 3"))
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile("/s/s/w/"))
    expect(page.locator("h1")).to_have_text("größer")
    expect(page.locator("#standing [data-state=failed]")).to_be_visible()


def test_a_run_that_completed_is_not_offered_to_be_resumed(viewer: RealViewer, daemon: RealDaemon) -> None:
    run = started(daemon, "steps: [{id: a, run: 'true'}]")
    until(lambda: state_of(daemon, run) == "completed")
    page = viewer.html(path_of(run))
    assert "Edit and run again" in page and "Resume" not in page


def test_one_form_is_one_run_however_often_it_is_sent(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    first, again = (viewer.post("/a/one/s/s/workflow", source=NAMED, key="k1") for _ in range(2))
    assert first.status == 303 and first.headers["location"] == again.headers["location"]
    assert len(daemon.get("/sessions/s/workflows")["data"]) == 1


def test_runs_are_listed_on_the_session_and_on_pages_of_their_own(viewer: RealViewer, daemon: RealDaemon) -> None:
    runs = [started(daemon, "name: quick\nsteps: [{id: a, run: 'true'}]\n") for _ in range(6)]
    shown = viewer.get("/a/one/s/s")["runs"]
    assert [each["run_id"] for each in shown] == [each["run_id"] for each in reversed(runs[1:])]
    assert 'href="/a/one/s/s/w">All its workflows' in viewer.html("/a/one/s/s")
    first = viewer.get("/a/one/s/s/w?limit=4")
    rest = viewer.get(f"/a/one/s/s/w?limit=4&cursor={quote(first['next'])}")
    assert [each["run_id"] for each in first["data"] + rest["data"]] == [each["run_id"] for each in reversed(runs)]


def test_who_may_only_look_sees_a_run_and_changes_nothing(viewer: RealViewer, daemon: RealDaemon) -> None:
    run = started(daemon)
    for role, status in (("viewer", 403), ("operator", 303)):
        link = viewer.command("link", "--role", role).stdout.decode().split()[-1]
        answer = viewer.request("POST", link.removeprefix(viewer.url))
        viewer.cookie = answer.headers["set-cookie"].split(";")[0]
        page = viewer.html(path_of(run))
        assert "build &lt;b&gt;" in page and ("Cancel</button>" in page) is (role == "operator")
        checked = viewer.post("/a/one/s/s/workflow", source=NAMED, check="1")
        assert checked.status == (403 if role == "viewer" else 200)
        assert viewer.post(f"{path_of(run)}/cancel").status == status


def test_a_run_that_is_not_there_says_so(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s"})
    assert viewer.request("GET", "/a/one/s/s/w/nope", Accept="text/html").status == 404
    assert viewer.request("GET", "/a/one/s/none/w", Accept="text/html").status == 404


def step(name: str, *needs: str) -> dict[str, Any]:
    return {"id": name, "step": name, "needs": list(needs), "state": "waiting"}


def test_what_needs_something_is_drawn_right_of_it() -> None:
    drawn = graph([step("c", "b", "a"), step("a"), step("b", "a"), step("d")])
    assert drawn is not None
    column = {node.step: node.x // STEP_X for node in drawn.nodes}
    assert column == {"a": 0, "b": 1, "c": 2, "d": 0}
    assert (drawn.levels, len(drawn.lines), drawn.left_out) == (3, 3, 0)


names = st.sampled_from(["a", "b", "c", "d", "e"])
odd_steps = st.fixed_dictionaries(
    {"id": names, "step": names, "needs": st.one_of(st.none(), st.lists(st.one_of(names, st.integers()), max_size=4))},
    optional={"state": st.one_of(st.none(), st.integers(), st.sampled_from(["running", "odd"]))},
)


@settings(max_examples=200, deadline=None)
@given(st.lists(odd_steps, max_size=8))
def test_any_steps_are_drawn_each_once_and_none_over_another(steps: list[dict[str, Any]]) -> None:
    drawn = graph(steps)
    assert (drawn is None) is (not steps)
    if drawn is not None:
        assert {node.step for node in drawn.nodes} == {each["step"] for each in steps}
        assert len({(node.x, node.y) for node in drawn.nodes}) == len(drawn.nodes)
        assert all(node.x + NODE_WIDTH <= drawn.width for node in drawn.nodes)


line_parts = re.compile(r"M(\d+) (\d+)H(\d+)C(\d+) (\d+) (\d+) (\d+) (\d+) (\d+)")
#: Steps that need some of those before them, so that there is no circle.
sound_steps = st.lists(st.sets(st.integers(1, 7)), max_size=9).map(
    lambda needs: [step(f"s{n}", *(f"s{n - back}" for back in each if back <= n)) for n, each in enumerate(needs)]
)


@settings(max_examples=200, deadline=None)
@given(sound_steps)
def test_no_line_goes_behind_a_node(steps: list[dict[str, Any]]) -> None:
    drawn = graph(steps)
    assert (drawn is None) is (not steps)
    for line in drawn.lines if drawn is not None else ():
        x1, y1, turn, *_, x2, _ = map(int, cast(re.Match[str], line_parts.fullmatch(line)).groups())
        assert x1 <= turn and x2 - turn == STEP_X - NODE_WIDTH  # it bends between two columns
        for node in drawn.nodes if drawn is not None else ():
            between = node.x < turn and x1 < node.x + NODE_WIDTH
            assert not (between and node.y <= y1 <= node.y + NODE_HEIGHT), (line, node)


def test_five_hundred_steps_with_all_the_needs_there_can_be_are_drawn_within_bounds() -> None:
    ids = [f"s{number}" for number in range(501)]
    drawn = graph([step(name, *ids[:number]) for number, name in enumerate(ids)])
    assert drawn is not None
    assert (len(drawn.nodes), len(drawn.lines), drawn.levels) == (500, 2000, 500)
    assert drawn.left_out == 1 + 500 * 499 // 2 - 2000
