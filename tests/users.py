"""Other users of the machine, for tests that act as one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

NOBODY = 65534


def _there(user: int) -> bool:
    """Whether the system has the user: the namespace of a container may have root alone (user_namespaces(7))."""
    known = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= user < first + count for first, _, count in known)


as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not _there(NOBODY), reason="only root can act as another user, where there are others"
)
