"""A model server that does what the prompt says, for tests of real agent CLIs: loopback only, any number of threads.

It speaks Anthropic Messages, OpenAI Responses and OpenAI Chat Completions, as streams and whole. Directives in the last
text of the user:

    [[run: COMMAND]]        calls the shell tool of the CLI once, then says what the tool said
    [[sleep: SECONDS]]      waits before the first byte
    [[fail: STATUS]]        answers with that status; `[[fail: STATUS, SECONDS]]` with a Retry-After
    [[garbage]]             a stream that is no stream

Everything else is answered with `echo: ` and the text.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

#: What the shell tools of the CLIs are called, and how each wants its command.
SHELLS = ("Bash", "bash", "exec_command", "shell_command", "shell", "exec")
INPUT_TOKENS, OUTPUT_TOKENS = 11, 7


class Asked(NamedTuple):
    """One request for a completion."""

    path: str
    model: str
    prompts: list[str]  #: every text of the user, oldest first
    tool_output: str | None  #: what the last tool said, if that is what it ends with
    tools: list[str]
    system: str

    @property
    def prompt(self) -> str:
        """The last text of the user."""
        return self.prompts[-1] if self.prompts else ""


class ScriptedModel:
    """What the server was asked, and where it is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[Asked] = []

    def turns(self) -> list[Asked]:
        """Requests of the agent itself: those that offer tools, which a request for a title does not."""
        return [asked for asked in self.asked if asked.tools]


