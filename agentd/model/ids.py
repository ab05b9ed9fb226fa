"""Names of sessions and tasks.

A task id is 4 characters that its session's id determines and 10 random ones. So the session of an id that is
not in memory is found by looking at the few sessions with that tag, and no index has to be kept on disk.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from functools import lru_cache

from agentd.errors import Invalid

#: Crockford's base 32 in lower case: no i, l, o, u to misread.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
TAG_LENGTH = 4
TASK_ID_LENGTH = 14

#: What a session id matches, as a regular expression.
SESSION_ID = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}"
#: What the id of a conversation with an agent matches: it becomes an argument of its program, and no option of it.
CONVERSATION_ID = "[A-Za-z0-9_][A-Za-z0-9._:-]{0,199}"
_CONVERSATION_ID = re.compile(CONVERSATION_ID)
_SESSION_ID = re.compile(SESSION_ID)
_TASK_ID = re.compile(rf"[{ALPHABET}]{{{TASK_ID_LENGTH}}}")

RandomBits = Callable[[int], int]


def is_session_id(text: str) -> bool:
    """1 to 128 of A-Za-z0-9._- and no leading dot, so it is always one plain directory name."""
    return _SESSION_ID.fullmatch(text) is not None


def check_session_id(text: str) -> str:
    """The id itself.

    Raises:
        Invalid: it is not a session id.
    """
    if not is_session_id(text):
        raise Invalid.field("session_id", "must be 1 to 128 of A-Z a-z 0-9 . _ - and must not start with a dot")
    return text


def is_conversation_id(text: str) -> bool:
    """Whether the text can be the id of a conversation."""
    return _CONVERSATION_ID.fullmatch(text) is not None


def is_task_id(text: str) -> bool:
    """Whether the text has the form of a task id."""
    return _TASK_ID.fullmatch(text) is not None


@lru_cache(maxsize=1024)
def session_tag(session_id: str) -> str:
    """The first characters of the id of every task in the session."""
    number = int.from_bytes(hashlib.blake2b(session_id.encode(), digest_size=4).digest(), "big")
    return _base32(number, TAG_LENGTH)


def new_task_id(session_id: str, random_bits: RandomBits = secrets.randbits) -> str:
    """A fresh id for a task of the session: 50 random bits behind the session's tag."""
    length = TASK_ID_LENGTH - TAG_LENGTH
    return session_tag(session_id) + _base32(random_bits(5 * length), length)


def new_run_id(session_id: str) -> str:
    """A fresh id for a run of a workflow in the session; it has the form of a task's."""
    return new_task_id(session_id)


def new_session_id(random_bits: RandomBits = secrets.randbits) -> str:
    """A fresh session id, for a session nobody named."""
    return "s-" + _base32(random_bits(50), 10)


def session_id_for_key(idempotency_key: str) -> str:
    """The id of the session that a create under this key makes: a repeat after a restart finds it by name."""
    number = int.from_bytes(hashlib.blake2b(idempotency_key.encode(), digest_size=16).digest(), "big")
    return "s-" + _base32(number, 20)


def _base32(number: int, length: int) -> str:
    return "".join(ALPHABET[(number >> (5 * i)) & 31] for i in reversed(range(length)))
