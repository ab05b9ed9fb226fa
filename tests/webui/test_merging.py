"""Lists of several agents in pages: each row exactly once, in order, whatever comes and goes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from webui.contact import Contact, Status
from webui.merging import MAX_PAGES, Order, merged
from webui.refusals import Refusal
from webui.rows import Row
from webui.upstream import Agent, Answer
from webui.visit import Visit

from .bad_agents import page_of, session

NAMES = ("a", "b", "c")
AGENTS = tuple(Agent(name=name, url="") for name in NAMES)


class SimulatedVisit(Visit):
    """A visit whose agents are tables of rows; those in `silent` do not answer, and pages have `most` rows at most."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in NAMES}
        self.silent: set[str] = set()
        self.most = 1000
        self.asked = 0
        self.agents = AGENTS
        self.patience_s = 1.0
        self.contacts = {}

    async def ask(self, agent: Agent, path: str, params: Sequence[tuple[str, str]] = (), **_: Any) -> Answer:
        self.asked += 1
        if agent.name in self.silent:
            return Answer(contact=Contact(agent=agent.name, status=Status.UNREACHABLE, tried_at=""))
        query = {name: [value] for name, value in params}
        query["limit"] = [str(min(int(query["limit"][0]), self.most))]
        page = page_of(list(self.tables[agent.name].values()), query)
        contact = Contact(agent=agent.name, status=Status.FRESH, tried_at="")
        return Answer(contact=contact, http_status=200, value=page)

    def page(self, order: Order, limit: int, cursor: str | None) -> tuple[list[Row], str | None]:
        return asyncio.run(merged(self, AGENTS, "/sessions", [], order, limit=limit, cursor=cursor))


class Paging(RuleBasedStateMachine):
    """Someone reads page by page while sessions come, change and go, and agents fall silent and answer again."""

    def __init__(self) -> None:
        super().__init__()
        self.visit = SimulatedVisit()
        self.stable: set[tuple[str, str]] = set()  # there from the first page to the last, and unchanged
        self.seen: list[tuple[str, str]] = []
        self.cursor: str | None = None
        self.done = False
        self.number = 0

    @initialize(
        counts=st.tuples(*[st.integers(0, 12)] * 3),
        times=st.lists(st.integers(0, 6), min_size=36, max_size=36),
        sort=st.sampled_from(["-updated_at", "updated_at", "session_id"]),
        limit=st.integers(1, 7),
        most=st.sampled_from([2, 1000]),
    )
    def begin(self, counts: tuple[int, int, int], times: list[int], sort: str, limit: int, most: int) -> None:
        self.order = Order(sort, "session_id")
        self.limit = limit
        self.visit.most = most
        for name, count in zip(NAMES, counts, strict=True):
            for _ in range(count):
                self._add(name, times[self.number % len(times)])
        self.stable = {(name, row) for name, table in self.visit.tables.items() for row in table}
        self._read()

    def _add(self, name: str, second: int) -> str:
        self.number += 1
        session_id = f"s{self.number * 7 % 101:03}{name}"
        self.visit.tables[name][session_id] = session(session_id, second)
        return session_id

    def _read(self) -> None:
        rows, following = self.visit.page(self.order, self.limit, self.cursor)
        assert len(rows) <= self.limit
        keys = [self.order.key(row) for row in rows]
        assert keys == sorted(keys, reverse=self.order.descends)
        self.seen += [(row["agent"], row["session_id"]) for row in rows]
        self.cursor = following
        self.done = following is None

    @precondition(lambda self: not self.done)
    @rule()
    def read_on(self) -> None:
        self._read()

    @rule(name=st.sampled_from(NAMES), second=st.integers(0, 9))
    def one_comes(self, name: str, second: int) -> None:
        self._add(name, second)

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 100))
    def one_goes(self, name: str, which: int) -> None:
        table = self.visit.tables[name]
        if table:
            gone = sorted(table)[which % len(table)]
            del table[gone]
            self.stable.discard((name, gone))

    @rule(name=st.sampled_from(NAMES), which=st.integers(0, 100), second=st.integers(0, 9))
    def one_changes(self, name: str, which: int, second: int) -> None:
        table = self.visit.tables[name]
        if table:
            changed = sorted(table)[which % len(table)]
            table[changed] = session(changed, second)
            self.stable.discard((name, changed))

    @precondition(lambda self: not self.done)
    @rule(name=st.sampled_from(NAMES))
    def one_falls_silent_for_a_page(self, name: str) -> None:
        before = self.cursor, list(self.seen)
        self.visit.silent = {name}
        self._read()
        self.visit.silent = set()
        if self.done:  # nothing was ever heard of that one: the page is partial, and read again
            self.cursor, self.seen = before
            self._read()

    def teardown(self) -> None:
        for _ in range(1000):
            if self.done:
                break
            self._read()
        assert self.done
        unmoved = [key for key in self.seen if key in self.stable]
        assert len(unmoved) == len(set(unmoved))
        assert set(unmoved) == self.stable


