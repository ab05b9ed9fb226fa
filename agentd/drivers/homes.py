"""The home that a CLI has in its session: private, with the user's own credentials linked into it, never copied."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from agentd.drivers.moving import put_right
from agentd.drivers.writing import read, replace
from agentd.kinds.agents.known import USAGE
from agentd.kinds.agents.protocol import Adapter, Assignment


class Home:
    """One CLI's home in one session."""

    def __init__(self, adapter: Adapter, assignment: Assignment, environ: Mapping[str, str]) -> None:
        self._adapter = adapter
        self._assignment = assignment
        self._path = Path(assignment.home)
        moved = environ.get(adapter.home_variable) if adapter.home_variable is not None else None
        user = environ.get("HOME")
        self._linked: list[tuple[Path, Path]] = []
        self._own = Path(moved) if moved else Path(user, adapter.own_home) if user and adapter.own_home else None

    def prepare(self) -> None:
        """Make it, its files, and its links to what the user has.

        Raises:
            OSError: it cannot be made.
        """
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self._path, 0o700)
        put_right(self._path, self._adapter.remembered)
        for file in self._adapter.files(self._assignment):
            replace(self._path / file.name, file.text)
        for own, name in self._links():
            if name.is_symlink() and name.readlink() != own:
                name.unlink()
            if own.exists() and not name.is_symlink() and not name.exists():
                name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                name.symlink_to(own)
            if name.is_symlink():
                self._linked.append((own, name))

    def settle(self) -> None:
        """Give the user back what the CLI wrote over a link, as it does when it renews a login; then link again.

        Only what this very CLI wrote, and only outside a sandbox: one that is in there, or an import, would otherwise
        write the user's own settings, by which programs are run.
        """
        for own, name in self._linked if not self._assignment.within else ():
            if name.is_file() and not name.is_symlink():
                with contextlib.suppress(OSError, ValueError):
                    replace(own, read(name).decode())
                    name.unlink()
                    name.symlink_to(own)

    def counted(self, conversation: str) -> tuple[int, int]:
        """Tokens that earlier attempts have told of this conversation: input, output."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads(read(self._path / USAGE))[conversation]
            return int(kept[0]), int(kept[1])
        return 0, 0

    def count(self, conversation: str, input_tokens: int, output_tokens: int) -> None:
        """Keep what the conversation has used so far."""
        kept = {}
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads(read(self._path / USAGE))
        with contextlib.suppress(OSError, TypeError):
            replace(self._path / USAGE, json.dumps({**kept, conversation: [input_tokens, output_tokens]}))

    def _links(self) -> list[tuple[Path, Path]]:
        own = self._own
        if own is None or own == self._path:
            return []
        home = self._path.resolve()
        links = [(own / link.own, self._path / link.name) for link in self._adapter.links]
        return [(own, name) for own, name in links if name.parent.resolve().is_relative_to(home)]
