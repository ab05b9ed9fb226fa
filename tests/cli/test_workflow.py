"""agentd workflow: as a user calls it, with a daemon that may be killed under it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentd.cli.run_following import followed
from agentd.client import Client, Endpoint
from agentd.model.run_views import RunView
from benchlib.processes import PATIENCE_S, until
from tests.cli.daemon_process import Agentd

CHECK_FILES = Path(__file__).parents[2] / "scripts" / "check_files"
GOOD = """
name: greet
inputs: {who: {default: world}}
steps:
  - {id: say, run: 'echo "text=hello $WHO" >> "$AGENTD_OUTPUT"', env: {WHO: "${{ inputs.who }}"}, outputs: [text]}
  - {id: check, needs: [say], run: 'test "$TEXT" = "hello you"', env: {TEXT: "${{ steps.say.outputs.text }}"}}
  - {id: after, needs: [check], run: "true"}
"""


def written(home: Path, text: str, name: str = "w.yaml") -> str:
    (home / name).write_text(text)
    return str(home / name)


def test_a_run_is_told_step_by_step_and_its_end_is_the_exit_code(agentd: Agentd, tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    done = agentd("workflow", "run", file, "-i", "who=you")
    told = done.stderr.decode().splitlines()
    assert [line for line in told if line.endswith("completed")][-1].startswith("agentd: run ")
    assert {"say  completed", "check  completed", "after  completed"} <= set(told)
    done = agentd("workflow", "run", file, "-s", "greet-2", code=1)
    told = done.stderr.decode().splitlines()
    assert any(line.startswith("check  failed  exited with code 1 (agentd logs ") for line in told), told
    assert "after  skipped  step check, which it needs, failed" in told
    assert told[-1].startswith("agentd: `agentd workflow resume ")
    shown = agentd.text("workflow", "show", "greet-2").splitlines()
    assert any(line.split()[:2] == ["say", "completed"] and line.endswith("text=hello world") for line in shown), shown
    assert agentd.json("sessions", "show", "greet-2")["policy"]["max_parallel"] == 4


def test_a_detached_run_is_found_by_its_id_and_by_its_session(agentd: Agentd, tmp_path: Path) -> None:
    run_id = agentd("workflow", "run", "-d", "-s", "detached", "-", input=GOOD.encode()).stdout.decode().strip()

    def over() -> bool:
        return bool(agentd.json("workflow", "show", run_id)["state"] != "running")

    until(over)
    by_session, by_id = agentd.json("workflow", "show", "detached"), agentd.json("workflow", "show", run_id)
    assert by_session == by_id and by_id["where"] == ["check"]
    [row] = agentd.json("workflow", "list", "detached")["data"]
    assert row["run_id"] == run_id
    assert b"no run or session" in agentd("workflow", "show", "nothing-like-it", code=4).stderr


def test_a_cancelled_run_is_resumed_from_where_it_was(agentd: Agentd, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    file = written(
        tmp_path, f"steps: [{{id: a, run: 'test -e {mark} || sleep 60'}}, {{id: b, needs: [a], run: 'true'}}]"
    )
    run_id = agentd.text("workflow", "run", "-d", "-s", "stop-it", file).strip()
    assert agentd.text("workflow", "cancel", run_id).strip() == run_id
    until(lambda: agentd.json("workflow", "show", run_id)["state"] == "cancelled")
    mark.touch()
    done = agentd("workflow", "resume", run_id)
    assert "b  completed" in done.stderr.decode()
    assert b"nothing of it" in agentd("workflow", "resume", "stop-it", code=1).stderr


def test_problems_are_told_as_file_line_and_column_and_nothing_starts(no_daemon: Agentd, tmp_path: Path) -> None:
    good, bad = written(tmp_path, GOOD), written(tmp_path, "steps:\n  - {id: a, needs: [b], run: x}\n", "bad.yaml")
    broken = written(tmp_path, "steps: [", "broken.yaml")
    done = no_daemon("workflow", "validate", good, bad, broken, code=2)
    assert done.stdout.decode() == f"{good}: greet: 3 steps, 3 tasks\n"
    first, second = done.stderr.decode().splitlines()
    assert first.startswith(f"{bad}:2:21: there is no step b")
    assert second.startswith(f"{broken}:1:9: is not YAML")
    done = no_daemon("workflow", "validate", "gone.yaml", good, code=2)
    assert done.stderr == b"gone.yaml: cannot be read: No such file or directory\n"
    assert done.stdout.decode() == f"{good}: greet: 3 steps, 3 tasks\n"
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9\n")
    assert b"not UTF-8" in no_daemon("workflow", "validate", str(tmp_path / "latin.yaml"), code=2).stderr


def test_a_bad_file_or_a_bad_input_makes_no_session(agentd: Agentd, tmp_path: Path) -> None:
    bad = written(tmp_path, "steps: [{id: a, kind: nope, spec: {}}]")
    done = agentd("workflow", "run", bad, "-s", "never-made", code=2)
    assert done.stderr.decode().startswith(f"{bad}:1:")
    done = agentd("workflow", "run", "gone.yaml", "-s", "never-made", code=2)
    assert done.stderr == b"gone.yaml: cannot be read: No such file or directory\n"
    agentd("sessions", "show", "never-made", code=4)
    good = written(tmp_path, GOOD)
    before = set(agentd.text("sessions", "list", "-n", "1000", "-o", "name").split())
    for where in ((), ("-s", "never-made")):
        done = agentd("workflow", "run", good, *where, "-i", "whom=x", code=2)
        assert b"inputs.whom" in done.stderr
    assert set(agentd.text("sessions", "list", "-n", "1000", "-o", "name").split()) <= before
    agentd("sessions", "create", "there-before")
    agentd("workflow", "run", good, "-s", "there-before", "-i", "whom=x", code=2)
    agentd("sessions", "show", "there-before")


def test_an_interrupt_leaves_the_run_alone_and_says_so(agentd: Agentd, tmp_path: Path) -> None:
    file = written(tmp_path, "steps: [{id: a, run: sleep 60}]")
    process = agentd.popen("workflow", "run", file, "-s", "left-alone")
    try:
        assert process.stderr is not None
        while b"a  running" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert b"goes on" in told
    assert agentd.json("workflow", "show", "left-alone")["state"] == "running"
    agentd("workflow", "cancel", "left-alone")


def test_whoever_waits_for_a_run_waits_through_a_restart_of_the_daemon(own_daemon: Agentd) -> None:
    agentd = own_daemon
    agentd.text("workflow", "run", "-d", "-s", "s", written(agentd.home, "steps: [{id: a, run: sleep 60}]"))
    until(lambda: agentd.json("workflow", "show", "s")["steps"][0]["state"] == "running")

    def found() -> Endpoint:
        return Endpoint(agentd.agent["url"], agentd.token)

    async def followed_through_it() -> RunView:
        away = asyncio.Event()
        async with Client(found().url, agentd.token, rediscover=found, on_lost=lambda _: away.set()) as client:
            run = (await client.workflow_runs("s")).data[0]
            agentd.end(signal.SIGKILL)
            following = asyncio.create_task(followed(client, run))  # its first look finds no daemon
            await asyncio.wait_for(away.wait(), PATIENCE_S)
            await asyncio.to_thread(agentd.start)
            return await asyncio.wait_for(following, PATIENCE_S)

    assert asyncio.run(followed_through_it()).where == ("a",)


def test_a_run_under_a_daemon_that_is_killed_again_and_again_does_each_step_once(own_daemon: Agentd) -> None:
    agentd, marks = own_daemon, own_daemon.home / "marks"
    count, kills = 9, (2, 5, 7)
    rows = [
        f"  - {{id: s{n}, run: 'echo s{n} $AGENTD_TASK_ID >> {marks}; "
        f"{'test -e ' + str(marks) + f'.{n} || sleep 60' if n in kills else 'true'}'"
        f"{f', needs: [s{n - 1}]' if n else ''}}}\n"
        for n in range(count)
    ]
    agentd.text("workflow", "run", "-d", "-s", "s", written(agentd.home, "steps:\n" + "".join(rows)))

    def shown() -> dict[str, Any]:
        found: dict[str, Any] = agentd.json("workflow", "show", "s")
        return found

    for n in kills:
        until(lambda: f"s{n} " in marks.read_text() if marks.exists() else False)  # noqa: B023
        agentd.end(signal.SIGKILL)
        agentd.start()
        until(lambda: shown()["state"] == "interrupted")
        assert shown()["where"] == [f"s{n}"]
        Path(f"{marks}.{n}").touch()
        agentd.text("workflow", "resume", "-d", "s")
    until(lambda: shown()["state"] != "running")
    run = shown()
    assert run["state"] == "completed"
    assert len(run["resumed"]) == len(kills)
    assert [len(step["tasks"]) for step in run["steps"]] == [2 if n in kills else 1 for n in range(count)]
    lines = marks.read_text().splitlines()
    assert sorted(lines) == sorted(f"{step['id']} {task}" for step in run["steps"] for task in step["tasks"])
    agentd.end()
    assert agentd.json("check", "--data-dir", str(agentd.data_dir))["findings"] == []
    proof = subprocess.run([CHECK_FILES, str(agentd.data_dir)], capture_output=True, timeout=PATIENCE_S)
    assert proof.returncode == 0, proof.stdout


BUILD_S = 600.0
PACKAGE = """
name: build-and-test
inputs: {package: {default: six==1.17.0}, module: {default: six}}
env: {PYTHONDONTWRITEBYTECODE: "1"}  # one step copies the source that others import
steps:
  - id: fetch
    run: |
      "$PYTHON" -m pip download --no-deps --no-binary :all: -d "$AGENTD_ARTIFACTS/dist" "$PACKAGE"
      mkdir -p "$AGENTD_ARTIFACTS/source"
      tar -xzf "$AGENTD_ARTIFACTS/dist/"*.tar.gz -C "$AGENTD_ARTIFACTS/source" --strip-components 1
      echo "version=$(sed -n 's/^Version: //p' "$AGENTD_ARTIFACTS/source/PKG-INFO")" >> "$AGENTD_OUTPUT"
    env: {PACKAGE: "${{ inputs.package }}"}
    outputs: [version]
  - id: build
    needs: [fetch]
    run: |
      cp -r "$AGENTD_ARTIFACTS/source" build-tree
      "$PYTHON" -m pip wheel --no-deps -w "$AGENTD_ARTIFACTS/wheels" ./build-tree
      echo "wheel=$(basename "$AGENTD_ARTIFACTS/wheels/"*.whl)" >> "$AGENTD_OUTPUT"
    outputs: [wheel]
  - id: test
    needs: [fetch]
    matrix: {flags: [-Xutf8, -O, -B]}
    run: |
      PYTHONPATH="$AGENTD_ARTIFACTS/source" "$PYTHON" $FLAGS -m pytest -q -p no:cacheprovider \\
        "$AGENTD_ARTIFACTS/source/test_six.py" -k "lazy or moves or text"
    env: {FLAGS: "${{ matrix.flags }}"}
  - id: use
    needs: [build, test]
    run: |
      "$PYTHON" -m pip install --no-deps --no-index --target installed "$AGENTD_ARTIFACTS/wheels/$WHEEL"
      found="$(PYTHONPATH="$PWD/installed" "$PYTHON" -c "import $MODULE as m; print(m.__version__, m.__file__)")"
      echo "found=$found" >> "$AGENTD_OUTPUT"
    env: {WHEEL: "${{ steps.build.outputs.wheel }}", MODULE: "${{ inputs.module }}"}
    outputs: [found]
