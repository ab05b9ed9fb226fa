"""Which agents there are: from flags, from webui.yaml as it is now, and from the daemons of this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.harness import until
from webui import roster as rosters
from webui.roster import Roster
from webui.settings import AgentSetting, Settings

from .conftest import MakeDaemon, MakeViewer


@pytest.fixture(autouse=True)
def looked_at_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rosters, "LOOK_S", 0.0)


def data_dir(place: Path, url: str = "http://127.0.0.1:4000", pid: int | None = None, token: str = "secret") -> str:
    """A data directory of a daemon that seems to run: it is this process."""
    place.mkdir(exist_ok=True)
    agent = json.dumps({"url": url, "pid": os.getpid() if pid is None else pid})
    for name, text in {"format.json": "{}", "agent.json": agent, "token": f"{token}\n"}.items():
        (place / name).touch(0o600)  # as a daemon has them, whatever the umask
        (place / name).write_text(text)
    return str(place)


def roster(place: Path, *agents: AgentSetting, **more: Any) -> Roster:
    settings = Settings(agents=agents, secret_file=place / "secret", **{"data_dirs": (str(place / "none"),), **more})
    return Roster(settings, {})


def named(roster: Roster) -> list[tuple[str, str]]:
    return [(agent.name, agent.url) for agent in roster.agents()]


def write(file: Path, *agents: str) -> None:
    """Replace webui.yaml, in one step as an editor does."""
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps({"agents": [{"name": name, "url": f"http://{name}:1"} for name in agents]}))
    beside.rename(file)


def test_the_file_is_read_again_when_it_changes_and_flags_stand_over_it(tmp_path: Path) -> None:
    file = tmp_path / "webui.yaml"
    write(file, "a", "b")
    found = roster(tmp_path, AgentSetting(name="b", url="http://flag:1", source="flag"), config=file)
    assert named(found) == [("b", "http://flag:1"), ("a", "http://a:1")]
    write(file, "a", "c")
    assert named(found) == [("b", "http://flag:1"), ("a", "http://a:1"), ("c", "http://c:1")]


@pytest.mark.parametrize(
    "text",
    [
        *("agents: [", "agents: 3", "agents: [{name: '../x', url: 'http://a'}]", "\x00", "[[" * 9000),
        *("agents: 2020-99-99", "port: 0b_", "port: !!int x", "agents: !!timestamp x"),
        *('agents: [{name: x, data_dir: "/a\\0b"}]', 'agents: [{name: x, url: "http://a", token_file: "/a\\0b"}]'),
        'agents: [{name: x, url: "http://a/\\r\\nb"}]',
        f"agents: [{', '.join(f'{{name: x{number}, url: http://a}}' for number in range(1001))}]",
    ],
)
def test_a_file_that_cannot_be_read_is_said_and_takes_no_agent_away(tmp_path: Path, text: str) -> None:
    file = tmp_path / "webui.yaml"
    write(file, "a")
    found = roster(tmp_path, config=file)
    assert named(found) == [("a", "http://a:1")]
    file.write_text(text)
    assert named(found) == [("a", "http://a:1")]
    assert found.file_problem is not None
    file.unlink()
    assert named(found) == [("a", "http://a:1")]
    assert found.file_problem is not None
    write(file, "b")
    assert named(found) == [("b", "http://b:1")]
    assert found.file_problem is None


def test_a_local_daemon_is_followed_to_its_next_port_and_token(tmp_path: Path) -> None:
    directory = data_dir(tmp_path / "d")
    found = roster(tmp_path, data_dirs=(directory,))
    agent = found.agents()[0]
    assert (agent.name, agent.url, agent.token, agent.source) == ("local", "http://127.0.0.1:4000", "secret", "local")
    data_dir(tmp_path / "d", "http://127.0.0.1:4001", token="other")
    agent = found.agents()[0]
    assert (agent.url, agent.token) == ("http://127.0.0.1:4001", "other")


@pytest.mark.parametrize("text", ["", "{", '{"url": 3}', "[]"])
def test_a_daemon_that_ended_or_left_half_a_file_stays_and_has_a_problem(tmp_path: Path, text: str) -> None:
    directory = Path(data_dir(tmp_path / "d", pid=2**22 + 1))
    found = roster(tmp_path, AgentSetting(name="one", data_dir=str(directory)))
    agent = found.agents()[0]
    assert (agent.name, agent.url) == ("one", "")
    assert "has ended" in (agent.problem or "")
    (directory / "agent.json").write_text(text)
    assert "agent.json" in (found.agents()[0].problem or "")


def test_an_agent_that_is_configured_is_not_found_a_second_time(tmp_path: Path) -> None:
    directory = data_dir(tmp_path / "d")
    (tmp_path / "link").symlink_to(directory)
    places = (directory, str(tmp_path / "link"), f"{directory}/")
    by_directory = roster(tmp_path, AgentSetting(name="one", data_dir=str(tmp_path / "link")), data_dirs=places)
    by_url = roster(tmp_path, AgentSetting(name="one", url="http://127.0.0.1:4000"), data_dirs=places)
    assert [agent.name for agent in by_directory.agents()] == ["one"]
    assert [agent.name for agent in by_url.agents()] == ["one"]
    assert [agent.name for agent in roster(tmp_path, data_dirs=places).agents()] == ["local"]


def test_local_agents_never_take_a_name_that_is_taken_or_cannot_be_one(tmp_path: Path) -> None:
    places = tuple(
        data_dir(tmp_path / name, f"http://127.0.0.1:{4001 + at}") for at, name in enumerate(["x y", "local", "-"])
    )
    found = roster(tmp_path, AgentSetting(name="local", url="http://far:1"), data_dirs=places)
    assert [agent.name for agent in found.agents()] == ["local", "x-y", "local-2", "local-3"]


def test_a_token_file_is_read_when_it_is_needed_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "token"
    found = roster(tmp_path, AgentSetting(name="one", url="http://a:1", token_file=str(file)))
    assert found.agents()[0].token is None
    file.write_text("s3cret\n")
    assert found.agents()[0].token == "s3cret"
    assert "s3cret" not in repr(found.agents()[0])


def test_a_real_daemon_that_starts_again_elsewhere_is_found_there(
    make_daemon: MakeDaemon, make_viewer: MakeViewer
) -> None:
    daemon = make_daemon().start()
    viewer = make_viewer({"one": daemon.data_dir}).start().log_in()
    first = viewer.get("/")["agents"][0]
    assert first["status"] == "fresh"
    daemon.stop()
    until(lambda: viewer.get("/")["agents"][0]["reason_code"] == "not_running")
    daemon.start()
    again = until(lambda: c if (c := viewer.get("/")["agents"][0])["status"] == "fresh" else None)
    assert again["url"] != first["url"]


def test_agents_come_from_the_environment_and_over_unix_sockets(
    make_daemon: MakeDaemon, make_viewer: MakeViewer, tmp_path: Path
) -> None:
    daemon = make_daemon(http={"socket": str(tmp_path / "s.sock")}).start()
    viewer = make_viewer({})
    viewer.environ = {
        "AGENTD_WEB_AGENTS": f"dir={daemon.data_dir} socket=unix://{tmp_path}/s.sock",
        "AGENTD_WEB_TOKEN_FILES": f"socket={daemon.data_dir}/token",
    }
    viewer.start().log_in()
    found = {contact["agent"]: contact["status"] for contact in viewer.get("/")["agents"]}
    assert found == {"dir": "fresh", "socket": "fresh"}
