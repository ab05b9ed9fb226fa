"""Stories of a store on the simulated disk, and a watcher that recovers every state a power cut may leave in them."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from typing import NamedTuple

import pytest

from agentd.errors import StorageFailed, StorageFull
from agentd.model.ids import session_tag
from agentd.model.run import RunState, Standing
from tests.store.oracle import check_recovery, is_journal
from tests.store.simdisk import SimDisk
from tests.store.story import (
    DATA,
    SEGMENT_BYTES,
    SESSIONS,
    Killed,
    Player,
    finished,
    journal_path,
    progressed,
    replayed,
    run_cancelled,
    run_created,
    run_ended,
    run_resumed,
    spent,
    started,
    step_created,
    step_ended,
    titled,
    used,
)


class Effort(NamedTuple):
    """How closely a story is watched."""

    seed: int = 20260102
    states: int = 48  #: looked at, of those that a cut at one operation may leave
    nested: float = 0.05  #: of these, those in whose recovery the power is cut again
    nested_states: int = 4  #: looked at for each operation of such a recovery


class Watcher:
    """Looks at every state that a power cut may leave at each operation of a story."""

    def __init__(self, player: Player, effort: Effort) -> None:
        self.rng = random.Random(effort.seed)
        self.player = player
        self.effort = effort
        self.rotten: frozenset[str] = frozenset()
        self.states = 0
        self.asleep = False
        self._seen: set[object] = set()

    def look(self, disk: SimDisk, operation: str, path: str) -> None:
        if self.asleep:
            return
        for state in disk.after_power_cut(self.effort.states, self.rng):
            self._check(state, nested=self.rng.random() < self.effort.nested)

    def _check(self, state: SimDisk, *, nested: bool) -> None:
        files = frozenset(state.files().items())
        acked = tuple((name, each.exists, len(each.acked)) for name, each in self.player.memories.items())
        if (files, acked) in self._seen:
            return
        self._seen.add((files, acked))
        self.states += 1
        if nested:
            self._cut_the_recovery(state.fork())
        check_recovery(state, self.player.memories, kept=self.player.kept, rotten=self.rotten)

    def _cut_the_recovery(self, first: SimDisk) -> None:
        kept = {path: data for path, data in first.files().items() if is_journal(path)}

        def cut(disk: SimDisk, operation: str, path: str) -> None:
            for second in disk.after_power_cut(self.effort.nested_states, self.rng):
                self.states += 1
                check_recovery(second, self.player.memories, kept=kept, rotten=self.rotten, after_recovery=True)

        disk = first.fork()
        disk.hook = cut
        check_recovery(disk, self.player.memories, rotten=self.rotten)


Story = Callable[["Stage"], None]


class Stage:
    """A disk, a player on it and a watcher over both."""

    def __init__(self, effort: Effort, skip: frozenset[str] = frozenset()) -> None:
        self.disk = SimDisk(skip=skip)
        self.disk.mkdir("/top")
        self.disk.fsync_dir("/")
        self.player = Player(self.disk)
        self.watcher = Watcher(self.player, effort)

    def watch(self) -> None:
        """From here on, look at every state."""
        self.disk.hook = self.watcher.look

    def another_process(self) -> None:
        """The process dies; the next one, watched, begins, shows what it found and goes on."""
        self.player.die()
        self.watch()
        self.player.start()
        self.player.views("a")
        self.player.append("a", finished("t1"))

    def fail(self, operation: str, error: BaseException, ending: str = "") -> None:
        """Watch, and let the next such operation fail."""
        self.disk.hook = self._failing(operation, error, ending)

    def _failing(self, operation: str, error: BaseException, ending: str) -> Callable[[SimDisk, str, str], None]:
        def hook(disk: SimDisk, name: str, path: str) -> None:
            self.watcher.look(disk, name, path)
            if name == operation and path.endswith(ending):
                self.watch()
                raise error

        return hook

    def end(self) -> int:
        """Look at the last state too; the number of states seen."""
        self.watcher.look(self.disk, "end", "")
        self.player.close()
        return self.watcher.states

    def quietly(self, *tasks: str) -> Player:
        """A started store with session `a`, its tasks running; nobody watches yet."""
        self.player.start()
        self.player.create("a", *tasks)
        self.player.append("a", *(started(task) for task in tasks))
        self.player.views("a")
        return self.player


def fill(player: Player) -> None:
    """Append until the next batch begins a new segment."""
    while player.positions["a"].offset < SEGMENT_BYTES:
        player.append("a", progressed("t1"))


def first_start(stage: Stage) -> None:
    """An empty disk becomes a data directory with a session."""
    stage.watch()
    stage.player.start()
    stage.player.create("a", "t1")
    stage.player.append("a", started("t1"))


def everyday(stage: Stage) -> None:
    """Tasks run and end, views follow, two sessions mix."""
    player = stage.quietly("t1", "t2", "t3")
    stage.watch()
    player.append("a", progressed("t1"), progressed("t2"))
    player.append("a", finished("t1"))
    player.create("b", "u1")
    player.views("a")
    player.append("b", started("u1"))
    player.append("a", titled("new"), finished("t2"))
    player.views("a")
    player.append("a", finished("t3"))
    player.append("b", finished("u1"))
    player.views("b")
    player.views("a")


def workflow(stage: Stage) -> None:
    """Runs begin, go from step to step, are cancelled, end and go on; their tasks use something up."""
    player = stage.quietly()
    stage.watch()
    player.append("a", run_created("a", "r1"))
    player.append("a", step_created("a", "t1", "r1", "a"), step_created("a", "t2", "r1", "b"))
    player.append("a", started("t1"), used("t1", 10))
    player.views("a")
    player.append("a", spent("t1", 10))
    player.append("a", step_ended("t1", "r1", "a"), step_created("a", "t3", "r1", "c"), run_created("a", "r2"))
    player.append("a", started("t3"), run_cancelled("r1"))
    player.views("a")
    player.append("a", spent("t3", 30), step_ended("t3", "r1", "c", Standing.FAILED))
    player.append("a", started("t2"), finished("t2"), step_ended("t2", "r1", "b"), run_ended("r1", RunState.CANCELLED))
    player.append("a", run_resumed("r1", "c"), step_created("a", "t4", "r1", "c"), run_ended("r2"))
    player.views("a")
    player.append("a", started("t4"), spent("t4", 5))
    player.append("a", step_ended("t4", "r1", "c"), run_ended("r1"))
    player.views("a")
    session = replayed(player.memories["a"].acked).session
    assert session is not None and session.usage is not None
    assert (session.usage.attempts, session.usage.input_tokens, session.usage.output_bytes) == (4, 45, 21)


def killed_between_steps(stage: Stage) -> None:
    """The end of a step and the start of the next are written and never synced; the next process goes on from them."""
    player = stage.quietly()
    player.append("a", run_created("a", "r1"), step_created("a", "t1", "r1", "a"), started("t1"), spent("t1", 10))
    player.views("a")
    stage.fail("fdatasync", Killed())
    with pytest.raises(Killed):
        player.append("a", step_ended("t1", "r1", "a"), step_created("a", "t2", "r1", "b"), started("t2"))
    player.die()
    stage.watch()
    player.start()
    player.append("a", spent("t2", 20), step_ended("t2", "r1", "b"), run_ended("r1"))
    player.views("a")


def rotation(stage: Stage) -> None:
    """The journal goes on in new segments; old ones are pruned."""
    player = stage.quietly("t1")
    fill(player)
    stage.watch()
    player.append("a", progressed("t1"))
    stage.disk.hook = None
    fill(player)
    player.append("a", progressed("t1"))
    fill(player)
    stage.watch()
    player.append("a", progressed("t1"))
    assert stage.disk.exists(journal_path("a", 4))
    player.views("a")
    player.folders["a"].prune(1 << 40)
    player.append("a", finished("t1"))


def removal(stage: Stage) -> None:
    """One of two sessions is removed; what was promised gone does not come back, and the other is as it was."""
    player = stage.quietly("t1")
    player.create("b", "u1")
    stage.watch()
    player.remove("b")
    player.append("a", progressed("t1"))


def imported(stage: Stage) -> None:
    """A session that was removed comes back out of its archive; one of its tasks had not ended."""
    done, runs = (session_tag("a") + f"{number:010d}" for number in (1, 2))
    player = stage.quietly(done, runs)
    player.append("a", finished(done))
    player.views("a")
    archive = player.exported("a")
    player.remove("a")
    stage.disk.settle()
    stage.watch()
    player.imported("a", archive)
    player.append("a", titled("after"))


def killed_while_creating(stage: Stage) -> None:
    """The creator dies before its last sync; the next process finds the session, shows it and goes on."""
    stage.player.start()
    stage.fail("fsync_dir", Killed(), "/sessions")
    with pytest.raises(Killed):
        stage.player.create("a", "t1")
    stage.player.die()
    stage.player.start()
    stage.watch()
    stage.player.append("a", started("t1"))


def killed_before_the_sync(stage: Stage) -> None:
    """A batch is written and never synced; the next process reads it from memory and must not only believe it."""
    player = stage.quietly("t1")
    stage.fail("fdatasync", Killed())
    with pytest.raises(Killed):
        player.append("a", progressed("t1"))
    stage.another_process()


def killed_while_rotating(stage: Stage) -> None:
    """The same, when the batch began a segment whose name is not durable."""
    player = stage.quietly("t1")
    fill(player)
    player.views("a")
    stage.fail("fsync_dir", Killed(), "/history")
    with pytest.raises(Killed):
        player.append("a", progressed("t1"))
    stage.another_process()


def killed_while_viewing(stage: Stage) -> None:
    """metadata.json has its new name in memory only; the next process must not promise it with a snapshot."""
    player = stage.quietly("t1")
    player.append("a", titled("new"))
    stage.fail("fsync_dir", Killed(), "/a")
    with pytest.raises(Killed):
        player.views("a")
    stage.another_process()


def torn_tail(stage: Stage) -> None:
    """Half a batch is on the disk; then another torn tail at the same place."""
    player = stage.quietly("t1")
    for junk in (b'{"seq":4,"b":4,"sess', bytes(40)):
        player.close()
        stage.disk.settle()
        path = journal_path("a")
        stage.disk.put(path, stage.disk.read(path) + junk)
        player.kept = {path: stage.disk.read(path)}
        stage.watch()
        player.start()
        stage.disk.hook = None
    stage.watch()
    player.append("a", progressed("t1"))


def quarantine_removed(stage: Stage) -> None:
    """Somebody removed quarantine/ from under a running daemon, which then opens a session with a torn tail."""
    player = stage.quietly("t1")
    player.close()
    stage.disk.rmtree(f"{DATA}/quarantine")
    stage.disk.settle()
    path = journal_path("a")
    stage.disk.put(path, stage.disk.read(path) + b"{")
    player.kept = {path: stage.disk.read(path)}
    stage.watch()
    player.open("a")


def rotten_snapshot(stage: Stage) -> None:
    """tasks.json is not as written: it goes to quarantine and is made again from the journal."""
    player = stage.quietly("t1")
    player.close()
    stage.disk.settle()
    path = f"{SESSIONS}/a/tasks.json"
    stage.disk.put(path, stage.disk.read(path).replace(b"running", b"waiting"))
    player.kept = {path: stage.disk.read(path)}
    stage.watcher.rotten = frozenset({path})
    stage.watch()
    player.start()


def full_while_rotating(stage: Stage) -> None:
    """A new segment finds no room; the process is replaced, goes on in the old one, and a power cut follows."""
    player = stage.quietly("t1")
    fill(player)
    player.views("a")
    stage.disk.short_write = 400  # the header and a whole record
    stage.fail("write", OSError(errno.ENOSPC, "No space left on device"), "events-000002.jsonl")
    with pytest.raises(StorageFull):
        player.append("a", progressed("t1"), progressed("t1"))
    player.die()
    stage.watch()
    player.start()
    player.append("a", finished("t1"))


def full(stage: Stage) -> None:
    """A batch finds no room, the next one does."""
    player = stage.quietly("t1")
    stage.disk.short_write = 200
    stage.fail("write", OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(StorageFull):
        player.append("a", progressed("t1"), progressed("t1"))
    player.append("a", progressed("t1"))
    player.append("a", finished("t1"))


def failed_sync(stage: Stage) -> None:
    """A sync fails: poisoned, resumed in a new segment, whose own first sync fails once; then a restart."""
    player = stage.quietly("t1")
    stage.fail("fdatasync", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageFailed):
        player.append("a", progressed("t1"))
    folder = player.folders["a"]
    assert folder.poisoned
    stage.fail("fsync_dir", OSError(errno.EIO, "Input/output error"))
    with pytest.raises(StorageFailed):
        folder.resume()
    folder.resume()
    player.append("a", progressed("t1"))
    player.append("a", finished("t1"))
    player.views("a")
    player.close()
    player.start()
    player.append("a", titled("after"))


STORIES: list[Story] = [
    first_start,
    everyday,
    rotation,
    removal,
    imported,
    killed_while_creating,
    killed_before_the_sync,
    killed_while_rotating,
    killed_while_viewing,
    torn_tail,
    quarantine_removed,
    rotten_snapshot,
    full_while_rotating,
    full,
    failed_sync,
    workflow,
    killed_between_steps,
]


def states_of(story: Story, effort: Effort) -> int:
    """Act the story out and recover every state that a power cut may leave in it; how many these were.

    Raises:
        AssertionError: a rule of docs/storage.md did not hold after one of them.
    """
    stage = Stage(effort)
    story(stage)
    return stage.end()


def points() -> list[str]:
    """Every sync that the stories reach, by its name."""
    found: set[str] = set()
    for story in STORIES:
        stage = Stage(Effort())
        stage.watcher.asleep = True
        story(stage)
        found |= stage.disk.points
    return sorted(found - {""})


def loss_without(point: str) -> str | None:
    """The story in which something is lost when this sync is left out; None: nothing ever is."""
    for story in STORIES:
        stage = Stage(Effort(nested=0.0), frozenset({point}))
        try:
            story(stage)
            stage.end()
        except Exception:  # whatever it is: the store, or the oracle, noticed
            return story.__name__
    return None
