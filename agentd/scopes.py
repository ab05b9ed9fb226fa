"""Tokens of tasks: each attempt gets one that opens its own session and nothing else.

A token is the task's id under a key that lives as long as the daemon, so nothing is stored, and none outlives it.
"""

from __future__ import annotations

import hashlib
import hmac

from agentd.model.ids import TASK_ID_LENGTH, is_task_id

_PREFIX = "task-"


class TaskTokens:
    """Issues and reads task tokens under one key of 32 random bytes."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def issue(self, task_id: str) -> str:
        """The token of a task."""
        return f"{_PREFIX}{task_id}-{self._digest(task_id)}"

    def task_id(self, token: str) -> str | None:
        """The task whose token it is; None when it is none of ours. Constant time in the secret part."""
        if not token.startswith(_PREFIX):
            return None
        task_id = token[len(_PREFIX) : len(_PREFIX) + TASK_ID_LENGTH]
        if not is_task_id(task_id) or not token.isascii():
            return None
        if not hmac.compare_digest(token, self.issue(task_id)):
            return None
        return task_id

    def _digest(self, task_id: str) -> str:
        return hmac.new(self._key, task_id.encode(), hashlib.sha256).hexdigest()
