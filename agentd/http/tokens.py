"""Tokens and where they are kept: the first one in `token`, the hashes of more in `tokens.json`, both 0600.

The daemon reads these files; the command line creates and revokes by changing them under a lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path

import msgspec
from filelock import lock_descriptor

from agentd.clock import rfc3339
from agentd.errors import Conflict, Invalid, NotFound, StorageFailed
from agentd.model.reading import read
from agentd.model.task import Value
from agentd.store.layout import TOKEN_FILE, TOKENS_FILE

#: Of the random part of a token, in bytes: 256 bits cannot be guessed.
TOKEN_BYTES = 32
PREFIX = "agentd_"
MAX_TOKENS = 100
MAX_FILE_BYTES = 1 << 20
FORMAT = 1

#: O_NONBLOCK: a pipe in a file's place must not hold us.
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Role(IntEnum):
    """What a token may do; each may do what those before it may."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @classmethod
    def named(cls, name: str) -> Role:
        """The role of a name.

        Raises:
            Invalid: there is none.
        """
        try:
            return cls[name.upper()]
        except KeyError:
            raise Invalid.field("role", f"must be one of {', '.join(role.name.lower() for role in cls)}") from None


class Token(Value, frozen=True, kw_only=True):
    """A token as it is kept: its hash stands for it."""

    token_id: str
    name: str
    role: str
    sha256: str
    created_at: str


class _File(Value, frozen=True, kw_only=True):
    format: int
    tokens: tuple[Token, ...]


def hashed(token: str) -> str:
    """What is kept of a token. Its 256 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def first_token(data_dir: str | Path) -> str:
    """The token in the file `token`, an admin's; it is made if it is absent.

    Raises:
        StorageFailed: others may read the file, or it cannot be read or written.
    """
    path = Path(data_dir) / TOKEN_FILE
    try:
        if not path.exists():
            with contextlib.suppress(FileExistsError):
                _put(path, f"{PREFIX}{secrets.token_urlsafe(TOKEN_BYTES)}\n".encode(), replace=False)
        fd = os.open(path, os.O_RDONLY | _OPEN)
        with os.fdopen(fd, "rb") as file:
            if not _is_ours_alone(fd):
                raise StorageFailed(f"{path} must be a file of yours that nobody else may read; chmod 600 it")
            text = file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from error
    if len(text) < 32:
        raise StorageFailed(f"{path} holds no token of 32 characters or more; remove it, and a new one is made")
    return text


class TokenFile:
    """The file of hashes."""

    def __init__(self, data_dir: str | Path) -> None:
        self._dir = Path(data_dir)
        self._path = self._dir / TOKENS_FILE

    def version(self) -> tuple[int, int, int] | None:
        """Changes whenever the file does; None when there is none."""
        try:
            found = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def all(self) -> tuple[Token, ...]:
        """Every token, oldest first.

        Raises:
            StorageFailed: the file is not ours, or not readable.
        """
        try:
            fd = os.open(self._path, os.O_RDONLY | _OPEN)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StorageFailed(f"{self._path}: {error.strerror}") from error
        if not _is_ours_alone(fd):
            os.close(fd)
            raise StorageFailed(f"{self._path} must be a file of yours that nobody else may read; chmod 600 it")
        with os.fdopen(fd, "rb") as file:
            text = file.read(MAX_FILE_BYTES)
        try:
            content = read(text, _File)
        except msgspec.MsgspecError as error:
            raise StorageFailed(f"{self._path} is not a token file: {error}") from error
        if content.format != FORMAT:
            raise StorageFailed(f"{self._path} has format {content.format}; this version reads {FORMAT}")
        return content.tokens

    def create(self, name: str, role: str, now: float) -> tuple[Token, str]:
        """A new token: what is kept, and the token itself, which is shown this once.

        Raises:
            Invalid: the name or the role.
            Conflict: the name is taken, or there are MAX_TOKENS already.
            StorageFailed
        """
        Role.named(role)
        if not name.isprintable() or not 1 <= len(name) <= 63:
            raise Invalid.field("name", "must be 1 to 63 printable characters")
        text = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        token = Token(
            token_id=secrets.token_hex(4), name=name, role=role.lower(), sha256=hashed(text), created_at=rfc3339(now)
        )
        with self._changing():
            tokens = self.all()
            if any(each.name == name for each in tokens):
                raise Conflict(f"there is a token named {name!r}; revoke it first or use another name")
            if len(tokens) >= MAX_TOKENS:
                raise Conflict(f"there are {MAX_TOKENS} tokens already; revoke some")
            self._write((*tokens, token))
        return token, text

    def revoke(self, which: str) -> Token:
        """Remove the token with this id or name; the daemon refuses it within a second.

        Raises:
            NotFound: there is none.
            StorageFailed
        """
        with self._changing():
            tokens = self.all()
            gone = next((each for each in tokens if which in (each.token_id, each.name)), None)
            if gone is None:
                raise NotFound(f"there is no token {which!r}; `agentd token list` shows them")
            self._write(tuple(each for each in tokens if each is not gone))
        return gone

    def _write(self, tokens: tuple[Token, ...]) -> None:
        content = msgspec.json.encode(_File(format=FORMAT, tokens=tokens))
        try:
            _put(self._path, msgspec.json.format(content, indent=2) + b"\n", replace=True)
        except OSError as error:
            raise StorageFailed(f"{self._path}: {error.strerror}") from error

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Alone among those that change the file; the lock is on `token`, which is never replaced."""
        first_token(self._dir)
        fd = os.open(self._dir / TOKEN_FILE, os.O_RDONLY | _OPEN)
        try:
            lock_descriptor(fd)
            yield
        finally:
            os.close(fd)


def _is_ours_alone(fd: int) -> bool:
    found = os.fstat(fd)
    return stat.S_ISREG(found.st_mode) and not found.st_mode & 0o077 and found.st_uid == os.geteuid()


def _put(path: Path, content: bytes, *, replace: bool) -> None:
    """Put the content in place, 0600, whole or not at all, and durable; FileExistsError when it may not replace."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(fd)
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
