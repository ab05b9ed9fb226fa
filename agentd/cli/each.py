"""The same for several ids: what fails is told, and the rest is done all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from agentd.cli import exits
from agentd.cli.printing import notice
from agentd.errors import AgentdError, Unauthorized, Unreachable

T = TypeVar("T")


async def each_of(names: Sequence[str], function: Callable[[str], Awaitable[T]]) -> tuple[list[T], int]:
    """What came of each that worked, and the exit code of the first that did not.

    Raises:
        AgentdError: of a single name; of several, only what would fail for all of them.
    """
    done: list[T] = []
    code = exits.OK
    for name in names:
        try:
            done.append(await function(name))
        except (Unreachable, Unauthorized):
            raise
        except AgentdError as error:
            if len(names) == 1:
                raise
            notice(error.detail)
            code = code or exits.code_of(error)
    return done, code
