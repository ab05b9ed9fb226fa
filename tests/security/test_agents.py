"""Agents' homes and conversations: what a CLI in a sandbox or an archive leaves there leads nobody out."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentd.drivers import writing
from agentd.engines.local import system
from agentd.kinds.protocol import Place
from agentd.kinds.sandbox import options, prefix
from tests.daemon.harness import RealDaemon
from tests.drivers.harness import Driven
from tests.drivers.test_agent import READ, RESULT
from tests.http.talk import Api
from tests.webui.conftest import MakeDaemon

FACTS = system.found(options)
needs_bubblewrap = pytest.mark.skipif(not FACTS.sandbox, reason=FACTS.sandbox_problem)
SETTINGS = ".claude/settings.json"
#: Settings by which the CLI would run a program, put in the place of its link to the user's own.
REPLACES = f"{READ}\nrm -f $CLAUDE_CONFIG_DIR/settings.json\necho evil > $CLAUDE_CONFIG_DIR/settings.json\n"


@pytest.fixture
def driven(tmp_path: Path) -> Driven:
    driven = Driven(tmp_path)
    (driven.user / SETTINGS).parent.mkdir()
    (driven.user / SETTINGS).write_text("own")
    return driven


def within(driven: Driven) -> tuple[str, ...]:
    """The sandbox of an agent of that session, as the kind makes it; the programs of the test are in it, too."""
    (driven.root / "artifacts").mkdir()
    driven.home("claude").mkdir(parents=True, exist_ok=True)
    place = Place(
        workspace=str(driven.workspace), artifacts=str(driven.root / "artifacts"), log_path="", index_path="",
        result_path="", env={}, grace_s=1, max_output_bytes=1, max_result_bytes=1,
    )  # fmt: skip
    directories = (str(driven.home("claude")), str(driven.bin))
    return prefix("bubblewrap", FACTS, place, str(driven.workspace), directories=directories)


@needs_bubblewrap
def test_what_a_cli_in_a_sandbox_puts_in_the_place_of_settings_never_becomes_the_users_own(driven: Driven) -> None:
    driven.program("claude", f"{REPLACES}echo '{RESULT}'")
    driven.run("claude", within=within(driven)).succeeded  # noqa: B018
    assert (driven.home("claude") / "settings.json").read_text() == "evil\n"
    driven.program("claude", f"{READ}\necho '{RESULT}'")
    driven.run("claude").succeeded  # noqa: B018 - and the next one, which is in none, does not bring them there
    assert (driven.user / SETTINGS).read_text() == "own"


def test_a_link_that_leads_elsewhere_becomes_one_to_the_users_own(driven: Driven, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("evil")
    driven.home("claude").mkdir(parents=True)
    (driven.home("claude") / "settings.json").symlink_to(tmp_path / "elsewhere")
    driven.program("claude", f"{READ}\ncat $CLAUDE_CONFIG_DIR/settings.json > seen\necho '{RESULT}'")
    driven.run("claude").succeeded  # noqa: B018
    assert (driven.workspace / "seen").read_text() == "own"


def test_a_directory_that_is_a_link_has_no_login_put_into_what_it_leads_to(driven: Driven, tmp_path: Path) -> None:
    (driven.user / ".local/share/opencode").mkdir(parents=True)
    (driven.user / ".local/share/opencode/auth.json").write_text("login")
    (tmp_path / "elsewhere").mkdir()
    driven.home("opencode").mkdir(parents=True)
    (driven.home("opencode") / "data").symlink_to(tmp_path / "elsewhere")
    driven.program("opencode", "cat > /dev/null")
    driven.run("opencode")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_in_the_place_of_a_file_being_written_is_not_written_through(tmp_path: Path) -> None:
    own, target = tmp_path / "own", tmp_path / "target"
    own.write_text("own")
    (tmp_path / f".target.{os.getpid()}").symlink_to(own)
    writing.replace(target, "new")
    assert (own.read_text(), target.read_text(), target.is_symlink()) == ("own", "new", False)


@pytest.mark.parametrize("kind", ["link", "pipe", "directory", "large"])
def test_what_is_no_small_file_is_not_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "file"
    match kind:
        case "link":
            (tmp_path / "own").write_text("own")
            path.symlink_to(tmp_path / "own")
        case "pipe":
            os.mkfifo(path)  # without a writer: whoever opens it as files are opened waits for one
        case "directory":
            path.mkdir()
        case "large":
            path.touch()
            os.truncate(path, 1 << 40)
    with pytest.raises(OSError):
        writing.read(path)


def test_a_pipe_where_the_driver_keeps_usage_holds_nobody_up(driven: Driven) -> None:
    driven.program("codex", 'cat > /dev/null\necho \'{"type":"turn.completed","usage":{"input_tokens":1}}\'')
    driven.home("codex").mkdir(parents=True)
    for name in ("agentd-usage.json", "agentd-place.txt"):
        os.mkfifo(driven.home("codex") / name)
    assert driven.run("codex", conversation="c-1").record is not None


def test_a_database_that_is_a_link_is_not_changed_when_a_session_was_moved(driven: Driven, tmp_path: Path) -> None:
    other = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE threads (cwd TEXT, rollout_path TEXT)")
        database.execute("INSERT INTO threads VALUES ('/before', '')")
    driven.program("codex", "cat > /dev/null")
    driven.home("codex").mkdir(parents=True)
    (driven.home("codex") / "agentd-place.txt").write_text("/before")
    (driven.home("codex") / "state_5.sqlite").symlink_to(other)
    driven.run("codex")
    with closing(sqlite3.connect(other)) as database:
        assert database.execute("SELECT cwd FROM threads").fetchall() == [("/before",)]


IDS = ("--dangerously-skip-permissions", "-p", "", "../x", "a b", "a\n", "\x00", "a" * 201, "a/b", ".a", "é")


async def test_the_id_of_a_conversation_is_no_option_and_no_path(api: Api) -> None:
    task = await api.start("sleep 60", session_id="s")
    path = f"/tasks/{task['task_id']}/progress"
    for known in IDS:
        refused = await api.ask("POST", path, {"conversation": {"agent": "claude", "conversation_id": known}})
        assert refused.fields.keys() == {"conversation.conversation_id"}, known
    for agent in ("", "Claude", "../x", "a\n", "--x", "a" * 64):
        refused = await api.ask("POST", path, {"conversation": {"agent": agent, "conversation_id": "c"}})
        assert refused.fields.keys() == {"conversation.agent"}, agent
    assert (await api.get("/sessions/s"))["conversations"] == {}


async def test_a_session_has_conversations_with_so_many_agents(api: Api) -> None:
    task = await api.start("sleep 60", session_id="s")
    path = f"/tasks/{task['task_id']}/progress"
    answers = [
        await api.ask("POST", path, {"conversation": {"agent": f"a{n}", "conversation_id": "c"}}) for n in range(101)
    ]
    assert [answer.status for answer in answers] == [200] * 100 + [409]
    assert (await api.ask("POST", path, {"conversation": {"agent": "a0", "conversation_id": "d"}})).status == 200
    assert len((await api.get("/sessions/s"))["conversations"]) == 100


def test_a_cli_that_tells_an_option_for_its_conversation_is_not_called_with_it(driven: Driven) -> None:
    init = '{"type":"system","subtype":"init","session_id":"--evil"}'
    driven.program("claude", f"{READ}\necho '{init}'\necho '{RESULT}'".replace('"session_id": "c-1", ', ""))
    assert driven.run("claude").succeeded.conversation_id is None


#: A prompt that is an option, ends a line of sh, and fills in blanks of a template.
PROMPT = "--version; echo $(id) `id` {home} {model}\n'\"\\"


def test_a_prompt_is_one_argument_of_a_template_or_its_input_whatever_it_says(make_daemon: MakeDaemon) -> None:
    show = "printf '%s|' \"$@\"; cat"
    agents = {"said": ["sh", "-c", show, "sh", "--message", "{prompt}"], "given": ["sh", "-c", show, "sh", "fixed"]}
    daemon = make_daemon(agents=agents).start()
    assert _asked(daemon, "said") == f"--message|{PROMPT}|"
    assert _asked(daemon, "given") == f"fixed|{PROMPT}"


def _asked(daemon: RealDaemon, agent: str) -> str:
    body = {"kind": "agent", "spec": {"agent": agent, "prompt": PROMPT}, "session_id": "s"}
    task = daemon.wait(daemon.request("POST", "/tasks", body).json["task_id"])
    assert task["state"] == "completed", task["cause"]
    text: str = task["result"]["text"]
    return text


def test_homes_are_for_their_owner_alone(make_daemon: MakeDaemon) -> None:
    daemon = make_daemon(agents={"robot": ["sh", "-c", "umask; echo x > '{home}/kept'", "sh", "{home}"]}).start()
    _asked(daemon, "robot")
    home = daemon.data_dir / "sessions" / "s" / "home"
    assert [path.stat().st_mode & 0o077 for path in (home, home / "robot")] == [0, 0]
