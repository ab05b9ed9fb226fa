"""What tasks used and how far they are: progress and phases, tokens and cost, budgets, and tasks that tasks submit."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from tests.daemon.harness import RealDaemon, until
from webui.phases import phases
from webui.rows import Row, rowed
from webui.spending import limits, spent
from webui.tasklist import nested

from .accessible import wrong_with
from .viewer import RealViewer

NOW = datetime(2030, 1, 1, 0, 1, tzinfo=UTC)


def path_of(task: dict[str, Any]) -> str:
    return f"/a/one/s/{task['session_id']}/t/{task['task_id']}"


def running(daemon: RealDaemon, command: str = "sleep 600", **fields: Any) -> dict[str, Any]:
    task = daemon.shell("s", command, **fields)
    return daemon.state(task["task_id"], "running")


def tell(daemon: RealDaemon, task: dict[str, Any], **progress: Any) -> None:
    answer = daemon.request("POST", f"/tasks/{task['task_id']}/progress", progress)
    assert answer.status == 200, answer.body


def test_phases_are_told_with_how_long_each_took(viewer: RealViewer, daemon: RealDaemon, page: Page) -> None:
    task = running(daemon)
    tell(daemon, task, progress=10, phase="<i>fetch")
    tell(daemon, task, progress=30, items_processed=3, items_failed=1)
    page.goto(viewer.url + path_of(task))
    expect(page.locator("#progress")).to_contain_text("30 % <i>fetch for")
    expect(page.locator("#progress")).to_contain_text("3 items done 1 item failed")
    expect(page.get_by_role("progressbar", name="Progress")).to_have_text("30 %")
    tell(daemon, task, phase="build")
    expect(page.locator("#phases li")).to_have_count(2)
    expect(page.locator("#phases li").nth(1).locator("time")).to_be_visible()
    daemon.request("POST", f"/tasks/{task['task_id']}/cancel")
    daemon.wait(task["task_id"])
    expect(page.locator("#phases time")).to_have_count(0)
    expect(page.locator("#phases li").nth(0)).to_contain_text("<i>fetch")
    assert wrong_with(page) == []


def event(kind: str, second: int, phase: str | None = None, task_id: str = "t") -> dict[str, Any]:
    return {"type": kind, "task_id": task_id, "at": f"2030-01-01T00:00:{second:02}Z", "phase": phase}


def told(*events: dict[str, Any]) -> list[tuple[str, float, bool]]:
    return [(each.name, each.took_s, each.goes_on) for each in phases(rowed(list(events)), "t", NOW)]


def test_a_phase_lasts_until_the_next_or_the_end_of_the_latest_attempt() -> None:
    first = [event("task.started", 1), event("task.progress", 2, "a"), event("task.progress", 5, "b")]
    assert told(*first) == [("a", 3, False), ("b", 55, True)]
    assert told(*first, event("task.progress", 6, "b"), event("task.progress", 7, "x", "other")) == told(*first)
    assert told(*first, event("task.finished", 9)) == [("a", 3, False), ("b", 4, False)]
    again = [event("task.retried", 9), event("task.started", 10), event("task.progress", 20, "c")]
    assert told(*first, *again) == [("c", 40, True)]
    assert told() == []


def test_what_a_model_used_stands_with_its_attempt_and_in_the_sum_of_the_session(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    task = running(daemon)
    used = {"input_tokens": 1200, "output_tokens": 34, "cost_usd": 0.0125, "turns": 3}
    tell(daemon, task, usage=used)
    page.goto(viewer.url + path_of(task))
    for text in ("1,200 tokens in", "34 tokens out", "0.0125 USD", "3 turns"):
        expect(page.locator("#attempt-1")).to_contain_text(text)
    daemon.request("POST", f"/tasks/{task['task_id']}/cancel")
    daemon.wait(task["task_id"])
    page.goto(f"{viewer.url}/a/one/s/s")
    for text in ("1 attempt", "1,200 tokens in", "0.0125 USD", "of processors"):
        expect(page.locator("#usage")).to_contain_text(text)
    assert wrong_with(page) == []


def test_a_budget_shows_what_is_left_and_that_it_is_used_up_and_the_queue_says_what_holds_it(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    policy = {"budget": {"max_cost_usd": 2.0, "max_tokens": 1000}}
    daemon.request("POST", "/sessions", {"session_id": "s", "policy": policy})
    task = running(daemon)
    waiting = daemon.shell("s", "true")
    tell(daemon, task, usage={"cost_usd": 0.5, "input_tokens": 300})
    page.goto(f"{viewer.url}/a/one/s/s")
    expect(page.locator("#budget-max_cost_usd")).to_contain_text("0.50 USD of 2.00 USD (max_cost_usd), 1.50 USD left")
    expect(page.locator("#budget-max_tokens")).to_contain_text("300 of 1,000 (max_tokens), 700 left")
    tell(daemon, task, usage={"cost_usd": 2.5, "input_tokens": 300})
    expect(page.locator("#budget-max_cost_usd")).to_contain_text("used up")
    ended = daemon.wait(task["task_id"])
    assert ended["cause"]["code"] == "budget"
    assert wrong_with(page) == []
    page.goto(f"{viewer.url}/queue")
    expect(page.locator(f"#row-one-{waiting['task_id']}")).to_contain_text("max_cost_usd")
    assert "used up its budget" in viewer.html(path_of(ended))
    page.goto(f"{viewer.url}/a/one/s/s")
    page.locator("#budget-max_cost_usd").get_by_role("link", name="edit it").click()
    page.get_by_label("Cost (USD)").fill("20")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#budget-max_cost_usd")).to_contain_text("2.50 USD of 20.00 USD (max_cost_usd), 17.50 USD left")
    assert daemon.wait(waiting["task_id"])["state"] == "completed"


def test_a_budget_of_nothing_is_shown_as_used_up(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.request("POST", "/sessions", {"session_id": "s", "policy": {"budget": {"max_tokens": 0}}})
    assert "0 of 0 (max_tokens): used up" in viewer.html("/a/one/s/s")


def test_what_no_model_was_asked_for_is_not_among_what_was_used(viewer: RealViewer, daemon: RealDaemon) -> None:
    daemon.wait(daemon.shell("s", "echo hello")["task_id"])
    used = re.search(r'<section id="usage">(.*?)</section>', viewer.html("/a/one/s/s"), re.DOTALL)
    assert used is not None and "1 attempt" in used[1] and "6 B output" in used[1]
    assert "tokens" not in used[1] and "USD" not in used[1] and " 0 B" not in used[1]


def test_a_sub_task_is_found_however_many_others_there_are(viewer: RealViewer, daemon: RealDaemon) -> None:
    parent = running(daemon, "printenv AGENTD_TOKEN > token; sleep 600")
    file = daemon.data_dir / "sessions/s/workspace/token"
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    other = {"kind": "shell", "spec": {"command": "true"}, "session_id": "s", "not_before": "2100-01-01T00:00:00Z"}
    assert daemon.request("POST", "/tasks", [other] * 100).status == 201
    token = f"Bearer {file.read_text().strip()}"
    child = daemon.request("POST", "/sessions/s/task", {**other, "name": "the child"}, Authorization=token).json
    assert f'id="child-{child["task_id"]}"' in viewer.html(path_of(parent))


def test_a_sub_task_and_the_one_that_submitted_it_lead_to_each_other(
    viewer: RealViewer, daemon: RealDaemon, page: Page
) -> None:
    parent = running(daemon, "printenv AGENTD_TOKEN > token; sleep 600", name="the parent")
    file = daemon.data_dir / "sessions/s/workspace/token"
    until(lambda: file.exists() and file.read_text().endswith("\n"))
    new = {"kind": "shell", "spec": {"command": "sleep 600"}, "name": "the child"}
    made = daemon.request("POST", "/sessions/s/task", new, Authorization=f"Bearer {file.read_text().strip()}")
    assert made.status == 201, made.body
    child = made.json
    stranger = daemon.shell("s", "true", name="a stranger")
    page.goto(viewer.url + path_of(parent))
    expect(page.locator("#children li")).to_have_count(1)
    page.locator("#children").get_by_role("link", name="the child").click()
    expect(page.locator("#facts")).to_contain_text("Sub-task of")
    expect(page.locator("#facts")).to_contain_text("depth 1")
    page.locator("#facts").get_by_role("link", name=parent["task_id"]).click()
    expect(page).to_have_url(viewer.url + path_of(parent))
    page.goto(f"{viewer.url}/a/one/s/s")
    rows = page.locator("#tasks tr[data-row]")
    expect(rows).to_have_count(3)
    assert rows.nth(1).get_attribute("id") == f"row-{child['task_id']}"
    expect(rows.nth(1).locator("td.under-1")).to_contain_text("sub-task the child")
    assert rows.nth(2).get_attribute("id") == f"row-{stranger['task_id']}"
    assert wrong_with(page) == []


def test_what_runs_counts_for_a_budget_as_far_as_it_told() -> None:
    attempt = {"started_at": "2030-01-01T00:00:30Z", "usage": {"cost_usd": 1, "input_tokens": 5, "output_tokens": None}}
    tasks = [
        {"state": "running", "attempts": [attempt]},
        {"state": "completed", "attempts": [attempt]},
        {"state": "running", "attempts": [{"started_at": "soon", "usage": 7}]},
    ]
    found = spent({"cost_usd": 0.5, "input_tokens": 10, "output_tokens": 1, "wall_s": 5}, tasks, NOW)
    assert found == (1.5, 16, 35)
    budget = {"max_cost_usd": 1, "max_tokens": 20, "max_wall_s": None}
    assert [(each.name, each.used, each.left) for each in limits(budget, found)] == [
        ("max_cost_usd", 1.5, 0),
        ("max_tokens", 16, 4),
    ]
    assert limits(None, spent(None, [], NOW)) == []


ids = st.sampled_from(["a", "b", "c", "d", "e"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(ids, st.one_of(st.none(), ids, st.integers()), max_size=5))
def test_every_task_is_listed_once_whatever_its_parent_is(parents: dict[str, Any]) -> None:
    rows = [Row(task_id=task_id, parent_id=parent) for task_id, parent in parents.items()]
    found = nested(rows)
    assert sorted(row["task_id"] for row, _ in found) == sorted(parents)
    depths = {row["task_id"]: depth for row, depth in found}
    for row, depth in found:
        assert depth == 0 or depths[row["parent_id"]] == depth - 1