"""


@pytest.mark.slow
def test_a_real_package_is_downloaded_built_and_tested_in_parallel_steps(own_daemon: Agentd, tmp_path: Path) -> None:
    probe = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path / "probe"), "six==1.17.0"]
    if subprocess.run(probe, capture_output=True, timeout=PATIENCE_S).returncode != 0:
        pytest.skip("pip reaches no registry")
    source = PACKAGE.replace('"$PYTHON"', f'"{sys.executable}"')
    own_daemon.text("workflow", "run", "-d", "-s", "six", written(tmp_path, source))
    until(lambda: own_daemon.json("workflow", "show", "six")["state"] != "running", BUILD_S, step_s=0.2)
    run = own_daemon.json("workflow", "show", "six")
    logs = {each["id"]: own_daemon.text("logs", each["task_id"]) for each in run["steps"] if each["task_id"]}
    assert run["state"] == "completed", (run["where"], "\n".join(logs.values())[-6000:])
    steps = {each["id"]: each for each in run["steps"]}
    assert steps["fetch"]["outputs"] == {"version": "1.17.0"}
    assert steps["build"]["outputs"]["wheel"].endswith(".whl")
    assert steps["use"]["outputs"]["found"].startswith("1.17.0 ")
    assert all("passed" in logs[f"test[flags={flags}]"] for flags in ("-Xutf8", "-O", "-B"))
    tasks = {each: own_daemon.json("show", steps[each]["task_id"]) for each in steps}
    starts = sorted(tasks[each]["started_at"] for each in steps if each.startswith(("build", "test")))
    ends = [tasks[each]["ended_at"] for each in steps if each.startswith(("build", "test"))]
    assert starts[-1] < min(ends), "what may run at once did not"


def test_a_file_may_name_an_agent_of_the_settings(no_daemon: Agentd, tmp_path: Path) -> None:
    file = written(tmp_path, "steps: [{id: a, agent: aider, prompt: hello}]")
    assert (
        b"must be one of claude, codex, opencode, or described in `agents`"
        in no_daemon("workflow", "validate", file, code=2).stderr
    )
    settings = written(tmp_path, 'agents: {aider: [aider, --message, "{prompt}"]}', "mine.yaml")
    no_daemon("workflow", "validate", file, "--config", settings)
    (no_daemon.home / "agentd.yaml").write_text(Path(settings).read_text())
    no_daemon("workflow", "validate", file)