@contextmanager
def scripted_model() -> Iterator[ScriptedModel]:
    """A server on a free port of the loopback, until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.daemon_threads = True
    model = ScriptedModel(f"http://127.0.0.1:{server.server_address[1]}")
    server.model = model  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [part for part in content or [] if isinstance(part, dict)]
    return "\n".join(part.get("text") or _text(part.get("content") or part.get("output")) for part in parts)


def _read(path: str, body: dict[str, Any]) -> Asked:
    items = body.get("messages") or body.get("input") or []
    prompts: list[str] = []
    output: str | None = None
    system = [_text(body.get("system")), _text(body.get("instructions"))]
    for item in items:
        content = item.get("content")
        if item.get("type") in ("function_call_output", "custom_tool_call_output"):
            output = _text(item.get("output"))
        elif item.get("role") == "tool":
            output = _text(content)
        elif item.get("role") in ("system", "developer"):
            system.append(_text(content))
        elif item.get("role") == "user":
            blocks = [{"text": content}] if isinstance(content, str) else content or []
            results = [block for block in blocks if block.get("type") == "tool_result"]
            if results:
                output = _text(results)
            # What a CLI adds by itself stands in tags.
            said = [text for block in blocks if (text := block.get("text")) and not text.lstrip().startswith("<")]
            if said and not results:
                prompts.append("\n".join(said))
                output = None
    tools = [tool.get("name") or tool.get("function", {}).get("name") or tool["type"] for tool in body.get("tools", [])]
    return Asked(path, body.get("model", ""), prompts, output, tools, "\n".join(system))


class _Call(NamedTuple):
    tool: str
    arguments: dict[str, Any]
    script: str | None = None  #: for a tool that takes code instead of arguments


def _call(asked: Asked) -> _Call | None:
    run = re.search(r"\[\[run: *(.+?)\]\]", asked.prompt, re.DOTALL)
    tool = next((name for name in SHELLS if name in asked.tools), None)
    if run is None or asked.tool_output is not None or tool is None:
        return None
    command = run[1].strip()
    match tool:
        case "exec_command":
            return _Call(tool, {"cmd": command})
        case "shell":
            return _Call(tool, {"command": ["sh", "-c", command]})
        case "exec":
            return _Call(tool, {}, f"text(await tools.exec_command({{cmd: {json.dumps(command)}}}));")
        case _:
            return _Call(tool, {"command": command, "description": "as the test says"})


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""

    def do_HEAD(self) -> None:
        self._json(200, {})

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [], "models": [], "has_more": False})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        path = self.path.partition("?")[0]
        answer = next((how for end, how in _FORMATS.items() if path.endswith(end)), None)
        if answer is None:
            return self._json(200, {"input_tokens": INPUT_TOKENS} if path.endswith("/count_tokens") else {})
        asked = _read(path, body)
        self.server.model.asked.append(asked)  # type: ignore[attr-defined]
        if sleep := re.search(r"\[\[sleep: *([\d.]+)\]\]", asked.prompt):
            time.sleep(float(sleep[1]))
        if fail := re.search(r"\[\[fail: *(\d+)(?:, *(\d+))?\]\]", asked.prompt):
            error = {"type": "rate_limit_error" if fail[1] == "429" else "invalid_request_error"}
            headers = {"retry-after": fail[2]} if fail[2] else {}
            return self._json(int(fail[1]), {"type": "error", "error": {**error, "message": "as scripted"}}, **headers)
        if "[[garbage]]" in asked.prompt:
            return self._stream(iter([("", "{{{"), ("", "no stream")]))
        said = f"tool said: {asked.tool_output[-200:]}" if asked.tool_output is not None else f"echo: {asked.prompt}"
        events = answer(asked.model, _call(asked), said)
        if body.get("stream"):
            return self._stream(events)
        return self._json(200, _whole(path, asked.model, _call(asked), said))

    def _json(self, status: int, value: Any, **headers: str) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        for name, header in {"content-type": "application/json", "content-length": str(len(text)), **headers}.items():
            self.send_header(name, header)
        self.end_headers()
        if self.command != "HEAD":
            self._write(text)

    def _stream(self, events: Iterator[tuple[str, Any]]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for name, event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            self._write((f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode())

    def _write(self, text: bytes) -> None:
        try:
            self.wfile.write(text)
        except OSError:
            self.close_connection = True  # a test ended the CLI


def _whole(path: str, model: str, call: _Call | None, said: str) -> dict[str, Any]:
    """An answer that is no stream: titles and the like, so it calls no tool."""
    if path.endswith("/messages"):
        usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS}
        text = [{"type": "text", "text": said}]
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": text}
        return {**message, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    return {"id": "cc_1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}


def _messages(model: str, call: _Call | None, said: str) -> Iterator[tuple[str, Any]]:
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": 1}
    message = {"id": f"msg_{time.time_ns()}", "type": "message", "role": "assistant", "model": model, "content": []}
    start = {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": said}
    if call is not None:
        block = {"type": "tool_use", "id": f"toolu_{time.time_ns()}", "name": call.tool, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call.arguments)}
    end = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
    for event in (
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": end, "usage": {"output_tokens": OUTPUT_TOKENS}},
        {"type": "message_stop"},
    ):
        yield str(event["type"]), event


def _responses(model: str, call: _Call | None, said: str) -> Iterator[tuple[str, Any]]:
    ids = {"id": f"item_{time.time_ns()}", "call_id": f"call_{time.time_ns()}"}
    if call is None:
        text = [{"type": "output_text", "text": said, "annotations": []}]
        item: dict[str, Any] = {"type": "message", "id": ids["id"], "role": "assistant", "content": text}
    elif call.script is not None:
        item = {"type": "custom_tool_call", **ids, "name": call.tool, "input": call.script}
    else:
        item = {"type": "function_call", **ids, "name": call.tool, "arguments": json.dumps(call.arguments)}
    usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    response = {"id": f"resp_{time.time_ns()}", "output": [item], "usage": {**usage, **details}}
    for event in (
        {"type": "response.created", "response": {"id": response["id"]}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ):
        yield str(event["type"]), event


def _chat(model: str, call: _Call | None, said: str) -> Iterator[tuple[str, Any]]:
    chunk = {"id": "cc_1", "object": "chat.completion.chunk", "created": 1, "model": model}
    delta: dict[str, Any] = {"role": "assistant", "content": said}
    if call is not None:
        function = {"name": call.tool, "arguments": json.dumps(call.arguments)}
        named = {"index": 0, "id": f"call_{time.time_ns()}", "type": "function", "function": function}
        delta = {"role": "assistant", "tool_calls": [named]}
    usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
    yield "", {**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if call else "stop"}
    yield "", {**chunk, "choices": [end], "usage": {**usage, "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS}}
    yield "", "[DONE]"


_FORMATS = {"/messages": _messages, "/responses": _responses, "/chat/completions": _chat}
