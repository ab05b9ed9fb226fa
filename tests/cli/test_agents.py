"""Real agent CLIs under a real daemon: they work, go on where they were, ask, and are moved with their session."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchlib.processes import until
from tests.agent_clis import AGENTS, PATH, needed, set_up, variables
from tests.cli.daemon_process import Agentd
from tests.scripted_model import INPUT_TOKENS, OUTPUT_TOKENS, ScriptedModel, scripted_model

pytestmark = pytest.mark.slow

#: The first start of a CLI may take half a minute.
PATIENCE_S = 300.0


class Agents(Agentd):
    """A daemon whose tasks find the CLIs, and a model for them."""

    def __init__(self, home: Path, model: ScriptedModel) -> None:
        super().__init__(home)
        self.model = model
        self.env["PATH"] = PATH
        self.settings["AGENTD_WORKERS_GRACE_S"] = "5"

    def asked(self, agent: str, session: str, *more: str) -> list[str]:
        """How a prompt begins; the prompt itself comes behind it."""
        env = [word for name, value in variables(agent, self.model).items() for word in ("-e", f"{name}={value}")]
        return ["-s", session, "--agent", agent, *env, *(more or ("--permission", "allow"))]

    def prompt(self, agent: str, session: str, text: str) -> bytes:
        """Ask the agent, and return what it said."""
        with self.popen("run", *self.asked(agent, session), text) as process:
            out, err = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, (out, err)
        return out

    def tasks(self, session: str) -> list[dict[str, Any]]:
        """Those of a session, oldest first."""
        found: list[dict[str, Any]] = self.json("ls", "-s", session)["data"]
        return found[::-1]


@pytest.fixture(params=AGENTS)
def agent(request: pytest.FixtureRequest) -> str:
    return needed(request.param)


@pytest.fixture
def agentd(tmp_path: Path) -> Iterator[Agents]:
    with scripted_model() as model:
        set_up(tmp_path, model)
        daemon = Agents(tmp_path, model)
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.end()


def test_an_agent_edits_a_file_of_its_session_and_a_second_prompt_goes_on_with_it(agentd: Agents, agent: str) -> None:
    prompt = "[[run: echo fixed > README.md; cat README.md]]"
    assert b"tool said:" in agentd.prompt(agent, "fix-readme", prompt)
    assert (agentd.data_dir / "sessions/fix-readme/workspace/README.md").read_text() == "fixed\n"
    agentd.prompt(agent, "fix-readme", "and now this")
    first, second = agentd.tasks("fix-readme")
    assert first["result"]["usage"] == {"input_tokens": 2 * INPUT_TOKENS, "output_tokens": 2 * OUTPUT_TOKENS}
    assert second["result"]["text"] == "echo: and now this"
    session = agentd.json("show", "fix-readme")
    assert session["conversations"] == {agent: second["result"]["conversation_id"]}
    assert first["result"]["conversation_id"] == second["result"]["conversation_id"]
    assert session["usage"]["input_tokens"] == 3 * INPUT_TOKENS
    assert prompt in agentd.model.turns()[-1].prompts[0], "the model was not told what was said before"


def test_two_prompts_at_once_take_turns(agentd: Agents, agent: str) -> None:
    agentd("sessions", "create", "both", "--parallel", "2")
    ids = [agentd.text("submit", *agentd.asked(agent, "both"), f"prompt {n}").strip() for n in (1, 2)]
    agentd("wait", *ids)
    first, second = agentd.tasks("both")
    assert [first["state"], second["state"]] == ["completed", "completed"]
    assert second["started_at"] >= first["ended_at"]
    assert "prompt 1" in agentd.model.turns()[-1].prompts


def test_a_conversation_goes_on_after_the_daemon_was_killed_in_the_middle_of_a_turn(agentd: Agents, agent: str) -> None:
    agentd.prompt(agent, "s", "remember this")
    with agentd.popen("run", *agentd.asked(agent, "s"), "[[run: touch began; sleep 600]]") as process:
        until((agentd.data_dir / "sessions/s/workspace/began").exists)
        agentd.end(signal.SIGKILL)
        agentd.start()
        process.communicate(timeout=PATIENCE_S)
    assert agentd.tasks("s")[-1]["cause"]["code"] == "interrupted"
    agentd.prompt(agent, "s", "go on")
    assert "remember this" in agentd.model.turns()[-1].prompts


def test_a_session_that_was_exported_and_imported_elsewhere_goes_on_with_its_conversation(
    agentd: Agents, agent: str, tmp_path: Path
) -> None:
    agentd.prompt(agent, "moves", "remember this")
    archive = tmp_path / "moves.tar"
    agentd("export", "moves", "-o", str(archive))
    away = Agents(tmp_path / "away", agentd.model)
    set_up(away.home, agentd.model)
    away.start()
    try:
        away("import", str(archive))
        away.prompt(agent, "moves", "go on")
    finally:
        away.end()
    assert "remember this" in agentd.model.turns()[-1].prompts


def test_a_tool_that_needs_leave_asks_for_it_and_an_answer_lets_it_go_on(agentd: Agents) -> None:
    needed("claude")
    agentd("sessions", "create", "asks")
    with agentd.popen("run", *agentd.asked("claude", "asks", "--permission", "ask"), "[[run: touch made]]") as process:
        until(lambda: (tasks := agentd.tasks("asks")) and tasks[-1]["awaiting"])
        (task,) = agentd.tasks("asks")
        assert "touch made" in task["awaiting"]["prompt"]
        agentd("answer", task["task_id"], task["awaiting"]["options"][0])
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
    assert (agentd.data_dir / "sessions/asks/workspace/made").exists()
    assert agentd.tasks("asks")[0]["answered"]["by"] == "token"


def test_a_cli_that_is_not_installed_is_named_with_what_installs_it(agentd: Agents) -> None:
    agentd.end()
    agentd.env["PATH"] = os.defpath
    agentd.start()
    done = agentd("run", *agentd.asked("codex", "none"), "hello", code=1)
    assert b"npm install -g @openai/codex" in done.stderr
