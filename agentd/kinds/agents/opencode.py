"""OpenCode: `opencode run --format json`, the prompt on its stdin.

Written against 1.18. It prints no last record: it has succeeded when its last step ended with `stop`. It installs the
packages of a provider when it first needs them, so its cache stays the user's own.
"""

from __future__ import annotations

import json

from agentd.kinds.agents.lines import Fields, call_summary, json_object, summary
from agentd.kinds.agents.protocol import Assignment, Column, File, Link, Permission, Remembered
from agentd.kinds.agents.steps import Ask, Conversation, Detail, Final, Heard, Said, Step, Tool, Turn, Used

_SYSTEM_PROMPT = "system-prompt.md"
_CHANGES = ("edit", "bash", "webfetch", "websearch", "task", "external_directory")


class OpenCode:
    """The CLI of opencode.ai."""

    name = "opencode"
    program = "opencode"
    install = "npm install -g opencode-ai"
    fields = frozenset({"model", "system_prompt"})
    home_variable = "XDG_DATA_HOME"
    own_home = ".local/share"
    links: tuple[Link, ...] = (Link("opencode/auth.json", "data/opencode/auth.json"),)
    remembered = Remembered(
        files=("data/opencode/opencode.db*", "data/opencode/storage/*"),
        columns=(Column("data/opencode/opencode.db", "session", "directory"),),
    )
    speaks = False
    cumulative = False

    def argv(self, assignment: Assignment) -> tuple[str, ...]:
        """What to execute."""
        argv = [self.program, "run", "--format", "json"]
        if assignment.permission is Permission.ALLOW:
            argv.append("--auto")
        if assignment.model is not None:
            argv += ["--model", assignment.model]
        if assignment.conversation is not None:
            argv += ["--session", assignment.conversation]
        return tuple(argv)

    def env(self, assignment: Assignment) -> dict[str, str]:
        """Its data and state in the home; settings over those of the user."""
        over: dict[str, object] = {"autoupdate": False, "share": "disabled"}
        if assignment.system_prompt is not None:
            over["instructions"] = [f"{assignment.home}/{_SYSTEM_PROMPT}"]
        if assignment.permission is Permission.DENY:
            over["permission"] = dict.fromkeys(_CHANGES, "deny")
        return {
            self.home_variable: f"{assignment.home}/data",
            "XDG_STATE_HOME": f"{assignment.home}/state",
            "OPENCODE_CONFIG_CONTENT": json.dumps(over),
        }

    def files(self, assignment: Assignment) -> tuple[File, ...]:
        """The system prompt."""
        return (File(_SYSTEM_PROMPT, assignment.system_prompt),) if assignment.system_prompt is not None else ()

    def first_input(self, assignment: Assignment) -> bytes:
        """The prompt."""
        return assignment.prompt.encode()

    def answer(self, ask: Ask, answer: str) -> bytes:
        """It never asks."""
        return b""

    def reader(self) -> OpenCodeReader:
        """For one run."""
        return OpenCodeReader()


class OpenCodeReader:
    """Understands `run --format json`."""

    def __init__(self) -> None:
        self.garbage = 0
        self._conversation = ""
        self._text = ""
        self._turns = self._input = self._output = 0
        self._cost = 0.0
        self._reason = ""
        self._failed: Final | None = None

    def feed(self, line: bytes, now: float) -> list[Step]:
        """What a line of stdout means."""
        event = json_object(line)
        if event is None:
            self.garbage += 1
            return []
        steps: list[Step] = []
        if event["sessionID"].text and event["sessionID"].text != self._conversation:
            self._conversation = event["sessionID"].text
            steps.append(Conversation(self._conversation))
        part = event["part"]
        match event["type"].text:
            case "step_start":
                self._turns += 1
                self._reason = ""
                steps.append(Turn(self._turns))
            case "text" if part["text"].text.strip():
                self._text = part["text"].text
                steps.append(Said(self._text))
            case "tool_use":
                state = part["state"]
                steps.append(Tool(part["tool"].text, call_summary(state["input"])))
                failed = state["status"].text == "error"
                steps.append(Heard(state["error"].text if failed else state["output"].text, failed))
            case "step_finish":
                steps.append(self._step(part))
                if self._reason == "stop":
                    steps.append(Final(True, self._text, num_turns=self._turns))
            case "error":
                self._failed = _failure(event["error"], now)
        return steps

    def end(self, exit_code: int, complaint: str) -> Final | None:
        """Its last step is its last word."""
        if self._failed is not None:
            return Final(
                False, self._text, self._failed.detail, self._failed.message, self._failed.retry_at, self._turns
            )
        if "Session not found" in complaint:
            return Final(False, "", Detail.CONVERSATION_NOT_FOUND, "opencode does not know the conversation any more")
        if self._reason == "stop":
            return Final(True, self._text, num_turns=self._turns)
        if self._reason in ("length", "content-filter"):
            detail = Detail.REFUSED if self._reason == "content-filter" else Detail.API_ERROR
            return Final(False, self._text, detail, f"the model ended with {self._reason}", None, self._turns)
        return None

    def _step(self, part: Fields) -> Step:
        tokens = part["tokens"]
        self._reason = part["reason"].text
        self._input += tokens["input"].count + tokens["cache"]["read"].count + tokens["cache"]["write"].count
        self._output += tokens["output"].count + tokens["reasoning"].count
        self._cost += max(0.0, part["cost"].number or 0.0)
        return Used(self._input, self._output, self._cost)


def _failure(error: Fields, now: float) -> Final:
    data = error["data"]
    message = summary(data["message"].text or error["name"].text or "failed without a reason")
    status = data["statusCode"].count
    if status == 429:
        after = data["responseHeaders"]["retry-after"].text
        seconds = int(after) if after.isascii() and after.isdigit() and len(after) < 9 else None
        return Final(False, "", Detail.RATE_LIMIT, message, now + seconds if seconds is not None else None)
    if status in (401, 403) or error["name"].text == "ProviderAuthError":
        return Final(False, "", Detail.NOT_LOGGED_IN, message)
    if error["name"].text == "MessageAbortedError":
        return Final(False, "", Detail.INTERRUPTED, message)
    return Final(False, "", Detail.API_ERROR, message)
