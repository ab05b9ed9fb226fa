"""Claude Code: `claude -p`, spoken to in JSON lines on its stdin so that it can ask before it uses a tool.

Written against 2.1. It prints `subtype: success` for what failed; `is_error` alone says how it went. It refuses to skip
permissions as root, so whether a tool may run is always answered here or by a person.
"""

from __future__ import annotations

import json

from agentd.kinds.agents.lines import Fields, call_summary, json_object, summary
from agentd.kinds.agents.protocol import Assignment, File, Link, Remembered
from agentd.kinds.agents.steps import Ask, Conversation, Detail, Final, Heard, Retrying, Said, Step, Tool, Turn, Used

ALLOW, DENY, STOP = "allow", "deny", "stop"
_SYSTEM_PROMPT = "system-prompt.txt"


class Claude:
    """The CLI of Anthropic."""

    name = "claude"
    program = "claude"
    install = "npm install -g @anthropic-ai/claude-code"
    fields = frozenset({"model", "max_turns", "allowed_tools", "system_prompt"})
    home_variable = "CLAUDE_CONFIG_DIR"
    own_home = ".claude"
    links: tuple[Link, ...] = (Link(".credentials.json", ".credentials.json"), Link("settings.json", "settings.json"))
    remembered = Remembered(files=("projects/*",), folder="projects")
    speaks = True
    cumulative = False

    def argv(self, assignment: Assignment) -> tuple[str, ...]:
        """What to execute."""
        argv = [self.program, "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]
        argv += ["--permission-prompt-tool", "stdio"]
        if assignment.model is not None:
            argv += ["--model", assignment.model]
        if assignment.max_turns is not None:
            argv += ["--max-turns", str(assignment.max_turns)]
        if assignment.system_prompt is not None:
            argv += ["--append-system-prompt-file", f"{assignment.home}/{_SYSTEM_PROMPT}"]
        if assignment.conversation is not None:
            argv += ["--resume", assignment.conversation]
        if assignment.allowed_tools:  # takes all that follows, so it stands last
            argv += ["--allowedTools", *assignment.allowed_tools]
        return tuple(argv)

    def env(self, assignment: Assignment) -> dict[str, str]:
        """Its home, and nothing that would phone or update behind the task's back."""
        return {
            self.home_variable: assignment.home,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_AUTOUPDATER": "1",
        }

    def files(self, assignment: Assignment) -> tuple[File, ...]:
        """The system prompt, which is private."""
        return (File(_SYSTEM_PROMPT, assignment.system_prompt),) if assignment.system_prompt is not None else ()

    def first_input(self, assignment: Assignment) -> bytes:
        """The prompt."""
        return _line({"type": "user", "message": {"role": "user", "content": assignment.prompt}})

    def answer(self, ask: Ask, answer: str) -> bytes:
        """Allow it, refuse it, or refuse and stop; other words refuse it and are passed on."""
        word = answer.strip().lower()
        if word in (ALLOW, "yes", "y"):
            decision: dict[str, object] = {"behavior": "allow", "updatedInput": Fields(ask.request)["input"].object}
        elif word == STOP:
            decision = {"behavior": "deny", "message": "refused; stop here", "interrupt": True}
        else:
            reason = "refused" if word in (DENY, "no", "n", "") else f"refused: {answer.strip()}"
            decision = {"behavior": "deny", "message": reason}
        response = {"subtype": "success", "request_id": ask.id, "response": decision}
        return _line({"type": "control_response", "response": response})

    def reader(self) -> ClaudeReader:
        """For one run."""
        return ClaudeReader()


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


class ClaudeReader:
    """Understands `--output-format stream-json`."""

    def __init__(self) -> None:
        self.garbage = 0
        self._turns = 0
        self._message = ""
        self._input = self._output = 0
        self._rate_limited_until: float | None = None

    def feed(self, line: bytes, now: float) -> list[Step]:
        """What a line of stdout means."""
        event = json_object(line)
        if event is None:
            self.garbage += 1
            return []
        match event["type"].text:
            case "system":
                return self._system(event, now)
            case "assistant":
                return self._assistant(event)
            case "user":
                return _results(event)
            case "rate_limit_event":
                info = event["rate_limit_info"]
                if info["status"].text == "rejected":
                    self._rate_limited_until = info["resetsAt"].number
            case "control_request":
                return _question(event)
            case "result":
                return self._result(event)
        return []

    def end(self, exit_code: int, complaint: str) -> Final | None:
        """It prints a result, or none at all."""
        if "no conversation found" in complaint.lower():
            return Final(False, "", Detail.CONVERSATION_NOT_FOUND, summary(complaint))
        return None

    def _system(self, event: Fields, now: float) -> list[Step]:
        match event["subtype"].text:
            case "init":
                return [Conversation(event["session_id"].text)] if event["session_id"].text else []
            case "api_retry":
                delay = event["retry_delay_ms"].number
                at = now + delay / 1000 if delay is not None else None
                if event["error_status"].count == 429:
                    self._rate_limited_until = at
                reason = event["error"].text or "unknown"
                status = event["error_status"].count
                return [Retrying(event["attempt"].count, f"{reason} ({status})" if status else reason, at)]
        return []

    def _assistant(self, event: Fields) -> list[Step]:
        message = event["message"]
        steps: list[Step] = []
        if event["parent_tool_use_id"].text == "" and message["id"].text != self._message:
            self._message = message["id"].text  # one message may come as several events
            self._turns += 1
            steps.append(Turn(self._turns))
            usage = message["usage"]
            self._input += _input_tokens(usage)
            self._output += usage["output_tokens"].count
            steps.append(Used(self._input, self._output))
        for part in message["content"].items:
            match part["type"].text:
                case "text" if part["text"].text.strip():
                    steps.append(Said(part["text"].text))
                case "tool_use":
                    steps.append(Tool(part["name"].text, call_summary(part["input"])))
        return steps

    def _result(self, event: Fields) -> list[Step]:
        usage = event["usage"]
        cost = event["total_cost_usd"].number
        steps: list[Step] = []
        if event["session_id"].text and event["num_turns"].count:
            steps.append(Conversation(event["session_id"].text))
        steps.append(Used(_input_tokens(usage), usage["output_tokens"].count, cost))
        text, turns = event["result"].text, event["num_turns"].count
        if event["is_error"].value is False:
            refused = event["stop_reason"].text == "refusal"
            detail = Detail.REFUSED if refused else None
            return [*steps, Final(not refused, text, detail, "the model declined" if refused else "", num_turns=turns)]
        message = summary(text or next((each.text for each in event["errors"].items if each.text), ""))
        detail = _detail(event, message)
        if detail is Detail.PERMISSION_DENIED:  # what it says itself is for its makers
            denied = event["permission_denials"].items[-1]
            message = summary(f"was refused {denied['tool_name'].text}: {call_summary(denied['tool_input'])}")
        until = self._rate_limited_until if detail is Detail.RATE_LIMIT else None
        return [*steps, Final(False, text, detail, message, until, turns)]


def _input_tokens(usage: Fields) -> int:
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(usage[name].count for name in names)


def _detail(event: Fields, message: str) -> Detail:
    if event["subtype"].text == "error_max_turns":
        return Detail.MAX_TURNS
    said = message.lower()
    if "no conversation found" in said:
        return Detail.CONVERSATION_NOT_FOUND
    status = event["api_error_status"].count
    if status == 429 or "usage limit reached" in said:
        return Detail.RATE_LIMIT
    if status == 401 or "not logged in" in said or "invalid api key" in said:
        return Detail.NOT_LOGGED_IN
    if event["permission_denials"].items:
        return Detail.PERMISSION_DENIED
    if status or "api error" in said:
        return Detail.API_ERROR
    if event["terminal_reason"].text.startswith("aborted"):
        return Detail.INTERRUPTED
    return Detail.EXECUTION


def _results(event: Fields) -> list[Step]:
    steps: list[Step] = []
    for part in event["message"]["content"].items:
        if part["type"].text == "tool_result":
            text = part["content"].text or "\n".join(each["text"].text for each in part["content"].items)
            steps.append(Heard(text, part["is_error"].value is True))
    return steps


def _question(event: Fields) -> list[Step]:
    request, id = event["request"], event["request_id"].text
    if request["subtype"].text != "can_use_tool" or not id:
        return []
    tool = request["tool_name"].text or "a tool"
    prompt = f"May it use {tool}: {call_summary(request['input'])}"
    return [Ask(id, prompt, (ALLOW, DENY, STOP), request.object)]
