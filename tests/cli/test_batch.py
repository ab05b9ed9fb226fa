"""agentd submit --batch: what it prints, and where it says that a line is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.daemon_process import Agentd

GOOD, WRONG = '{"spec": {"command": "true"}}', '{"spec": {"comand": "true"}}'


def test_a_batch_as_json_is_one_document_in_the_form_of_a_list(agentd: Agentd, tmp_path: Path) -> None:
    batch = written(tmp_path, [GOOD] * 1001)
    made = agentd.json("submit", "-s", "batch-json", "--batch", batch)
    assert len({task["task_id"] for task in made["data"]}) == 1001
    assert made["next"] is None


def test_a_line_that_is_refused_is_named_by_its_number_in_the_file(agentd: Agentd, tmp_path: Path) -> None:
    said = agentd("submit", "--batch", written(tmp_path, [GOOD, "", WRONG]), code=2)
    assert said.stdout == b""
    assert b"line 3: spec.comand" in said.stderr


def test_what_was_accepted_before_a_refusal_is_told(agentd: Agentd, tmp_path: Path) -> None:
    batch = written(tmp_path, ["", *[GOOD] * 1000, WRONG])
    said = agentd("submit", "-s", "batch-half", "--batch", batch, code=2)
    assert len(said.stdout.split()) == 1000
    assert b"line 1002: spec.comand" in said.stderr
    said = agentd("submit", "-s", "batch-half", "--batch", batch, "-o", "json", code=2)
    assert len(json.loads(said.stdout)["data"]) == 1000


def written(directory: Path, lines: list[str]) -> str:
    """A file of these lines; its path."""
    path = directory / "batch.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return str(path)