Paging.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestPaging = Paging.TestCase


NEWEST = Order("-updated_at", "session_id")


def test_an_agent_that_was_silent_for_a_page_goes_on_where_it_was() -> None:
    visit = SimulatedVisit()
    for at, name in enumerate("aabb"):
        visit.tables[name][f"{name}{at}"] = session(f"{name}{at}", at)
    first, cursor = visit.page(NEWEST, 1, None)
    visit.silent = {"b"}
    second, cursor = visit.page(NEWEST, 1, cursor)
    visit.silent = set()
    rest, following = visit.page(NEWEST, 10, cursor)
    assert [row["session_id"] for row in [*first, *second, *rest]] == ["b3", "a1", "b2", "a0"]
    assert following is None


def test_many_new_rows_before_the_place_of_an_agent_do_not_bring_back_what_was_shown() -> None:
    visit = SimulatedVisit()
    for at, name in enumerate("aaba"):
        visit.tables[name][f"{name}{at}"] = session(f"{name}{at}", at)
    shown, cursor = visit.page(NEWEST, 2, None)
    for at in range(10, 10 + 2 * MAX_PAGES):
        visit.tables["a"][f"a{at}"] = session(f"a{at}", at)
    while cursor is not None:
        rows, cursor = visit.page(NEWEST, 2, cursor)
        shown += rows
    assert [row["session_id"] for row in shown] == ["a3", "b2", "a1", "a0"]


def test_an_agent_whose_pages_are_empty_for_ever_holds_up_nobody() -> None:
    class Empty(SimulatedVisit):
        async def ask(self, agent: Agent, path: str, params: Sequence[tuple[str, str]] = (), **_: Any) -> Answer:
            if agent.name != "a":
                return await super().ask(agent, path, params)
            self.asked += 1
            contact = Contact(agent="a", status=Status.FRESH, tried_at="")
            return Answer(contact=contact, http_status=200, value={"data": [], "next": "again"})

    visit = Empty()
    visit.tables["b"]["b1"] = session("b1", 1)
    rows, following = visit.page(NEWEST, 10, None)
    assert [row["session_id"] for row in rows] == ["b1"]
    assert following is not None
    assert visit.asked == MAX_PAGES + 2


@pytest.mark.parametrize("cursor", ["x", "\u00e9", "bnVsbA", "e30", "W10", "A" * 5000])
def test_a_cursor_that_is_none_is_refused_with_the_remedy(cursor: str) -> None:
    with pytest.raises(Refusal, match="cursor: is not a cursor of this list") as error:
        SimulatedVisit().page(NEWEST, 10, cursor)
    assert error.value.hint == "Start again without it."


def test_a_cursor_of_another_order_is_refused() -> None:
    visit = SimulatedVisit()
    for at in range(3):
        visit.tables["a"][f"a{at}"] = session(f"a{at}", at)
    _, cursor = visit.page(NEWEST, 1, None)
    with pytest.raises(Refusal):
        visit.page(Order("session_id", "session_id"), 1, cursor)


def test_a_list_does_not_end_where_an_agent_fell_silent_in_the_middle_of_it() -> None:
    visit = SimulatedVisit()
    for at in range(4):
        visit.tables["a"][f"a{at}"] = session(f"a{at}", at)
    _, cursor = visit.page(NEWEST, 2, None)
    visit.silent = set(NAMES)
    rows, following = visit.page(NEWEST, 2, cursor)
    assert rows == []
    visit.silent = set()
    assert [row["session_id"] for row in visit.page(NEWEST, 2, following)[0]] == ["a1", "a0"]
