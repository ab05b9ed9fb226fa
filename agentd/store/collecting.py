"""Files of a workspace that a task asked to have kept: copied into the session's artifacts. Blocking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from agentd.errors import AgentdError
from agentd.model.requests import ArtifactView
from agentd.store import layout
from agentd.store.artifacts import Artifacts

#: Files that one attempt leaves so at most, and files of the workspace that are looked at for them.
MOST, LOOKED_AT_MOST = 1000, 100_000
_PAGE = 1000


class Collected(NamedTuple):
    """How many files were kept, and what was not, in sentences."""

    files: int
    problems: tuple[str, ...]


def collect(session_dir: Path, task_id: str, patterns: Sequence[str], max_bytes: int) -> Collected:
    """Copy what matches to `artifacts/<task_id>/`, beneath the same path; what an earlier attempt left is replaced.

    Links are not followed, and a file that cannot be copied keeps none of the others back.
    """
    artifacts, workspace = Artifacts(session_dir), Artifacts(session_dir, layout.WORKSPACE)
    split = [tuple(pattern.split("/")) for pattern in patterns]
    count, problems = 0, list[str]()
    try:
        for row in _files(workspace, problems):
            if not any(matches(tuple(row.path.split("/")), pattern) for pattern in split):
                continue
            if count == MOST:
                problems.append(f"more than {MOST} files match; the others were left in the workspace")
                break
            try:
                _copy(workspace, artifacts, row.path, f"{task_id}/{row.path}", max_bytes)
                count += 1
            except AgentdError as error:
                problems.append(f"{row.path} was not kept: {error.detail}")
    except AgentdError as error:
        problems.append(f"the workspace could not be read: {error.detail}")
    return Collected(count, tuple(problems))


def matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path's components fit a pattern's: `*`, `?` and `[…]` within one, `**` for any number of them."""
    reached = {0}  # how many names the pattern so far may have taken: all ways at once, so that many ** cost no more
    for part in pattern:
        if part == "**":
            reached = set(range(min(reached), len(names) + 1))
        else:
            reached = {n + 1 for n in reached if n < len(names) and fnmatchcase(names[n], part)}
        if not reached:
            return False
    return len(names) in reached


def _files(workspace: Artifacts, problems: list[str]) -> Iterator[ArtifactView]:
    seen, cursor = 0, None
    while True:
        page = workspace.list(_PAGE, cursor)
        yield from page.data
        seen, cursor = seen + len(page.data), page.next
        if cursor is None:
            return
        if seen >= LOOKED_AT_MOST:
            problems.append(f"only the first {seen} files of the workspace were looked at")
            return


def _copy(workspace: Artifacts, artifacts: Artifacts, source: str, target: str, max_bytes: int) -> None:
    opened = workspace.open(source)
    with opened.file, artifacts.write(target, max_bytes) as writer:
        for block in opened.blocks():
            writer.write(block)
        writer.commit()
