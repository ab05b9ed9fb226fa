"""The viewer's secret: a file for its owner alone, which seals every cookie and link."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from webui.settings import SettingsError

SECRET_BYTES = 32
_MAX_BYTES = 4096


def state_dir(environ: Mapping[str, str]) -> Path:
    """Where the XDG base directory specification wants state: `$XDG_STATE_HOME/agentd-web`."""
    home = environ.get("XDG_STATE_HOME", "")
    return Path(home if os.path.isabs(home) else Path.home() / ".local" / "state") / "agentd-web"


def read_secret(path: Path) -> bytes:
    """The secret in the file; a new one, for good, if there is no file.

    Raises:
        SettingsError: it cannot be read or made, is too short, or others may read it.
    """
    try:
        if not path.exists():
            _make(path)
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            secret = file.read(_MAX_BYTES).strip() if stat.S_ISREG(found.st_mode) else b""
    except OSError as error:
        raise SettingsError(f"secret_file {path}: {error.strerror}") from error
    if found.st_mode & 0o077:
        raise SettingsError(f"secret_file {path}: others can read it, and so log in; chmod 600 it, or remove it")
    if len(secret) < SECRET_BYTES:
        raise SettingsError(f"secret_file {path}: it holds less than {SECRET_BYTES} bytes; remove it for a new one")
    return secret


def _make(path: Path) -> None:
    """Write it whole beside, then link it into place: of two viewers that start at once, both take the first's."""
    for folder in reversed((path.parent, *path.parent.parents)):
        folder.mkdir(mode=0o700, exist_ok=True)  # each: `parents=True` would leave all but the last to the umask
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(secrets.token_hex(SECRET_BYTES) + "\n")
    try:
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
    finally:
        os.unlink(beside)
