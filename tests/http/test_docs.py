"""docs/api.md tells of everything the API has, and of nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from agentd.http import problems
from agentd.http.openapi import document
from agentd.http.queries import parameters
from agentd.http.routes import ROUTES
from agentd.http.routing import Route, Table
from agentd.kinds.registry import kinds
from agentd.model.events import ANNOUNCED, EVENT_TYPES
from tests.daemon.harness import RealDaemon

from .talk import Api

TEXT = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
TYPES = EVENT_TYPES | {str(event.__struct_config__.tag) for event in ANNOUNCED}


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_its_examples_work_as_typed_also_after_those_of_the_readme(tmp_path: Path) -> None:
    daemon = RealDaemon(tmp_path / "sessions_data")
    daemon.start()
    try:
        daemon.request("POST", "/sessions", {"session_id": "build-click"})
        typed = "".join(re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))
        typed = typed.replace("http://127.0.0.1:8420", daemon.agent["url"])
        strict = 'set -e; curl() { command curl -sS --fail-with-body "$@"; }\n'
        done = subprocess.run(["sh", "-c", strict + typed], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
        task = daemon.wait(re.findall(r'"task_id":"(\w+)"', done.stdout)[-1])
        assert (task["session_id"], task["state"]) == ("build-site", "completed"), task["cause"]
    finally:
        daemon.end()


def section(title: str) -> str:
    """The text under a heading."""
    return TEXT.split(f"\n## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_a_route_is_there_with_its_role_and_parameters(route: Route) -> None:
    path = route.path.replace("*}", "}")
    row = re.search(rf"^\| `{route.method} {re.escape(path)}` \| (.*?) \|", TEXT, re.MULTILINE)
    assert row is not None
    role = route.role.name.lower() if route.role is not None else "none"
    assert row[1] == (f"{role}, task" if route.for_tasks else role)
    for name in parameters(route.query):
        assert re.search(rf"`\??{name}\b", TEXT), name


def test_no_route_is_there_that_the_api_has_not() -> None:
    known = {f"{route.method} {route.path.replace('*}', '}')}" for route in ROUTES}
    assert set(re.findall(r"^\| `((?:GET|POST|PUT|PATCH|DELETE) \S+)`", TEXT, re.MULTILINE)) == known


def test_every_error_code_is_there_with_its_status_and_no_other() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", section("Errors"), re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == problems.STATUS


def test_every_event_type_is_there_and_no_other() -> None:
    rows = set(re.findall(r"^\| `(\w+\.\w+)` \|", section("Event types"), re.MULTILINE))
    assert rows == TYPES
    assert all(f"`{name}`" in section("Event types") for name in ("hello", "gap", "output", "growth", "end"))


def test_every_header_is_there() -> None:
    described = json.loads(document(Table(ROUTES), tuple(kinds().values())))
    named = set(described["components"]["headers"])
    named |= {
        parameter["name"]
        for item in described["paths"].values()
        for operation in item.values()
        for parameter in operation["parameters"]
        if parameter["in"] == "header"
    }
    for name in named:
        assert f"`{name}" in section("What is true of every request"), name


async def test_every_metric_is_there_and_no_other(api: Api) -> None:
    text = (await api.ask("GET", "/metrics")).body.decode()
    names = {name for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE) if name.startswith("agentd_")}
    assert set(re.findall(r"^\| `(agentd_\w+)` \|", section("Metrics"), re.MULTILINE)) == names


def test_every_link_leads_somewhere() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", TEXT, re.M)
    }
    assert set(re.findall(r"\]\(#(.*?)\)", TEXT)) <= anchors
