"""The two pages about the format: what they show is run here on a real session."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentd.model.events import Event
from agentd.model.task import State
from agentd.store.datadir import prepare
from agentd.store.disk import RealDisk
from agentd.store.folder import Folder
from agentd.store.replay import Replay
from agentd.store.views import view_of
from tests.store.story import finished, progressed, session, session_created, started, task_created, titled

ROOT = Path(__file__).parents[2]
README = (ROOT / "sessions_data/README.md").read_text()
STORAGE = (ROOT / "docs/storage.md").read_text()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A session in two segments with a finished, a failed and a running task."""
    disk, replay = RealDisk(), Replay()
    prepare(disk, str(tmp_path / "data"))
    batches: list[list[Event]] = [
        [session_created("a"), task_created("a", "t1"), task_created("a", "t2"), task_created("a", "t3")],
        [titled("u\u2028p"), started("t1"), started("t2"), started("t3"), progressed("t3"), titled("x" * 3000)],
        [finished("t1"), finished("t2", State.FAILED)],
    ]
    folder, appended = Folder.create(
        disk, str(tmp_path / "data/sessions"), session("a"), batches[0], segment_bytes=3000
    )
    appended = folder.append(batches[1], 5)
    appended = folder.append(batches[2], 11)
    for seq, event in enumerate([event for batch in batches for event in batch], 1):
        replay.apply(event, seq)
    folder.write_views(view_of(replay, appended.position, finished=replay.records(), metadata_changed=True))
    folder.close()
    return tmp_path / "data"


ONE_LINERS = [line for block in re.findall(r"```sh\n(.*?)```", README, re.S) for line in block.strip().splitlines()]


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
@pytest.mark.parametrize("command", ONE_LINERS)
def test_a_one_liner_of_the_readme_works(data_dir: Path, command: str) -> None:
    where = data_dir if "sessions/*" in command else data_dir / "sessions/a"
    done = subprocess.run(
        ["bash", "-ec", command.replace("TASK_ID", "t3")], cwd=where, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert done.stdout.strip()


def test_the_reader_in_the_documentation_reads(data_dir: Path) -> None:
    source = next(block for block in re.findall(r"```python\n(.*?)```", STORAGE, re.S))
    names: dict[str, Any] = {}
    exec(source, names)
    events: Callable[[str], Iterator[dict[str, Any]]] = names["events"]
    session_dir = data_dir / "sessions/a"
    assert [event["seq"] for event in events(str(session_dir))] == list(range(1, 13))
    last = max(session_dir.glob("history/events-*.jsonl"))
    last.write_bytes(last.read_bytes().replace(b"done", b"dome", 1))
    assert len(list(events(str(session_dir)))) == 10


def test_the_first_line_of_a_snapshot_is_json_of_its_own(data_dir: Path) -> None:
    first = (data_dir / "sessions/a/tasks.json").read_text().split("\n")[0]
    assert json.loads(first.removesuffix(",") + "}")["counts"] == {"completed": 1, "failed": 1, "running": 1}


def test_every_sync_point_is_documented_and_no_other() -> None:
    code = "".join(path.read_text() for path in (ROOT / "agentd/store").glob("*.py"))
    prefixes = "append|check|create|open|prepare|prune|quarantine|segment|sweep|view"
    used = set(re.findall(rf'"((?:{prefixes})\.[a-z_]+)"', code))
    assert used
    documented = set(re.findall(rf"`((?:{prefixes})\.[a-z_]+)`", STORAGE))
    assert used == documented
