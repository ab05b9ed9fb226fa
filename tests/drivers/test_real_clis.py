"""The driver with the real CLIs, against a model that does what the prompt says."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from agentd.kinds.agents.known import goes_along
from agentd.kinds.agents.protocol import Permission
from agentd.kinds.agents.steps import Detail
from tests.agent_clis import AGENTS, PATH, needed, set_up, variables
from tests.drivers.harness import Driven, Run, Told, daemon
from tests.scripted_model import INPUT_TOKENS, OUTPUT_TOKENS, ScriptedModel, scripted_model

pytestmark = pytest.mark.slow

#: Each test starts a CLI up to three times; the slowest took 30 s for its first start.
PATIENCE_S = 300.0


class Setting(NamedTuple):
    """One user's machine, where every CLI is set up to ask the scripted model."""

    model: ScriptedModel
    told: Told
    root: Path

    def session(self, name: str) -> Driven:
        """A session of that user."""
        driven = Driven(self.root / name, self.told.url, PATH)
        driven.env["HOME"] = str(self.root / "user")
        return driven

    def run(self, session: Driven, agent: str, prompt: str, **more: Any) -> Run:
        more = {"permission": Permission.ALLOW, **more}
        return session.finish(session.start(agent, prompt, env=variables(agent, self.model), **more), PATIENCE_S)


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    return needed(request.param)


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with scripted_model() as model, daemon() as told:
        set_up(tmp_path / "user", model)
        yield Setting(model, told, tmp_path)


def test_it_edits_a_file_by_its_shell_and_a_second_prompt_continues_the_conversation(
    setting: Setting, agent: str
) -> None:
    session = setting.session("one")
    first = setting.run(session, agent, "[[run: echo hello > made.txt; cat made.txt]]")
    record = first.succeeded
    assert (session.workspace / "made.txt").read_text() == "hello\n"
    assert "tool said:" in record.text
    assert re.search(r"^\$ .*echo hello", first.out, re.MULTILINE)
    assert "tool said:" in first.out
    assert record.usage == {"input_tokens": 2 * INPUT_TOKENS, "output_tokens": 2 * OUTPUT_TOKENS}
    assert setting.told.last("conversation") == {"agent": agent, "conversation_id": record.conversation_id}
    usage = setting.told.last("usage")
    assert (usage["input_tokens"], usage["output_tokens"]) == (2 * INPUT_TOKENS, 2 * OUTPUT_TOKENS)

    second = setting.run(session, agent, "and now this", conversation=record.conversation_id).succeeded
    assert second.text == "echo: and now this"
    assert second.conversation_id == record.conversation_id
    assert second.usage == {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
    asked = setting.model.turns()[-1]
    assert "[[run: echo hello > made.txt; cat made.txt]]" in asked.prompts[0]
    assert asked.prompt == "and now this"


def test_what_it_remembers_is_in_the_home_of_its_session_alone(setting: Setting, agent: str) -> None:
    one, other = setting.session("one"), setting.session("other")
    known = setting.run(one, agent, "hello").succeeded.conversation_id
    assert list(one.home(agent).rglob("*"))
    lost = setting.run(other, agent, "go on", conversation=known)
    assert lost.failed.detail is Detail.CONVERSATION_NOT_FOUND
    assert lost.code == 1


@pytest.mark.parametrize(
    ("directive", "detail"),
    [
        ("fail: 400", Detail.API_ERROR),
        ("fail: 401", Detail.NOT_LOGGED_IN),
        ("fail: 429, 1", Detail.RATE_LIMIT),
        ("garbage", Detail.API_ERROR),
    ],
)
def test_what_the_service_refuses_has_a_detail_of_its_own(
    setting: Setting, agent: str, directive: str, detail: Detail
) -> None:
    record = setting.run(setting.session("one"), agent, f"[[{directive}]]").failed
    assert record.detail is detail, record
    assert record.message
    assert (record.retry_at is not None) == (detail is Detail.RATE_LIMIT and agent != "codex")


def test_the_system_prompt_reaches_the_model(setting: Setting, agent: str) -> None:
    setting.run(setting.session("one"), agent, "hello", system_prompt='Speak "plainly" of ferns.').succeeded  # noqa: B018
    asked = setting.model.turns()[-1]
    assert 'Speak "plainly" of ferns.' in asked.system + "\n".join(asked.prompts)


def test_nothing_is_written_where_that_is_denied(setting: Setting, agent: str) -> None:
    session = setting.session("one")
    setting.run(session, agent, "[[run: echo no > made.txt]]", permission=Permission.DENY)
    assert not (session.workspace / "made.txt").exists()


def test_claude_asks_a_person_and_goes_by_the_answer(setting: Setting) -> None:
    needed("claude")
    session = setting.session("one")
    setting.told.answers = ["allow", "deny", "stop"]
    ask = {"permission": Permission.ASK}
    setting.run(session, "claude", "[[run: touch allowed]]", **ask).succeeded  # noqa: B018
    assert (session.workspace / "allowed").exists()
    setting.run(session, "claude", "[[run: touch denied]]", **ask).succeeded  # noqa: B018
    assert not (session.workspace / "denied").exists()
    stopped = setting.run(session, "claude", "[[run: touch stopped]]", **ask)
    assert not (session.workspace / "stopped").exists()
    assert stopped.failed.detail is Detail.PERMISSION_DENIED
    assert "touch allowed" in setting.told.questions[0]["prompt"]


def test_claude_stops_at_its_last_turn(setting: Setting) -> None:
    needed("claude")
    run = setting.run(setting.session("one"), "claude", "[[run: true]]", max_turns=1)
    assert run.failed.detail is Detail.MAX_TURNS


def test_a_tool_that_is_allowed_is_asked_of_nobody(setting: Setting) -> None:
    needed("claude")
    session = setting.session("one")
    more = {"permission": Permission.ASK, "allowed_tools": ("Bash",)}
    setting.run(session, "claude", "[[run: touch made]]", **more).succeeded  # noqa: B018
    assert (session.workspace / "made").exists()
    assert setting.told.questions == []


def test_a_conversation_goes_on_where_its_session_was_moved(setting: Setting, agent: str) -> None:
    session = setting.session("one")
    known = setting.run(session, agent, "hello").succeeded.conversation_id
    session.root.rename(setting.root / "moved")
    moved = setting.session("moved")
    assert setting.run(moved, agent, "go on", conversation=known).succeeded.text == "echo: go on"
    assert "hello" in setting.model.turns()[-1].prompts[0]


def test_a_conversation_goes_on_with_the_files_alone_that_an_archive_takes_along(setting: Setting, agent: str) -> None:
    session = setting.session("one")
    known = setting.run(session, agent, "hello").succeeded.conversation_id
    moved = setting.session("moved")
    for path in (session.root / "home").rglob("*"):
        name = str(path.relative_to(session.root / "home"))
        if path.is_file() and not path.is_symlink() and goes_along(name):
            (moved.root / "home" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, moved.root / "home" / name)
    assert setting.run(moved, agent, "go on", conversation=known).succeeded.text == "echo: go on"
    assert "hello" in setting.model.turns()[-1].prompts[0]
