"""The home that a CLI has in its session: private, with the user's own credentials linked into it, never copied."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from agentd.drivers.moving import put_right
from agentd.drivers.writing import replace
from agentd.kinds.agents.protocol import Adapter, Assignment

_USAGE = "agentd-usage.json"


class Home:
    """One CLI's home in one session."""

    def __init__(self, adapter: Adapter, assignment: Assignment, environ: Mapping[str, str]) -> None:
        self._adapter = adapter
        self._assignment = assignment
        self._path = Path(assignment.home)
        moved = environ.get(adapter.home_variable) if adapter.home_variable is not None else None
        user = environ.get("HOME")
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
            if own.exists() and not name.is_symlink() and not name.exists():
                name.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                name.symlink_to(own)

    def settle(self) -> None:
        """Give the user back what the CLI wrote over a link, as it does when it renews a login; then link again.

        Credentials would otherwise stay in the session, and be exported with it.
        """
        for own, name in self._links():
            if name.is_file() and not name.is_symlink():
                with contextlib.suppress(OSError):
                    replace(own, name.read_text())
                    name.unlink()
                    name.symlink_to(own)

    def counted(self, conversation: str) -> tuple[int, int]:
        """Tokens that earlier attempts have told of this conversation: input, output."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            kept = json.loads((self._path / _USAGE).read_text())[conversation]
            return int(kept[0]), int(kept[1])
        return 0, 0

    def count(self, conversation: str, input_tokens: int, output_tokens: int) -> None:
        """Keep what the conversation has used so far."""
        kept = {}
        with contextlib.suppress(OSError, ValueError):
            kept = json.loads((self._path / _USAGE).read_text())
        with contextlib.suppress(OSError, TypeError):
            replace(self._path / _USAGE, json.dumps({**kept, conversation: [input_tokens, output_tokens]}))

    def _links(self) -> list[tuple[Path, Path]]:
        own = self._own
        if own is None or own == self._path:
            return []
        return [(own / link.own, self._path / link.name) for link in self._adapter.links]
