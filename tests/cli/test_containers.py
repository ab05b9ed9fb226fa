"""agentd run --image: a container as if it ran here, with a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.daemon_process import Agentd
from tests.container_engine import IMAGE, container_engine


@pytest.fixture
def boxes(tmp_path: Path) -> Iterator[Agentd]:
    made = tmp_path / "e"
    made.mkdir()
    with container_engine(made) as engine:
        daemon = Agentd(tmp_path)
        daemon.settings["DOCKER_HOST"] = engine.host
        daemon.start()
        try:
            yield daemon
        finally:
            daemon.end()
            assert engine.containers() == []


@pytest.mark.slow
def test_a_container_runs_as_a_command_does(boxes: Agentd) -> None:
    words = ["--image", IMAGE, "--mount", ".:/src", "--mount", ".:/there:ro", "-C", "/src", "-e", "A=b c"]
    script = 'pwd; echo "$A $1" > made; echo err >&2; touch /there/x 2>/dev/null || exit 3'
    done = boxes("run", "-s", "box", *words, "--", "sh", "-c", script, "-", "word", code=3)
    assert (done.stdout, done.stderr) == (b"/src\n", b"err\n")
    assert (boxes.data_dir / "sessions/box/workspace/made").read_text() == "b c word\n"
    (task,) = boxes.json("ls", "-s", "box")["data"]
    assert (task["kind"], task["result"]["exit_code"]) == ("docker", 3)
    assert boxes("run", "-s", "box", "--image", IMAGE, code=1).stderr  # the image has no command of its own
    lines = boxes.text("submit", "-s", "box", "--image", IMAGE, "-c", "echo from a line | tr a-z A-Z").splitlines()
    boxes("wait", lines[0])
    assert boxes.text("logs", lines[0]) == "FROM A LINE\n"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run"], b"Missing argument"),
        (["run", "--agent", "claude"], b"Missing argument"),
        (["run", "--mount", "a:/b", "true"], b"--mount is of --kind docker; say of which image: --image NAME"),
        (["run", "--image", "x", "--mount", "a:b", "true"], b"is not SOURCE:TARGET"),
        (["run", "--image", "x", "--model", "m", "true"], b"--model is of --kind agent"),
        (["run", "--image", "x", "-i", "true"], b"a container has no input"),
        (["run", "--agent", "claude", "--image", "x", "hello"], b"--image is of --kind docker"),
        (["run", "--kind", "docker", "true"], b"say which image"),
        (["submit", "--image", "x", "--spec", "{}"], b"leave out --agent and --image"),
        (["submit"], b"say what to run"),
    ],
)
def test_words_that_contradict_each_other_are_named(agentd: Agentd, words: list[str], says: bytes) -> None:
    assert says in agentd(*words, code=2).stderr
