"""A file that is there while containers of the agent may be: a start asks the container engine only then."""

from __future__ import annotations

import os

from agentd.store import layout
from agentd.store.disk import FILE_MODE


class ContainerMark:
    """The file. Not synced: after a power loss no container runs."""

    def __init__(self, data_dir: str) -> None:
        self._path = layout.containers_path(data_dir)

    def is_set(self) -> bool:
        """Whether some may be there."""
        return os.path.exists(self._path)

    def set(self) -> None:
        """Some may be there, from now on.

        Raises:
            OSError: the disk refused.
        """
        os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))

    def clear(self) -> None:
        """None is there.

        Raises:
            OSError: the disk refused.
        """
        if self.is_set():
            os.unlink(self._path)
