"""A real viewer and three real agents, each in a network namespace of its own, with bad lines between them.

Whatever a line does, pages say what is so, or since when it is not known; streams go on without a gap or a double;
what is posted over it, again and again with one Idempotency-Key, is done once; and when it is fair again all is well.
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

from benchlib.daemon import LIVE
from faultlib.lossy_link import FAIR, Link, Weather, inside, namespaces, why_not
from faultlib.report import Report
from tests.daemon.harness import RealDaemon, until
from tests.webui.viewer import RealViewer, token_flags

WEATHERS = {
    "20 % lost": Weather(loss=0.2),
    "200 ms late, out of order": Weather(delay_s=0.2, jitter_s=0.1),
    "doubled, 10 % lost": Weather(loss=0.1, double=0.3, jitter_s=0.01),
    "100 kbit/s": Weather(bytes_s=12_500),
    "cut": Weather(there=False, back=False),
    "cut one way": Weather(back=False),
    "30 % lost, 200 ms late": Weather(loss=0.3, delay_s=0.2, jitter_s=0.05),
}
#: How long each weather lasts; and how long healing may take at most, which a busy machine makes long.
LASTS_S, QUICK_LASTS_S = 20.0, 3.0
HEALS_S = 90.0
#: Between two changes at an agent.
CHANGE_S = 0.05
#: How long a page may take, beside the 0.4 s it gives agents: nothing here is timed on a busy machine.
PAGE_S = 30.0


def run(directory: Path, quick: bool) -> Report:
    """Three links at a time, each with another weather."""
    if (reason := why_not()) is not None:
        return Report("links", skipped=reason)
    with ExitStack() as stack:
        names = stack.enter_context(namespaces(4))
        stack.enter_context(inside(names[0]))
        links = [Link(names[0], far, number, seed=number) for number, far in enumerate(names[1:], 1)]
        for link in links:
            stack.callback(link.close)
        agents: dict[str, FarAgent] = {}
        for link, name in zip(links, names[1:], strict=True):
            agent = agents[link.far] = FarAgent(directory / link.far, link.far)
            stack.callback(agent.end)
            with inside(name):
                agent.start()
            agent.request("POST", "/sessions", {"session_id": "s"})
        flags = [flag for name, agent in agents.items() for flag in token_flags(directory, name, agent.token)]
        viewer = RealViewer(directory / "viewer", {name: a.agent["url"] for name, a in agents.items()}, *flags)
        stack.callback(viewer.end)
        viewer.prefer = ""  # a page says at once what it does not know
        viewer.start().log_in()
        trial = Trial(viewer, agents)
        weathers = list(WEATHERS.items())[: 6 if quick else None]
        rounds = [weathers[n : n + 3] for n in range(0, len(weathers), 3)]
        for weather in rounds:
            trial.live_through(links, weather, QUICK_LASTS_S if quick else LASTS_S)
        trial.settle()
        viewer.end()
        trial.close()
        lost = sum(link.lost for link in links)
        carried = sum(link.packets for link in links)
    tried = (
        f"{len(weathers)} weathers, {carried:,} packets carried and {lost:,} lost, {trial.pages} pages, "
        f"{trial.seen:,} events, {trial.posts} posts; well again within {trial.healed_s:.1f} s"
    )
    return Report("links", tried, trial.wrong)


class FarAgent(RealDaemon):
    """A daemon behind a link; the test itself reaches it by its unix socket, which no weather touches."""

    def __init__(self, data_dir: Path, address: str) -> None:
        self.socket = str(data_dir.with_suffix(".sock"))
        super().__init__(data_dir, http={"host": address, "allow_remote": True, "socket": self.socket})

    def connect(self) -> None:
        self.connection = _OverUnixSocket(self.socket)


class _OverUnixSocket(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


class Trial:
    """What is done through the viewer while the lines are bad, and what was wrong with it."""

    def __init__(self, viewer: RealViewer, agents: dict[str, FarAgent]) -> None:
        self.wrong: list[str] = []
        self.pages = self.posts = 0
        self.healed_s = 0.0
        self._viewer = viewer
        self._agents = agents
        self._events: dict[str, list[int]] = defaultdict(list)
        self._csrf = viewer.csrf
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._ready = threading.Event()
        self._reader.start()
        if not self._ready.wait(HEALS_S):
            raise TimeoutError("no stream from every agent")

    @property
    def seen(self) -> int:
        return sum(map(len, self._events.values()))

    def live_through(self, links: list[Link], weathers: list[tuple[str, Weather]], lasts_s: float) -> None:
        """Bad weather on every line for a while, then fair weather until all is well."""
        for link, (_, weather) in zip(links, weathers, strict=False):
            link.weather = weather
        posting = [threading.Thread(target=self._post, args=(name,)) for name in self._agents]
        for thread in posting:
            thread.start()
        end = time.monotonic() + lasts_s
        changed = 0
        while time.monotonic() < end:
            for agent in self._agents.values():
                changed += 1
                agent.request("PATCH", "/sessions/s", {"title": f"change {changed}"})
            if changed % 15 == 0:
                self._look()
            time.sleep(CHANGE_S)
        for link in links:
            link.weather = FAIR
        began = time.monotonic()
        until(lambda: not self._look()["partial"], HEALS_S)
        for name, agent in self._agents.items():
            now = agent.get("/sessions/s")["seq"]
            until(lambda name=name, now=now: self._events[name][-1:] >= [now], HEALS_S)  # type: ignore[misc]
        self.healed_s = max(self.healed_s, time.monotonic() - began)
        for thread in posting:
            thread.join(HEALS_S)
            if thread.is_alive():
                self.wrong.append(f"{[name for name, _ in weathers]}: a post was not answered after the weather")

    def settle(self) -> None:
        """Wait until all has arrived, and compare."""
        for name, agent in self._agents.items():
            until(lambda agent=agent: not agent.get(f"/tasks?{LIVE}")["data"], HEALS_S)  # type: ignore[misc]
            told = [event["seq"] for event in _journal(agent)]
            until(lambda name=name, told=told: self._events[name][-1:] == told[-1:], HEALS_S)  # type: ignore[misc]
            if self._events[name] != told:
                doubled = [seq for seq, times in Counter(self._events[name]).items() if times > 1]
                missing = sorted(set(told) - set(self._events[name]))
                self.wrong.append(f"{name}: events doubled {doubled[:9]}, missing {missing[:9]}, or out of order")
            tasks = agent.get("/sessions/s/tasks?limit=1000")["data"]
            times = Counter(task["labels"]["post"] for task in tasks)
            if len(tasks) * len(self._agents) != self.posts or set(times.values()) != {1}:
                self.wrong.append(f"{name}: of {self.posts} posts to all these were done: {dict(times)}")

    def close(self) -> None:
        """Let the reader end; the viewer has."""
        self._reader.join(HEALS_S)

    def _look(self) -> Any:
        """A page: it comes, and says of each agent that it answered, or why nothing is known of it."""
        began = time.monotonic()
        page = self._viewer.get("/")
        self.pages += 1
        if (took := time.monotonic() - began) > PAGE_S:
            self.wrong.append(f"a page took {took:.1f} s")
        unknown = {each["agent"] for each in page["agents"] if each["status"] != "fresh"}
        if silent := [each for each in page["agents"] if each["status"] != "fresh" and not each["reason"]]:
            self.wrong.append(f"a page does not say why it does not know {silent}")
        if len(page["agents"]) != len(self._agents) or page["partial"] != bool(unknown):
            self.wrong.append(f"a page is silent about an agent: {page['agents']}")
        return page

    def _post(self, name: str) -> None:
        """Post two tasks through the viewer, each until it is answered."""
        for _ in range(2):
            self.posts += 1
            key = f"{name}-{self.posts}-{time.monotonic_ns()}"
            body = json.dumps({"spec": {"command": "true"}, "session_id": "s", "labels": {"post": key}}).encode()
            for _ in range(1000):
                headers = {"Content-Type": "application/json", "X-CSRF-Token": self._csrf, "Idempotency-Key": key}
                answer = self._viewer.request(
                    "POST", f"/api/agents/{name}/tasks", body, Origin=self._viewer.url, **headers
                )
                if answer.status == 201:
                    break
                if answer.status not in (502, 503, 504):
                    self.wrong.append(f"a post was answered {answer.status}: {answer.body[:200]!r}")
                    break
                time.sleep(0.2)

    def _read(self) -> None:
        """Everything that the viewer tells of all agents, on one stream that is never lost."""
        headers = {"Cookie": self._viewer.cookie, "Accept": "text/event-stream"}
        connection = http.client.HTTPConnection("127.0.0.1", self._viewer.port, timeout=600)
        with closing(connection), suppress(http.client.HTTPException, ConnectionError):
            connection.request("GET", "/api/events", headers=headers)
            with connection.getresponse() as answer:
                self._follow(answer)

    def _follow(self, answer: http.client.HTTPResponse) -> None:
        kind, reached = "", set()
        for line in answer:
            if line.startswith(b"event: "):
                kind = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                event = json.loads(line[6:])
                if kind == "hello" and "agent" in event:
                    reached.add(event["agent"])
                    if len(reached) == len(self._agents):
                        self._ready.set()
                elif kind == "gap":
                    self.wrong.append(f"a gap: {event}")
                elif event.get("session_id") == "s" and event.get("seq"):
                    self._events[event["agent"]].append(event["seq"])


def _journal(agent: FarAgent) -> list[Any]:
    """The events of the session from the second on: it was made before anybody listened."""
    found: list[Any] = []
    after: int | None = 1
    while after is not None:
        page = agent.get(f"/sessions/s/events?after={after}&limit=1000")
        found += page["data"]
        after = page["next"]
    return found
