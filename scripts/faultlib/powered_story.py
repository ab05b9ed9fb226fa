"""The stories of a store (`tests.store.stories`) on a real file system, told from processes of their own."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from faultlib.powered_disk import PoweredDisk
from tests.store.oracle import check_recovery
from tests.store.simdisk import SimDisk
from tests.store.stories import Effort, Stage, Watcher
from tests.store.story import Memory, Player

Tell = Callable[[object], None]


class State(NamedTuple):
    """What is known when the power goes."""

    memories: dict[str, Memory]
    kept: dict[str, bytes]
    rotten: frozenset[str]


class PoweredWatcher(Watcher):
    """Knows what is known."""

    def __init__(self, player: Player) -> None:
        super().__init__(player, Effort())

    @property
    def state(self) -> State:
        """As of now."""
        return State(self.player.memories, self.player.kept, self.rotten)


class PoweredStage(Stage):
    """A stage on a real disk."""

    def __init__(self, disk: PoweredDisk, watcher: Callable[[Player], PoweredWatcher]) -> None:
        self.disk = cast(SimDisk, disk)  # it has all that stories use
        self.disk.mkdir("/top")
        disk.settle()
        self.player = Player(self.disk)
        self.watcher = watcher(self.player)


def cleared(root: str) -> None:
    """Nothing of an earlier story is left there."""
    disk = PoweredDisk(root)
    if disk.exists("/top"):
        disk.rmtree("/top")
    disk.settle()


def problem_after(root: str, state: State, *, kept: dict[str, bytes] | None = None) -> str | None:
    """Recover what is there; which rule does not hold. With `kept`, an earlier recovery was cut short."""

    def told(tell: Tell) -> None:
        check_recovery(
            PoweredDisk(root),
            state.memories,
            kept=state.kept if kept is None else kept,
            rotten=state.rotten,
            after_recovery=kept is not None,
        )
        tell(None)

    return cast(str | None, forked(told))


def forked(work: Callable[[Tell], None]) -> Any:
    """What the work tells from a process of its own, which keeps no file open for longer; its error as a sentence."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        with os.fdopen(write, "wb") as pipe:

            def tell(value: object) -> None:
                pickle.dump(value, pipe)
                pipe.flush()

            try:
                work(tell)
            except BaseException as error:  # the oracle, or the store itself
                tell(f"{type(error).__name__}: {error}"[:500])
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as told:
        data = told.read()
    os.waitpid(pid, 0)
    return pickle.loads(data)
