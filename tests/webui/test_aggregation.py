"""Pages over several agents of which one is bad, in every way that it can be."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from benchlib.processes import held_port, until
from tests.daemon.harness import Answer
from webui.visit import PAGE_PATIENCE_S

from .bad_agents import BadAgent, session
from .viewer import RealViewer

#: What a page may take longer because of an agent that does not answer.
ALLOWED_S = 0.5


class Three:
    """Two good agents and a third that is as a test wants, behind one viewer."""

    def __init__(self, place: Path, stack: ExitStack) -> None:
        self.good = stack.enter_context(BadAgent("good", sessions=2, running=7))
        self.bad = stack.enter_context(BadAgent("bad", sessions=1, running=9))
        self.fine = stack.enter_context(BadAgent("fine", sessions=1, running=5))
        agents: dict[str, str | Path] = {each.name: each.url for each in (self.good, self.bad, self.fine)}
        self.viewer = RealViewer(
            place, agents, *self.good.flags(place), *self.bad.flags(place), *self.fine.flags(place)
        )
        stack.callback(self.viewer.end)
        self.viewer.start().log_in()

    def contact(self, path: str = "/") -> dict[str, Any]:
        """How it went with the third."""
        contacts: list[dict[str, Any]] = self.viewer.get(path)["agents"]
        return next(contact for contact in contacts if contact["agent"] == "bad")


@pytest.fixture(scope="module")
def all_three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    with ExitStack() as stack:
        yield Three(tmp_path_factory.mktemp("three"), stack)


@pytest.fixture
def three(all_three: Three) -> Iterator[Three]:
    """All of them good, to begin with."""
    all_three.bad.mode, all_three.viewer.prefer = "good", "wait=30"
    yield all_three
    all_three.bad.mode = "good"


BAD = [
    ("error_500", "error", "http_error"),
    ("html_502", "error", "http_error"),
    ("draining", "error", "not_taken"),
    ("html", "incompatible", "bad_body"),
    ("half_json", "incompatible", "bad_body"),
    ("not_utf8", "incompatible", "bad_body"),
    ("too_deep", "incompatible", "bad_body"),
    ("other_schema", "incompatible", "bad_shape"),
    ("a_list", "incompatible", "bad_shape"),
    ("rows_without_id", "incompatible", "bad_shape"),
    ("redirect", "incompatible", "redirect"),
    ("no_such_route", "incompatible", "no_such_route"),
    ("huge", "incompatible", "too_large"),
    ("endless", "incompatible", "too_large"),
    ("not_http", "incompatible", "bad_body"),
    ("tls_alert", "incompatible", "bad_body"),
    ("endless_head", "incompatible", "bad_body"),
    ("silent", "unreachable", "slow"),
    ("drip", "unreachable", "slow"),
    ("closes", "unreachable", "closed"),
    ("cut_off", "unreachable", "closed"),
    ("token_rejected", "unauthorized", "token_rejected"),
    ("html_401", "unauthorized", "token_rejected"),
    ("forbidden", "unauthorized", "forbidden"),
]


@pytest.mark.parametrize(("mode", "status", "code"), BAD, ids=[mode for mode, _, _ in BAD])
def test_a_bad_agent_is_named_with_its_reason_and_hides_no_other(
    three: Three, mode: str, status: str, code: str
) -> None:
    assert three.viewer.get("/")["partial"] is False
    three.bad.mode = mode

    if code == "slow":  # and so may be, now and then, a good one on a busy machine
        three.viewer.prefer = ""
    found = until(lambda: page if (page := three.viewer.get("/"))["totals"]["unknown"] == 1 else None, 60)
    assert [contact["agent"] for contact in found["agents"]] == ["good", "bad", "fine"]
    assert [contact["status"] for contact in found["agents"]] == ["fresh", status, "fresh"]
    contact = found["agents"][1]
    assert contact["reason_code"] == code
    assert contact["reason"]
    assert contact["tried_at"].endswith("Z")
    assert {row["agent"] for row in found["data"]} == {"good", "fine"}
    assert len(found["data"]) == 3
    assert found["partial"] is True
    assert found["totals"]["running"] == 12
    assert (found["totals"]["unknown"], found["totals"]["agents"]) == (1, 3)

    html = until(lambda: text if "1 of 3 agents unknown" in (text := three.viewer.html("/")) else None, 60)
    assert f'data-unknown="bad" data-reason="{code}"' in html
    assert "12 running" in html
    assert '\n<span class="quiet">(tried' in html  # a space before it, in HTML

    def strict() -> Answer:
        return three.viewer.request("GET", "/?strict=1", Accept="application/json", Prefer=three.viewer.prefer)

    assert strict().status == 503
    until(lambda: len(json.loads(strict().body)["data"]) == 3, 60)


def test_a_page_waits_for_no_agent_longer_than_promised() -> None:
    assert PAGE_PATIENCE_S < ALLOWED_S


def test_strict_is_200_while_all_answer(three: Three) -> None:
    assert three.viewer.get("/?strict=1")["totals"]["running"] == 21


def test_who_asks_with_patience_waits_for_an_agent_that_is_slow_only(three: Three) -> None:
    three.bad.mode = "silent"
    began = time.monotonic()
    answer = three.viewer.request("GET", "/", Accept="application/json", Prefer="wait=1")
    assert time.monotonic() - began > 0.9
    contact = json.loads(answer.body)["agents"][1]
    assert (contact["status"], contact["reason_code"]) == ("unreachable", "read_timeout")
    assert contact["reason"] == "it did not answer within 1 s"


def test_odd_types_where_anything_may_stand_break_no_page(three: Three) -> None:
    three.bad.mode = "odd_types"
    found = three.viewer.get("/")
    assert found["partial"] is False
    row = next(row for row in found["data"] if row["session_id"] == "odd")
    assert row["agent"] == "bad"  # whatever it says itself
    assert row["labels"] == [1, 2]
    assert row["policy"] == 10**30
    assert row["new"]["down"]
    assert found["totals"]["running"] == 12
    assert 'id="row-bad-odd"' in three.viewer.html("/")


def test_states_and_fields_of_a_newer_agent_are_shown_as_they_are(three: Three) -> None:
    three.bad.mode = "odd_words"
    row = next(row for row in three.viewer.get("/")["data"] if row["agent"] == "bad")
    assert (row["state"], row["colour"], row["counts"]) == ("hibernating", "blue", {"paused": 3})
    html = three.viewer.html("/")
    assert 'data-state="hibernating"' in html
    assert "3 paused" in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html


def test_a_clock_three_hours_off_is_said_and_nothing_else_changes(three: Three) -> None:
    three.bad.mode = "off_clock"
    assert abs(three.contact()["skew_ms"] - 3 * 3600 * 1000) < 120_000
    assert three.contact()["status"] == "fresh"
    html = three.viewer.html("/")
    assert 'data-skew="bad"' in html
    assert "ahead of" in html


def test_an_agent_named_twice_in_the_query_is_asked_once(three: Three) -> None:
    assert len(three.viewer.get("/?agent=good&agent=good")["data"]) == 2


def test_a_filter_that_no_agent_takes_is_refused_in_the_words_of_the_agent(viewer: RealViewer) -> None:
    answer = viewer.request("GET", "/?state=bogus", Accept="application/json")
    assert answer.status == 400
    problem = json.loads(answer.body)
    assert problem["code"] == "malformed"
    assert "state" in problem["detail"]


def test_an_agent_that_is_not_there_has_its_own_reason(tmp_path: Path) -> None:
    with BadAgent("plain") as plain, ExitStack() as stack:
        agents: dict[str, str | Path] = {
            "refused": f"http://127.0.0.1:{stack.enter_context(held_port()).getsockname()[1]}",
            "tls": plain.url.replace("http:", "https:"),
            "dns": "http://no-such-host.invalid:80",
            "socket": f"unix://{tmp_path}/no.sock",
            "ended": tmp_path,
            "tokenless": plain.url,
        }
        (tmp_path / "t").write_text("x")
        flags = [
            flag for name in ("refused", "tls", "dns", "socket") for flag in ("--token-file", f"{name}={tmp_path}/t")
        ]
        viewer = RealViewer(tmp_path / "viewer", agents, *flags)
        stack.callback(viewer.end)
        viewer.start().log_in()

        def reasons() -> dict[str, str]:
            answer = viewer.request("GET", "/", Accept="application/json", Prefer="wait=30")
            return {contact["agent"]: contact["reason_code"] for contact in json.loads(answer.body)["agents"]}

        assert reasons() == {
            "refused": "refused",
            "tls": "tls",
            "dns": "dns",
            "socket": "refused",
            "ended": "not_running",
            "tokenless": "no_token",
        }
        html = viewer.html("/")
        for name in agents:
            assert f'data-unknown="{name}"' in html
        assert "/login?agent=tokenless" in html


def test_ten_thousand_sessions_over_three_agents_are_listed_each_once(tmp_path: Path) -> None:
    with ExitStack() as stack:
        agents = [stack.enter_context(BadAgent(name, sessions=each)) for name, each in COUNTS.items()]
        for agent in agents:  # many that changed at the very same time
            for number, row in enumerate(agent.sessions.values()):
                row["updated_at"] = f"2026-01-01T00:00:{number % 50:02}.000000Z"
        targets: dict[str, str | Path] = {agent.name: agent.url for agent in agents}
        viewer = RealViewer(tmp_path, targets, *(flag for agent in agents for flag in agent.flags(tmp_path)))
        stack.callback(viewer.end)
        viewer.start().log_in()
        viewer.html("/")
        seen: list[tuple[str, str]] = []
        times: list[tuple[str, str]] = []
        cursor = ""
        while True:
            found = viewer.get(f"/?limit=1000{cursor}")
            seen += [(row["agent"], row["session_id"]) for row in found["data"]]
            times += [(row["updated_at"], row["session_id"]) for row in found["data"]]
            if len(seen) == 3000:  # what comes at the top meanwhile moves nothing below
                agents[0].sessions["late"] = session("late", 7000)
            if found["next"] is None:
                break
            cursor = f"&cursor={found['next']}"
        assert len(seen) == len(set(seen)) == sum(COUNTS.values())
        assert times == sorted(times, reverse=True)


COUNTS = {"a": 5000, "b": 3500, "c": 1500}


def test_an_agent_that_comes_back_is_whole_again_in_the_next_answer(three: Three) -> None:
    three.bad.mode = "closes"
    assert three.contact()["reason_code"] == "closed"
    three.bad.mode = "good"
    until(lambda: three.contact()["status"] == "fresh", 60)
