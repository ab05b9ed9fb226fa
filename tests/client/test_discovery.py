"""Where the daemon is: flags, environment, data directories, and never a token for a stranger."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentd.client import Endpoint, discover
from agentd.errors import Unreachable

URL = "http://127.0.0.1:8420"


def me() -> dict[str, int]:
    fields = Path(f"/proc/{os.getpid()}/stat").read_bytes().rpartition(b")")[2].split()
    return {"pid": os.getpid(), "pid_started_at": int(fields[19])}


def data_dir(path: Path, url: str = URL, token: str = "secret", **agent: int) -> str:
    path.mkdir(parents=True, exist_ok=True)
    (path / "agent.json").write_text(json.dumps({"agent_id": "a", "url": url, **(agent or me())}))
    (path / "token").write_text(token + "\n")
    for file in path.iterdir():
        file.chmod(0o600)
    return str(path)


def test_a_flag_goes_before_the_environment(tmp_path: Path) -> None:
    here = data_dir(tmp_path / "here")
    environ = {"AGENTD_URL": "http://elsewhere", "AGENTD_TOKEN": "other", "AGENTD_DATA_DIR": str(tmp_path / "none")}
    assert discover(here, environ) == Endpoint(URL, "secret")
    assert discover(None, environ) == Endpoint("http://elsewhere", "other")
    assert discover(here, environ, url="http://flag/") == Endpoint("http://flag", "other")


def test_the_data_directory_of_the_environment_is_the_only_one_looked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data_dir(tmp_path / "sessions_data")
    with pytest.raises(Unreachable, match=r"no agent\.json in .*none \(no such directory\); start one with"):
        discover(None, {"AGENTD_DATA_DIR": str(tmp_path / "none")})


def test_the_checkout_goes_before_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"HOME": str(tmp_path / "home")}
    data_dir(tmp_path / "home/.local/share/agentd", url="http://127.0.0.1:1")
    assert discover(None, environ) == Endpoint("http://127.0.0.1:1", "secret")
    data_dir(tmp_path / "sessions_data", url="http://127.0.0.2:1")
    assert discover(None, environ) == Endpoint("http://127.0.0.2:1", "secret")


def test_a_directory_without_a_daemon_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=rf"no agent\.json in {tmp_path}; start one with `agentd serve`"):
        discover(str(tmp_path), {})


def test_a_relative_xdg_directory_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data_dir(tmp_path / "relative/agentd", url="http://127.0.0.1:1")
    data_dir(tmp_path / "absolute/agentd", url="http://127.0.0.2:1")
    with pytest.raises(Unreachable):
        discover(None, {"HOME": str(tmp_path), "XDG_DATA_HOME": "relative"})
    assert discover(None, {"HOME": "/", "XDG_DATA_HOME": str(tmp_path / "absolute")}).url == "http://127.0.0.2:1"


def test_a_url_gets_the_token_of_the_daemon_that_has_it_and_of_no_other(tmp_path: Path) -> None:
    environ = {"AGENTD_DATA_DIR": data_dir(tmp_path)}
    assert discover(None, {**environ, "AGENTD_URL": URL + "/"}) == Endpoint(URL, "secret")
    assert discover(None, {**environ, "AGENTD_URL": "http://127.0.0.1:1"}) == Endpoint("http://127.0.0.1:1", None)


@pytest.mark.parametrize("started", [1, None])
def test_a_daemon_that_has_ended_is_named_and_its_port_not_trusted(tmp_path: Path, started: int | None) -> None:
    pid = os.getpid() if started else 2**22 + 1
    where = data_dir(tmp_path, pid=pid, pid_started_at=started or 5)
    with pytest.raises(Unreachable, match=rf"pid {pid}\) has ended; start it with `agentd serve --data-dir {where}`"):
        discover(where, {})


def test_a_broken_agent_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.json").write_text("{")
    (tmp_path / "agent.json").chmod(0o600)
    with pytest.raises(Unreachable, match=r"cannot read agent\.json"):
        discover(str(tmp_path), {})


def test_a_missing_token_is_no_token(tmp_path: Path) -> None:
    where = data_dir(tmp_path)
    (tmp_path / "token").unlink()
    assert discover(where, {}) == Endpoint(URL, None)


def test_an_endpoint_does_not_print_its_token() -> None:
    assert "secret" not in repr(Endpoint(URL, "secret"))


@pytest.mark.parametrize("url", ["http://192.0.2.1:8420", "http://agent.example:8420", "http://0x7f.1:1", "http://["])
def test_a_file_that_names_another_machine_is_not_followed(tmp_path: Path, url: str) -> None:
    with pytest.raises(Unreachable, match="not on this machine"):
        discover(data_dir(tmp_path, url=url), {"AGENTD_TOKEN": "mine"})


def test_a_checkout_that_looks_like_a_data_directory_gets_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository may hold `sessions_data/agent.json`, and a link where the token would be; git makes files 0644."""
    monkeypatch.chdir(tmp_path)
    mine = Path(data_dir(tmp_path / "home/.local/share/agentd", token="my token of another daemon"))
    environ = {"HOME": str(tmp_path / "home"), "AGENTD_TOKEN": "my other token"}
    theirs = Path(data_dir(tmp_path / "sessions_data", url="http://127.0.0.2:1"))
    (theirs / "token").unlink()
    assert discover(None, environ).token is None
    (theirs / "token").symlink_to(mine / "token")
    assert discover(None, environ).token is None
    (theirs / "agent.json").chmod(0o644)
    with pytest.raises(Unreachable, match="no file of its owner alone"):
        discover(None, environ)
    (theirs / "agent.json").unlink()
    (theirs / "agent.json").symlink_to(mine / "agent.json")
    with pytest.raises(Unreachable, match="cannot read"):
        discover(None, environ)
    (theirs / "agent.json").unlink()
    os.mkfifo(theirs / "agent.json", 0o600)
    with pytest.raises(Unreachable, match="no file of its owner alone"):
        discover(None, environ)
