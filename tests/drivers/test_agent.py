"""The driver with CLIs that do what real ones do rarely: a real driver, real processes, real signals."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentd.kinds.agents.protocol import Permission
from agentd.kinds.agents.steps import Detail
from benchlib.processes import until
from tests.drivers.harness import Driven, Told, daemon, line_of

INIT = '{"type":"system","subtype":"init","session_id":"c-1"}'
ANSWER = json.dumps(
    {
        "type": "assistant",
        "message": {
            "id": "m-1",
            "content": [{"type": "text", "text": "I am at it"}],
            "usage": {"input_tokens": 3, "output_tokens": 2},
        },
    }
)
RESULT = json.dumps(
    {
        "type": "result",
        "subtype": "success",
        "is_error": False,
        "num_turns": 1,
        "result": "done",
        "session_id": "c-1",
        "total_cost_usd": 0.25,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
)
#: What every script of these tests begins with: the prompt is read.
READ = "read prompt"


def says(*lines: str) -> str:
    return "\n".join([READ, *(f"echo '{line}'" for line in lines)])


@pytest.fixture
def told() -> Iterator[Told]:
    with daemon() as told:
        yield told


@pytest.fixture
def driven(tmp_path: Path, told: Told) -> Driven:
    return Driven(tmp_path, told.url)


def test_its_words_are_output_its_result_is_the_record_and_all_is_reported(driven: Driven, told: Told) -> None:
    driven.program("claude", says(INIT, ANSWER, RESULT))
    run = driven.run("claude")
    record = run.succeeded
    assert run.out == "I am at it\n"
    assert (record.text, record.num_turns, record.cost_usd, record.conversation_id) == ("done", 1, 0.25, "c-1")
    assert record.usage == {"input_tokens": 3, "output_tokens": 2}
    assert told.last("message") == "I am at it"
    assert told.last("conversation") == {"agent": "claude", "conversation_id": "c-1"}
    assert told.last("usage") == {"turns": 1, "input_tokens": 3, "output_tokens": 2, "cost_usd": 0.25}


def test_a_prompt_larger_than_a_pipe_reaches_it_and_stands_in_no_argument(driven: Driven) -> None:
    driven.program("plain", 'cat > prompt; printf "%s" "$*" > arguments; echo fine')
    prompt = "secret " * 60_000
    assert driven.run("plain", prompt, template=("plain", "--go")).succeeded.text == "fine"
    assert (driven.workspace / "prompt").read_text() == prompt
    assert (driven.workspace / "arguments").read_text() == "--go"


def test_garbage_and_a_line_of_20_mb_are_passed_over(driven: Driven) -> None:
    huge = f'{sys.executable} -c \'print("{{\\"type\\": \\"" + "x" * 20_000_000 + "\\"}}")\''
    driven.program("claude", f"{says(INIT, 'no json', '[1, 2]', '{{{')}\n{huge}\necho '{RESULT}'")
    run = driven.run("claude")
    assert run.succeeded.text == "done"
    assert "1 lines too long to be read, 3 that were no events" in run.err


def test_one_that_hangs_after_its_result_is_ended_and_the_result_counts(driven: Driven) -> None:
    driven.program("claude", f"{says(INIT, RESULT)}\nexec sleep 1000")
    assert driven.run("claude", linger_s=0.2).succeeded.text == "done"


def test_one_that_hangs_after_its_result_and_ignores_the_end_is_killed(driven: Driven) -> None:
    driven.program("claude", f"trap '' TERM\n{says(INIT, RESULT)}\nwhile :; do sleep 0.2; done")
    assert driven.run("claude", linger_s=0.2).succeeded.text == "done"


def test_exit_code_0_without_a_result_leaves_no_record(driven: Driven) -> None:
    driven.program("claude", says(INIT, ANSWER))
    run = driven.run("claude")
    assert (run.code, run.record) == (0, None)


def test_an_exit_code_is_passed_on_and_so_is_stderr(driven: Driven) -> None:
    driven.program("claude", f"{says(INIT)}\necho 'it broke' >&2; exit 7")
    run = driven.run("claude")
    assert (run.code, run.record) == (7, None)
    assert run.err == "it broke\n"


def test_a_conversation_that_is_gone_is_told_apart(driven: Driven) -> None:
    driven.program("claude", f"{READ}\necho 'No conversation found with session ID: c-9' >&2; exit 1")
    run = driven.run("claude", conversation="c-9")
    assert run.code == 1
    assert run.failed.detail is Detail.CONVERSATION_NOT_FOUND


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "ABRT", "KILL", "USR1", "SEGV", "PIPE", "ALRM", "TERM", "XCPU"])
def test_it_ends_by_the_signal_that_ended_its_cli_in_the_middle_of_a_tool(driven: Driven, name: str) -> None:
    driven.program("claude", f"{says(INIT, ANSWER)}\nkill -{name} $$\nsleep 1000")
    run = driven.run("claude")
    assert run.code == -getattr(signal, f"SIG{name}")
    assert run.record is None


def test_a_stop_of_its_group_reaches_the_cli_once_and_it_ends_as_that_does(driven: Driven) -> None:
    driven.program(
        "claude", f"trap 'echo stopped >> stops; exit 3' TERM\n{says(INIT, ANSWER)}\nwhile :; do sleep 0.1; done"
    )
    process = driven.start("claude")
    line_of(process, lambda line: "I am at it" in line)
    os.killpg(process.pid, signal.SIGTERM)
    assert driven.finish(process).code == 3
    assert (driven.workspace / "stops").read_text() == "stopped\n"


def test_a_stop_of_the_driver_alone_is_passed_on(driven: Driven) -> None:
    driven.program("claude", f"trap 'exit 4' TERM\n{says(INIT, ANSWER)}\nwhile :; do sleep 0.1; done")
    process = driven.start("claude")
    line_of(process, lambda line: "I am at it" in line)
    os.kill(process.pid, signal.SIGTERM)
    assert driven.finish(process).code == 4


def test_a_driver_whose_cli_refuses_to_die_waits_to_be_killed_with_it(driven: Driven) -> None:
    driven.program("claude", f"trap '' TERM\n{says(INIT, ANSWER)}\necho $$ > pid\nwhile :; do sleep 0.1; done")
    process = driven.start("claude")
    line_of(process, lambda line: "I am at it" in line)
    os.killpg(process.pid, signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.5)
    os.killpg(process.pid, signal.SIGKILL)
    assert driven.finish(process).code == -signal.SIGKILL


def test_a_process_that_holds_its_output_does_not_hold_the_driver(driven: Driven) -> None:
    driven.program("claude", f"{says(INIT, RESULT)}\nsleep 1000 &\nexit 0")
    assert driven.run("claude").succeeded.text == "done"


def test_one_that_stalls_is_reported_and_asked_about_and_goes_on(driven: Driven, told: Told) -> None:
    more = "while [ ! -e end ]; do sleep 0.05; done"
    first = "while [ ! -e go ]; do sleep 0.05; done"
    driven.program("claude", "\n".join((says(INIT), first, f"echo '{ANSWER}'", more, f"echo '{RESULT}'")))
    process = driven.start("claude", stall_s=0.3)
    until(lambda: told.questions)
    assert told.questions[0]["options"] == ["wait", "end"]
    assert told.questions[0]["prompt"].startswith("It has said nothing for 0.3 s.")
    (driven.workspace / "go").touch()
    until(lambda: "stall-1" in told.withdrawn)
    (driven.workspace / "end").touch()
    assert driven.finish(process).succeeded.text == "done"
    assert "it has said nothing for 0.3 s" in [report.get("message") for report in told.reports]


@pytest.mark.parametrize(("answers", "stalls"), [(["end"], 1), (["wait", "end"], 2)])
def test_a_person_may_end_one_that_stalls_or_wait_for_it(
    driven: Driven, told: Told, answers: list[str], stalls: int
) -> None:
    driven.program("claude", f"{READ}\nexec sleep 1000")  # a word, however late, would be the end of a stall
    told.answers = answers
    run = driven.run("claude", stall_s=0.3)
    assert run.failed.detail is Detail.STALLED
    assert run.failed.message == "it said nothing for too long and was ended by a person"
    assert {question["ask_id"] for question in told.questions} == {f"stall-{n}" for n in range(1, stalls + 1)}


def test_one_that_stalls_is_ended_where_that_was_asked_for(driven: Driven) -> None:
    driven.program("claude", f"{says(INIT)}\nexec sleep 1000")
    run = driven.run("claude", stall_s=1.5, stall_ends=True)  # long enough for its first word
    assert run.failed.detail is Detail.STALLED
    assert run.failed.conversation_id == "c-1"
    assert run.code == -signal.SIGTERM


ASKS = json.dumps(
    {
        "type": "control_request",
        "request_id": "r-1",
        "request": {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "rm -r x"}},
    }
)


@pytest.mark.parametrize(("answer", "behavior"), [("allow", "allow"), ("deny", "deny"), ("not that one", "deny")])
def test_what_it_asks_is_asked_of_a_person_and_the_answer_reaches_it(
    driven: Driven, told: Told, answer: str, behavior: str
) -> None:
    driven.program(
        "claude", f"{says(INIT, ASKS)}\nread answer; echo \"$answer\" > answer; echo '{RESULT}'; cat >> answer"
    )
    told.answers, told.waits = [answer], 1
    run = driven.run("claude")
    assert run.succeeded.text == "done"
    response = json.loads((driven.workspace / "answer").read_text())["response"]
    assert (response["request_id"], response["response"]["behavior"]) == ("r-1", behavior)
    assert (
        told.questions
        == [{"ask_id": "r-1", "prompt": "May it use Bash: rm -r x", "options": ["allow", "deny", "stop"]}] * 2
    )
    assert f"> {answer}\n" in run.out


def test_one_that_waits_for_a_person_does_not_stall(driven: Driven, told: Told) -> None:
    driven.program("claude", f"{says(INIT, ASKS)}\nread answer; echo '{RESULT}'")
    told.answers, told.waits = ["allow"], 8  # with a pause after each, longer than it may be silent
    assert driven.run("claude", stall_s=1.0, stall_ends=True).succeeded.text == "done"
    assert len(told.questions) == 9


@pytest.mark.parametrize("permission", [Permission.ALLOW, Permission.DENY])
def test_a_standing_permission_is_asked_of_nobody(driven: Driven, told: Told, permission: Permission) -> None:
    driven.program("claude", f"{says(INIT, ASKS)}\nread answer; echo \"$answer\" > answer; echo '{RESULT}'")
    run = driven.run("claude", permission=permission)
    assert (run.succeeded.text, run.out) == ("done", "")
    response = json.loads((driven.workspace / "answer").read_text())["response"]["response"]
    assert response["behavior"] == permission.value
    assert told.questions == []


def test_a_question_that_nobody_can_be_asked_is_refused(tmp_path: Path, told: Told) -> None:
    driven = Driven(tmp_path, told.url)
    told.status, told.answers = 405, ["allow"]
    driven.program("claude", f"{says(INIT, ASKS)}\nread answer; echo \"$answer\" > answer; echo '{RESULT}'")
    run = driven.run("claude")
    assert run.succeeded.text == "done"
    response = json.loads((driven.workspace / "answer").read_text())["response"]["response"]
    assert response == {"behavior": "deny", "message": "refused: nobody could be asked"}


def test_a_daemon_that_is_away_does_not_end_the_agent_and_is_said_once(tmp_path: Path) -> None:
    driven = Driven(tmp_path, "http://127.0.0.1:9")
    driven.program("claude", says(INIT, ANSWER, RESULT))
    run = driven.run("claude")
    assert run.succeeded.text == "done"
    assert run.err.count("could not reach the daemon") == 1


def test_a_cli_that_is_not_installed_is_named_with_what_installs_it(tmp_path: Path) -> None:
    driven = Driven(tmp_path)
    driven.env["PATH"] = str(driven.bin)
    run = driven.run("codex")
    assert run.code == 127
    assert run.failed.detail is Detail.NOT_FOUND
    assert "npm install -g @openai/codex" in run.failed.message
    assert run.failed.message in run.err


def test_a_cli_is_found_in_the_path_that_the_task_asks_for(tmp_path: Path) -> None:
    driven = Driven(tmp_path)
    driven.program("claude", says(INIT, ANSWER, RESULT))
    path = driven.env["PATH"]
    driven.env["PATH"] = os.defpath
    assert driven.run("claude", env={"PATH": path}).succeeded.text == "done"


def test_the_cli_knows_its_home_and_its_daemon_but_not_where_the_result_is(driven: Driven) -> None:
    driven.program("claude", f"{READ}\nenv > seen\necho '{RESULT}'")
    driven.run("claude", env={"MINE": "1", "CLAUDE_CONFIG_DIR": "/elsewhere"}).succeeded  # noqa: B018
    seen = dict(line.split("=", 1) for line in (driven.workspace / "seen").read_text().splitlines())
    assert "AGENTD_RESULT" not in seen
    assert seen["AGENTD_TOKEN"] == "token-of-the-task"
    assert (seen["MINE"], seen["CLAUDE_CONFIG_DIR"]) == ("1", str(driven.home("claude")))
    assert driven.home("claude").stat().st_mode & 0o777 == 0o700


def test_the_login_of_the_user_is_linked_and_a_renewed_one_goes_back_to_them(driven: Driven) -> None:
    own = driven.user / ".claude" / ".credentials.json"
    own.parent.mkdir()
    own.write_text("old")
    driven.program(
        "claude",
        f"{READ}\ncat $CLAUDE_CONFIG_DIR/.credentials.json > seen\n"
        f"echo new > new; mv new $CLAUDE_CONFIG_DIR/.credentials.json; echo '{RESULT}'",
    )
    driven.run("claude").succeeded  # noqa: B018
    assert (driven.workspace / "seen").read_text() == "old"
    assert own.read_text() == "new\n"
    assert (driven.home("claude") / ".credentials.json").is_symlink()


def test_the_system_prompt_is_a_private_file(driven: Driven) -> None:
    driven.program("claude", f'{READ}\nprintf "%s\\n" "$@" > arguments\necho \'{RESULT}\'')
    driven.run("claude", system_prompt="be secret").succeeded  # noqa: B018
    file = driven.home("claude") / "system-prompt.txt"
    assert file.read_text() == "be secret"
    assert file.stat().st_mode & 0o777 == 0o600
    arguments = (driven.workspace / "arguments").read_text()
    assert str(file) in arguments
    assert "secret" not in arguments.replace(str(driven.root), "")


def test_a_text_larger_than_a_result_may_be_is_cut(driven: Driven) -> None:
    driven.program("plain", f"cat > /dev/null; {sys.executable} -c 'print(chr(34) * 50_000)'")
    run = driven.run("plain", template=("plain",), max_result_bytes=4096)
    assert 2000 < driven.result.stat().st_size <= 4096
    assert run.succeeded.text.endswith("…")


def test_usage_that_counts_from_the_beginning_of_a_conversation_is_that_of_the_attempt(driven: Driven) -> None:
    def script(used: int) -> str:
        usage = json.dumps({"type": "turn.completed", "usage": {"input_tokens": used, "output_tokens": used}})
        started = '{"type":"thread.started","thread_id":"t-1"}'
        return f"cat > prompt\necho '{started}'\necho '{{\"type\":\"turn.started\"}}'\necho '{usage}'"

    driven.program("codex", script(20))
    assert driven.run("codex").succeeded.usage == {"input_tokens": 20, "output_tokens": 20}
    driven.program("codex", script(35))
    assert driven.run("codex", conversation="t-1").succeeded.usage == {"input_tokens": 15, "output_tokens": 15}


def test_reports_are_few_however_much_it_says(driven: Driven, told: Told) -> None:
    words = ANSWER.replace("I am at it", "word $n")
    loop = f'n=0; while [ $n -lt 400 ]; do n=$((n+1)); echo "{words.replace(chr(34), chr(92) + chr(34))}"; done'
    driven.program("claude", f"{READ}\n{loop}\necho '{RESULT}'")
    run = driven.run("claude")
    assert run.out.count("word") == 400
    assert len(told.reports) < 200
    assert told.last("message") == "word 400"


def test_paths_that_a_cli_remembers_follow_a_session_that_was_moved(tmp_path: Path) -> None:
    before, after = Driven(tmp_path / "old.place"), tmp_path / "new.place"
    for agent in ("claude", "codex"):
        before.program(agent, f"{READ}\necho '{RESULT}'" if agent == "claude" else "cat > /dev/null")
        before.run(agent)
    slug = str(before.root).replace("/", "-").replace(".", "-").replace("_", "-")
    (before.home("claude") / "projects" / f"{slug}-workspace").mkdir(parents=True)
    threads = [str(before.root), f"{before.root}/workspace", f"{before.root}-too", "/elsewhere"]
    with closing(sqlite3.connect(before.home("codex") / "state_5.sqlite")) as state, state:
        state.execute("CREATE TABLE threads (cwd TEXT, rollout_path TEXT)")
        state.executemany("INSERT INTO threads VALUES (?, '')", [(thread,) for thread in threads])
    (before.home("codex") / "state_6.sqlite").write_text("no database")
    before.root.rename(after)
    moved = Driven(after)
    moved.run("claude")
    run = moved.run("codex")
    assert [folder.name for folder in (moved.home("claude") / "projects").iterdir()] == [
        str(after).replace("/", "-").replace(".", "-").replace("_", "-") + "-workspace"
    ]
    with closing(sqlite3.connect(moved.home("codex") / "state_5.sqlite")) as state:
        found = [cwd for (cwd,) in state.execute("SELECT cwd FROM threads")]
    assert found == [str(after), f"{after}/workspace", f"{before.root}-too", "/elsewhere"]
    assert "state_6.sqlite still has the session's former path" in run.err
