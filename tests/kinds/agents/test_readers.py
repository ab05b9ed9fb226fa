"""What real CLIs have printed, and what none would: lines in, steps out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentd.kinds.agents.claude import ClaudeReader
from agentd.kinds.agents.codex import CodexReader
from agentd.kinds.agents.command import TEXT_MOST, PlainReader
from agentd.kinds.agents.lines import Lines
from agentd.kinds.agents.opencode import OpenCodeReader
from agentd.kinds.agents.protocol import Reader
from agentd.kinds.agents.steps import Ask, Conversation, Detail, Final, Heard, Retrying, Said, Step, Tool, Turn, Used

RECORDED = Path(__file__).parent / "recorded"
NOW = 1_800_000_000.0
READERS: dict[str, Callable[[], Reader]] = {
    "claude": ClaudeReader,
    "codex": CodexReader,
    "opencode": OpenCodeReader,
    "command": PlainReader,
}


def recorded(name: str, exit_code: int = 0) -> list[Step]:
    """The steps of a recorded run, with its last word."""
    reader = READERS[name.partition("-")[0]]()
    lines = Lines()
    found = [step for line in lines.feed((RECORDED / f"{name}.jsonl").read_bytes()) for step in reader.feed(line, NOW)]
    last = None if any(isinstance(step, Final) for step in found) else reader.end(exit_code, "")
    assert reader.garbage == 0
    return found if last is None else [*found, last]


def of(steps: list[Step], kind: type[Step]) -> list[Any]:
    return [step for step in steps if isinstance(step, kind)]


@pytest.mark.parametrize("agent", ["claude", "codex", "opencode"])
def test_a_run_with_a_tool_is_read_in_its_order(agent: str) -> None:
    steps = recorded(f"{agent}-tool")
    tool, heard, said = of(steps, Tool)[0], of(steps, Heard)[-1], of(steps, Said)[-1]
    assert "echo hi" in tool.summary
    assert "hi" in heard.text
    assert said.text.startswith("tool said: ")
    order = [steps.index(step) for step in (tool, heard, said)]
    assert order == sorted(order)
    assert of(steps, Used)[-1].input_tokens == 22
    assert of(steps, Used)[-1].output_tokens == 14
    assert len(of(steps, Conversation)) >= 1
    assert {step.id for step in of(steps, Conversation)} == {of(steps, Conversation)[0].id}
    assert [step.n for step in of(steps, Turn)] == ([1] if agent == "codex" else [1, 2])
    final = steps[-1]
    assert isinstance(final, Final)
    assert (final.ok, final.text) == (True, said.text)


@pytest.mark.parametrize(
    ("name", "detail", "message"),
    [
        ("claude-rate-limit", Detail.RATE_LIMIT, "as scripted"),
        ("claude-max-turns", Detail.MAX_TURNS, "maximum number of turns"),
        ("claude-no-conversation", Detail.CONVERSATION_NOT_FOUND, "No conversation found"),
        ("claude-not-logged-in", Detail.NOT_LOGGED_IN, "/login"),
        ("claude-stopped", Detail.PERMISSION_DENIED, "was refused Bash: touch b"),
        ("codex-rate-limit", Detail.RATE_LIMIT, "429"),
        ("codex-refused-request", Detail.API_ERROR, "as scripted"),
        ("codex-not-logged-in", Detail.NOT_LOGGED_IN, "401"),
        ("opencode-rate-limit", Detail.RATE_LIMIT, "as scripted"),
        ("opencode-refused-request", Detail.API_ERROR, "as scripted"),
    ],
)
def test_a_failure_has_its_detail_and_a_sentence(name: str, detail: Detail, message: str) -> None:
    final = recorded(name, 1)[-1]
    assert isinstance(final, Final)
    assert (final.ok, final.detail) == (False, detail)
    assert message in final.message


def test_when_the_service_takes_requests_again_is_told() -> None:
    steps = recorded("claude-rate-limit")
    assert of(steps, Retrying) == [Retrying(1, "rate_limit (429)", NOW + 2)]
    assert of(steps, Final)[0].retry_at == NOW + 2
    assert of(recorded("opencode-rate-limit"), Final)[0].retry_at == NOW + 2
    assert [step.attempt for step in of(recorded("codex-rate-limit"), Retrying)] == [1]


def test_a_question_names_the_tool_and_what_it_would_do() -> None:
    (ask,) = of(recorded("claude-stopped"), Ask)
    assert (ask.prompt, ask.options) == ("May it use Bash: touch b", ("allow", "deny", "stop"))


def test_success_that_says_it_is_an_error_is_one() -> None:
    line = json.dumps({"type": "result", "subtype": "success", "is_error": True, "result": "API Error: 400"})
    final = ClaudeReader().feed(line.encode(), NOW)[-1]
    assert isinstance(final, Final)
    assert (final.ok, final.detail) == (False, Detail.API_ERROR)


def test_a_plain_cli_says_all_that_it_prints_and_its_exit_code_decides() -> None:
    reader = PlainReader()
    assert reader.feed(b"one", NOW) == [Said("one")]
    reader.feed(b"two", NOW)
    assert reader.end(0, "") == Final(True, "one\ntwo")
    assert reader.end(2, "") is None
    assert reader.end(2, "no such model\n") == Final(False, "one\ntwo", Detail.EXECUTION, "no such model")
    assert reader.end(-15, "killed") is None


def test_of_a_plain_cli_that_says_much_the_end_is_kept() -> None:
    reader = PlainReader()
    for n in range(3000):
        reader.feed(b"%d " % n * 30, NOW)
    final = reader.end(0, "")
    assert final is not None
    assert final.text.endswith("2999 ")
    assert len(final.text) <= TEXT_MOST


def test_lines_come_whole_however_they_are_cut() -> None:
    lines = Lines(most=10)
    assert lines.feed(b"a\n\nbc") == [b"a"]
    assert lines.feed(b"d\nlonger than ten") == [b"bcd"]
    assert lines.feed(b" bytes\nnext") == []
    assert (lines.end(), lines.skipped) == ([b"next"], 1)
    assert lines.end() == []


@given(st.lists(st.binary(max_size=40) | st.just(b"\n"), max_size=30), st.integers(1, 30))
def test_lines_are_never_longer_than_they_may_be_and_none_is_lost(pieces: list[bytes], most: int) -> None:
    lines = Lines(most)
    found = [line for piece in pieces for line in lines.feed(piece)] + lines.end()
    expected = [line for line in b"".join(pieces).split(b"\n") if len(line) > most or line.strip()]
    assert found == [line for line in expected if len(line) <= most]
    assert lines.skipped == sum(len(line) > most for line in expected)


#: Words that the readers know, so that the examples reach their inner parts.
TOLD = {word for path in RECORDED.glob("*.jsonl") for word in path.read_text().replace("\\", "").split('"')}
RARE = ["rate_limit_event", "rate_limit_info", "resetsAt", "rejected", "file_change", "mcp_tool_call", "web_search"]
WORDS = [*sorted(word for word in TOLD if word.isidentifier()), *RARE]
TYPES = [
    "system", "assistant", "user", "result", "control_request", "item.completed", "item.started", "error",
    "turn.completed", "turn.failed", "thread.started", "step_start", "step_finish", "tool_use", "text",
]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=25,
)
EVENTS = st.dictionaries(st.sampled_from(WORDS), VALUES, max_size=8).flatmap(
    lambda fields: st.sampled_from(TYPES).map(lambda kind: {**fields, "type": kind})
)
LINES = st.binary(max_size=60) | EVENTS.map(lambda event: json.dumps(event).encode())


def bent(line: bytes, value: Any, where: int) -> bytes:
    """A recorded line, one of its values replaced."""
    event = json.loads(line)
    places: list[tuple[Any, Any]] = []
    todo: list[Any] = [event]
    while todo:
        outer = todo.pop()
        for key in outer if isinstance(outer, dict) else range(len(outer)):
            places.append((outer, key))
            if isinstance(outer[key], dict | list):
                todo.append(outer[key])
    outer, key = places[where % len(places)]
    outer[key] = value
    return json.dumps(event).encode()


ALL_RECORDED = [line for path in sorted(RECORDED.glob("*.jsonl")) for line in path.read_bytes().splitlines()]
BENT = st.builds(bent, st.sampled_from(ALL_RECORDED), VALUES, st.integers(0, 1000))


@pytest.mark.parametrize("name", READERS)
@given(lines=st.lists(LINES | BENT, max_size=12), code=st.integers(-64, 255), complaint=st.text(max_size=40))
@example(
    lines=[b"[" * 100_000, b'{"type":' * 10_000, b"\xff", b'{"type": "result", "num_turns": 1e999}'],
    code=0,
    complaint="",
)
def test_no_reader_minds_what_it_is_given(name: str, lines: list[bytes], code: int, complaint: str) -> None:
    reader = READERS[name]()
    for line in lines:
        for step in reader.feed(line, NOW):
            assert isinstance(step, Step)
            if isinstance(step, Used):
                assert step.input_tokens >= 0
                assert step.output_tokens >= 0
    last = reader.end(code, complaint)
    assert last is None or isinstance(last, Final)
    assert reader.garbage <= len(lines)
