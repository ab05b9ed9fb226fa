"""Completion, as shells load it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchlib.processes import until
from tests.cli.daemon_process import Agentd


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `agentd` in it, as a shell finds it."""
    path = tmp_path_factory.mktemp("bin")
    (path / "agentd").write_text(f'#!/bin/sh\nexec {sys.executable} -m agentd.cli.main "$@"\n')
    (path / "agentd").chmod(0o755)
    return path


def completed(agentd: Agentd, bin_dir: Path, line: str) -> set[str]:
    """What a real bash offers at the end of the line."""
    script = """
        source <(agentd completion bash) || exit 1
        COMP_LINE=$1; COMP_POINT=${#COMP_LINE}
        read -ra COMP_WORDS <<< "$COMP_LINE"
        [[ $COMP_LINE == *' ' ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        handler=$(complete -p agentd | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        "$handler" agentd "${COMP_WORDS[COMP_CWORD]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    env = agentd.env | {"PATH": f"{bin_dir}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script, "bash", line], env=env, cwd=agentd.home, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done
    assert done.stderr == b""
    return set(done.stdout.decode().split())


def offered(agentd: Agentd, bin_dir: Path, line: str) -> set[str]:
    """What is offered once the daemon was asked: no completion waits long for one that is busy."""
    return until(lambda: completed(agentd, bin_dir, line))


def test_bash_completes_commands_options_and_choices(agentd: Agentd, bin_dir: Path) -> None:
    assert {"run", "retry", "rm"} <= completed(agentd, bin_dir, "agentd r") <= {"run", "retry", "rm"}
    assert "--follow" in completed(agentd, bin_dir, "agentd logs --f")
    assert completed(agentd, bin_dir, "agentd ls --state c") == {"completed", "cancelled"}
    assert "archive" in completed(agentd, bin_dir, "agentd sessions ")
    assert completed(agentd, bin_dir, "agentd run --agent c") == {"claude", "codex"}
    assert completed(agentd, bin_dir, "agentd submit --kind ") == {"shell", "agent", "docker"}


def test_bash_completes_ids_of_the_daemon(agentd: Agentd, bin_dir: Path) -> None:
    agentd("run", "-s", "completion-test", "true")
    (task,) = agentd.json("ls", "-s", "completion-test")["data"]
    assert offered(agentd, bin_dir, "agentd show completion-") == {"completion-test"}
    assert task["task_id"] in offered(agentd, bin_dir, f"agentd logs {task['task_id'][:5]}")
    assert offered(agentd, bin_dir, "agentd ls -s completion-") == {"completion-test"}
    assert offered(agentd, bin_dir, "agentd workflow show completion-") == {"completion-test"}


def test_files_of_workflows_are_completed_by_the_shell_itself(agentd: Agentd, bin_dir: Path) -> None:
    for line in ("agentd workflow validate so", "agentd workflow run so"):
        asked = {"_AGENTD_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "3"}
        done = subprocess.run([bin_dir / "agentd"], env=agentd.env | asked, capture_output=True, timeout=60)
        assert done.stdout == b"file,so\n", done


def test_bash_offers_what_a_command_can_be_used_on(agentd: Agentd, bin_dir: Path) -> None:
    agentd("run", "-s", "offered-ended", "true")
    (ended,) = agentd.text("ls", "-s", "offered-ended", "-o", "name").split()
    live = agentd.text("submit", "-s", "offered-live", "--not-before", "1h", "true").strip()
    assert {live, ended} & offered(agentd, bin_dir, "agentd cancel ") == {live}
    assert {live, ended} & offered(agentd, bin_dir, "agentd retry ") == {ended}
    agentd("cancel", live)


def test_without_a_daemon_completion_offers_nothing_and_says_nothing(no_daemon: Agentd, bin_dir: Path) -> None:
    assert completed(no_daemon, bin_dir, "agentd show x") == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script_that_it_accepts(no_daemon: Agentd, shell: str) -> None:
    script = no_daemon("completion", shell).stdout
    assert b"_AGENTD_COMPLETE" in script
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=script, capture_output=True, timeout=30).returncode == 0
