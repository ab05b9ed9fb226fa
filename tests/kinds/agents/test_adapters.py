"""How each CLI is called: what stands in its arguments, its environment and its first input."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from agentd.kinds.agents.command import Command
from agentd.kinds.agents.known import adapters
from agentd.kinds.agents.protocol import Assignment, Permission
from agentd.kinds.agents.steps import Ask


def assignment(agent: str, **more: Any) -> Assignment:
    return Assignment(agent=agent, prompt="private words", home=f"/home/{agent}", **more)


@pytest.mark.parametrize("agent", sorted(adapters()))
@pytest.mark.parametrize("permission", list(Permission))
def test_what_is_private_stands_in_no_argument(agent: str, permission: Permission) -> None:
    adapter = adapters()[agent]
    told = assignment(
        agent, permission=permission, system_prompt="private words", conversation="c-1", model="m-1", max_turns=3
    )
    argv = adapter.argv(told)
    assert argv[0] == adapter.program
    assert "private" not in " ".join(argv)
    assert "c-1" in argv
    assert "m-1" in argv
    assert b"private words" in adapter.first_input(told)
    assert any("private words" in file.text for file in adapter.files(told))
    assert "private" not in " ".join(adapter.env(told).values())
    assert adapter.env(told)[str(adapter.home_variable)].startswith(f"/home/{agent}")


def test_permissions_are_arguments_where_a_cli_cannot_ask() -> None:
    codex, opencode = adapters()["codex"], adapters()["opencode"]
    assert "--dangerously-bypass-approvals-and-sandbox" in codex.argv(assignment("codex", permission=Permission.ALLOW))
    assert "read-only" in codex.argv(assignment("codex", permission=Permission.DENY))
    assert "--auto" in opencode.argv(assignment("opencode", permission=Permission.ALLOW))
    denied = opencode.env(assignment("opencode", permission=Permission.DENY))
    assert json.loads(denied["OPENCODE_CONFIG_CONTENT"])["permission"]["bash"] == "deny"


def test_the_tools_that_claude_may_use_swallow_nothing() -> None:
    argv = adapters()["claude"].argv(assignment("claude", allowed_tools=("Bash(git *)", "Edit"), model="m"))
    assert argv[-3:] == ("--allowedTools", "Bash(git *)", "Edit")


def test_a_profile_of_codex_holds_any_text() -> None:
    text = 'quotes " and \\ and \n lines, é, \x7f, \x01 and 💡'
    (file,) = adapters()["codex"].files(assignment("codex", system_prompt=text))
    assert tomllib.loads(file.text)["developer_instructions"] == text


@pytest.mark.parametrize(
    ("answer", "behavior"),
    [("allow", "allow"), (" Yes\n", "allow"), ("deny", "deny"), ("", "deny"), ("stop", "deny"), ("use git", "deny")],
)
def test_an_answer_is_an_allowance_or_a_refusal(answer: str, behavior: str) -> None:
    ask = Ask("r-1", "May it?", ("allow", "deny", "stop"), {"input": {"command": "ls"}})
    told = json.loads(adapters()["claude"].answer(ask, answer))
    decision = told["response"]["response"]
    assert decision["behavior"] == behavior
    assert decision.get("interrupt", False) is (answer == "stop")
    if behavior == "allow":
        assert decision["updatedInput"] == {"command": "ls"}
    if answer == "use git":
        assert decision["message"] == "refused: use git"


def test_a_template_is_filled_in_and_empty_blanks_are_left_out() -> None:
    tool = Command("tool", ("tool", "--home={home}", "{model}", "-p", "{prompt}"))
    assert tool.argv(assignment("tool")) == ("tool", "--home=/home/tool", "-p", "private words")
    assert tool.first_input(assignment("tool")) == b""
    assert tool.argv(assignment("tool", model="{prompt}"))[2] == "{prompt}"
    assert Command("tool", ("tool",)).first_input(assignment("tool")) == b"private words"


def test_a_template_takes_the_place_of_an_agent_that_is_built_in() -> None:
    known = adapters({"claude": ("false",), "mine": ("mine",)})
    assert known["claude"].program == "false"
    assert known["mine"].program == "mine"
