"""Files that a task asks to have kept."""

from __future__ import annotations

import pytest

from agentd.config import Limits
from agentd.errors import Invalid
from agentd.model.task import State
from agentd.store.collecting import matches
from tests.service.conftest import Build
from tests.service.house import House


async def test_what_a_task_asked_to_keep_becomes_artifacts_beneath_its_id(house: House) -> None:
    await house.session()
    script = (
        "mkdir -p dist/deep reports; echo a > dist/a.whl; echo b > dist/deep/b.whl; echo c > reports/c.txt; echo d > d"
    )
    task = await house.ended((await house.submit(script, artifacts=("dist/*.whl", "reports/**"))).task_id)
    assert task.cause is not None
    assert task.cause.message == "exited with code 0"
    rows = house.service.artifacts("s").list(100).data
    assert [row.path for row in rows] == [f"{task.task_id}/dist/a.whl", f"{task.task_id}/reports/c.txt"]


async def test_a_task_that_fails_leaves_what_it_asked_to_keep_and_a_link_leads_nowhere(house: House) -> None:
    await house.session()
    script = "echo log > run.log; ln -s /etc/passwd evil.log; ln -s .. up; exit 3"
    task = await house.ended((await house.submit(script, artifacts=("**",))).task_id)
    assert task.state is State.FAILED
    assert [row.path for row in house.service.artifacts("s").list(100).data] == [f"{task.task_id}/run.log"]


async def test_what_cannot_be_kept_is_said_and_keeps_nothing_else_back(build: Build) -> None:
    house = build(limits=Limits(artifact_bytes=10))
    await house.open()
    await house.session()
    script = "echo small > a; echo much too large for this > b; echo small > c"
    task = await house.ended((await house.submit(script, artifacts=("*",))).task_id)
    assert task.state is State.COMPLETED
    assert task.cause is not None
    assert "; b was not kept: artifact " in task.cause.message
    kept = [row.path.partition("/")[2] for row in house.service.artifacts("s").list(100).data]
    assert kept == ["a", "c"]


@pytest.mark.parametrize("pattern", ["../../x", "/etc/passwd", "a/../b", "", "a//b"])
async def test_a_pattern_that_leads_out_of_the_workspace_is_refused(quiet: House, pattern: str) -> None:
    await quiet.session()
    with pytest.raises(Invalid) as caught:
        await quiet.submit(artifacts=("fine", pattern))
    assert caught.value.errors[0].field == "artifacts[1]"


@pytest.mark.parametrize(
    ("path", "pattern", "fits"),
    [
        ("a/b/c.txt", "**", True),
        ("a/b/c.txt", "a/**/c.txt", True),
        ("a/c.txt", "a/**/c.txt", True),
        ("a/b/c.txt", "*/c.txt", False),
        ("a/b/c.txt", "**/*.txt", True),
        ("c.txt", "**/*.txt", True),
        (".hidden", "*", True),
        ("c.TXT", "*.txt", False),
        ("c1.txt", "c[0-9].txt", True),
        ("a/" * 31 + "b", "**/a/" * 15 + "c", False),
    ],
)
def test_a_pattern_fits_component_by_component(path: str, pattern: str, fits: bool) -> None:
    assert matches(tuple(path.split("/")), tuple(pattern.split("/"))) is fits
