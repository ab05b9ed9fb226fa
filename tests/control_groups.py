"""Real control groups (cgroup v2) for tests: one of the test's own, with the controllers where the kernel has them.

Where it has none, `tests/daemon/test_limits.py` runs the same tests in a kernel that does.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentd.engines.local import cgroups

#: A mount of cgroup v2, which need not have controllers.
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
MOUNT = next((path for path in MOUNTS if os.path.exists(f"{path}/cgroup.procs")), "")
HAS_CONTROLLERS = bool(MOUNT) and set(cgroups.CONTROLLERS) <= set(Path(MOUNT, "cgroup.controllers").read_text().split())

needs_groups = pytest.mark.skipif(
    not (MOUNT and os.access(MOUNT, os.W_OK)), reason="no writable mount of cgroup v2 here"
)
#: For the fixture `delegated`.
needs_controllers = pytest.mark.skipif(
    not HAS_CONTROLLERS, reason="no mount of cgroup v2 with the controllers memory, cpu and pids here"
)


@pytest.fixture
def group() -> Iterator[Path]:
    """A real cgroup of the test's own, whatever controllers it has; removed with all that is in it."""
    path = Path(MOUNT, f"agentd-test-{uuid.uuid4().hex[:12]}")
    path.mkdir()
    yield path
    for inner in path.iterdir():
        if inner.is_dir():
            assert cgroups.remove(str(inner))
    assert cgroups.remove(str(path))


@pytest.fixture
def delegated(group: Path) -> Path:
    """A group that may have limited groups within, as systemd's Delegate=yes gives one."""
    enable = " ".join(f"+{name}" for name in cgroups.CONTROLLERS)
    try:
        (group.parent / "cgroup.subtree_control").write_text(enable)
    except OSError as error:
        pytest.skip(f"the controllers cannot be enabled here: {error}")
    return group
