"""Codex: `codex exec --json`, the prompt on its stdin.

Written against 0.169. It cannot ask; the permission is its sandbox. A turn that fails says so in a sentence only, so
the detail is read from that. The usage of a continued conversation counts from its beginning.
"""

from __future__ import annotations

import json
import re

from agentd.kinds.agents.lines import Fields, json_object, summary
from agentd.kinds.agents.protocol import Assignment, Column, File, Link, Permission, Remembered
from agentd.kinds.agents.steps import Ask, Conversation, Detail, Final, Heard, Retrying, Said, Step, Tool, Turn, Used

_PROFILE = "agentd"
_SANDBOX = {
    Permission.ALLOW: ("--dangerously-bypass-approvals-and-sandbox",),
    Permission.ASK: ("--sandbox", "workspace-write"),
    Permission.DENY: ("--sandbox", "read-only"),
}


class Codex:
    """The CLI of OpenAI."""

    name = "codex"
    program = "codex"
    install = "npm install -g @openai/codex"
    fields = frozenset({"model", "system_prompt"})
    home_variable = "CODEX_HOME"
    own_home = ".codex"
    links: tuple[Link, ...] = (Link("auth.json", "auth.json"), Link("config.toml", "config.toml"))
    remembered = Remembered(
        files=("sessions/*", "state_*.sqlite*", "thread_history_*.sqlite*"),
        columns=(Column("state_*.sqlite", "threads", "cwd"), Column("state_*.sqlite", "threads", "rollout_path")),
    )
    speaks = False
    cumulative = True

    def argv(self, assignment: Assignment) -> tuple[str, ...]:
        """What to execute."""
        argv = [self.program, "exec", "--json", "--skip-git-repo-check", *_SANDBOX[assignment.permission]]
        if assignment.model is not None:
            argv += ["--model", assignment.model]
        if assignment.system_prompt is not None:
            argv += ["--profile", _PROFILE]
        if assignment.conversation is not None:
            argv += ["resume", assignment.conversation]
        return (*argv, "-")

    def env(self, assignment: Assignment) -> dict[str, str]:
        """Its home."""
        return {self.home_variable: assignment.home}

    def files(self, assignment: Assignment) -> tuple[File, ...]:
        """A profile over the user's own settings."""
        if assignment.system_prompt is None:
            return ()
        # A JSON string is a string of TOML, too, but for DEL.
        text = json.dumps(assignment.system_prompt, ensure_ascii=False).replace("\x7f", "\\u007f")
        return (File(f"{_PROFILE}.config.toml", f"developer_instructions = {text}\n"),)

    def first_input(self, assignment: Assignment) -> bytes:
        """The prompt."""
        return assignment.prompt.encode()

    def answer(self, ask: Ask, answer: str) -> bytes:
        """It never asks."""
        return b""

    def reader(self) -> CodexReader:
        """For one run."""
        return CodexReader()


class CodexReader:
    """Understands `exec --json`."""

    def __init__(self) -> None:
        self.garbage = 0
        self._turns = 0
        self._text = ""

    def feed(self, line: bytes, now: float) -> list[Step]:
        """What a line of stdout means."""
        event = json_object(line)
        if event is None:
            self.garbage += 1
            return []
        match event["type"].text:
            case "thread.started" if event["thread_id"].text:
                return [Conversation(event["thread_id"].text)]
            case "turn.started":
                self._turns += 1
                return [Turn(self._turns)]
            case "item.started" | "item.completed" as what:
                return self._item(event["item"], what == "item.completed")
            case "error" if (again := re.match(r"Reconnecting\.\.\. (\d{1,9})/", event["message"].text)) is not None:
                return [Retrying(int(again[1]), summary(event["message"].text))]
            case "turn.completed":
                usage = event["usage"]
                used = Used(usage["input_tokens"].count, usage["output_tokens"].count)
                return [used, Final(True, self._text, num_turns=self._turns)]
            case "turn.failed":
                message = event["error"]["message"].text
                return [Final(False, self._text, _detail(message), _sentence(message), num_turns=self._turns)]
        return []

    def end(self, exit_code: int, complaint: str) -> Final | None:
        """A conversation that is gone is told on stderr only."""
        if "no rollout found" in complaint:
            return Final(False, "", Detail.CONVERSATION_NOT_FOUND, "codex does not know the conversation any more")
        return None

    def _item(self, item: Fields, done: bool) -> list[Step]:
        match item["type"].text:
            case "agent_message" if done and item["text"].text:
                self._text = item["text"].text
                return [Said(self._text)]
            case "command_execution" if done:
                return [Heard(item["aggregated_output"].text, item["exit_code"].count != 0)]
            case "command_execution":
                return [Tool("shell", summary(item["command"].text))]
            case "file_change" if done:
                names = [change["path"].text for change in item["changes"].items[:10]]
                return [Tool("edit", summary(", ".join(names)))]
            case "mcp_tool_call" if not done:
                return [Tool(summary(f"{item['server'].text}.{item['tool'].text}"), "")]
            case "web_search" if done:
                return [Tool("search", summary(item["query"].text))]
            case "error" if done:  # a warning; what ends it is a turn that failed
                return [Heard(item["message"].text)]
        return []


def _sentence(message: str) -> str:
    """The service's own words where the message is its answer as it came."""
    event = json_object(message.encode(errors="replace"))
    return summary((event["error"]["message"].text or event["detail"].text if event else "") or message)


def _detail(message: str) -> Detail:
    said = message.lower()
    if "429" in said or "rate limit" in said or "usage limit" in said:
        return Detail.RATE_LIMIT
    if "401" in said or "missing environment variable" in said or "not logged in" in said:
        return Detail.NOT_LOGGED_IN
    return Detail.API_ERROR
