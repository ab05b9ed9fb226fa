"""Values whose names look secret, blotted out: what a passer-by must not read off a screen.

It is for the eye alone: whoever may read a task may read all of it, over the API.
"""

from __future__ import annotations

import re
from typing import Any

BLOT = "••••••"
_SECRET = re.compile(
    r"token|secret|passw|passphrase|pwd|credential|authorization|cookie|api_?key|private_?key"
    r"|(^|[_-])(key|keys|pass|auth|dsn)$",
    re.IGNORECASE,
)


def blotted(value: Any) -> Any:
    """The value with what its secret-looking names hold, at any depth, replaced by a blot."""
    if isinstance(value, dict):
        return {key: BLOT if _SECRET.search(key) and _holds(each) else blotted(each) for key, each in value.items()}
    if isinstance(value, list):
        return [blotted(each) for each in value]
    return value


def _holds(value: Any) -> bool:
    return isinstance(value, str) and value != ""
