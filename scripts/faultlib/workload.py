"""The scripted life of a real daemon: every verb once or more, in a few seconds."""

from __future__ import annotations

import contextlib

from faultlib.actor import Actor, TooLate
from faultlib.programs import HERE


def live(actor: Actor) -> None:
    """The life, from the first request to a clean stop; raises Gone where the daemon is killed."""
    waits = f"while ! test -e {HERE}/gate; do sleep 0.05; done"
    actor.create("a", "one", labels={"of": "tests"})
    actor.rename("a", "two")
    first = actor.submit("a", "first", "echo out; echo err >&2", key="k-first")
    with contextlib.suppress(TooLate):
        actor.wait(actor.submit("a", "second", "true", needs=[first]))
    actor.put("a", "report/one.txt", b"1" * 700)
    actor.put("a", "two.txt", b"two")
    actor.wait(first)
    actor.again("first")
    actor.put("a", "two.txt", b"three")
    actor.drop("a", "report/one.txt")
    actor.create("b", "long", policy={"max_parallel": 2, "tasks_kept": 1})
    held = actor.submit("b", "held", f"echo before; echo beside >&2; {waits}; echo after")
    actor.submit("b", "again", waits, on_interrupt="retry")
    with contextlib.suppress(TooLate):
        actor.submit("b", "behind", "true", needs=[held])
    actor.see(held, b"before", b"beside")
    actor.report(held, 40)
    actor.question(held, "q1")
    actor.answer(held)
    actor.question(held, "q2")
    actor.create("e", "delegates")
    actor.run("e")
    asks = actor.delegate("e", "asks", "true", "true")
    actor.wait(asks)
    actor.see(asks)
    actor.children(asks)
    boss = actor.delegate("e", "boss", waits, "exec sleep 600")
    actor.see(boss, b"made")
    actor.children(boss)
    actor.cancel(boss)
    actor.wait(boss)
    flaky = actor.submit("a", "flaky", 'test "$AGENTD_ATTEMPT" -ge 2', retry={"max": 1, "backoff_s": 0})
    fails = actor.submit("a", "fails", "echo failing; exit 3")
    actor.wait(flaky, fails)
    actor.wait(actor.retry(fails))
    sleeps = actor.submit("a", "sleeps", "echo asleep; exec sleep 600")
    actor.see(sleeps, b"asleep")
    actor.cancel(sleeps)
    actor.wait(sleeps)
    actor.edit_by_hand("a", "three")
    actor.edit_by_hand("a", 5)
    actor.create("c", "short", policy={"retention": {"tasks": {"max_count": 1}, "output": {"max_count": 1}}})
    actor.wait(*[actor.submit("c", f"short-{n}", f"echo {n}") for n in range(3)])
    actor.cleanup("c")
    actor.create("d", "gone soon")
    actor.ask("PATCH", "/sessions/d", {"archived": True})
    actor.delete("d")
    if actor.stop():
        actor.wrong.append(f"a clean stop left with {actor.rig.process.returncode}: {actor.rig.log_text()[-2000:]}")  # type: ignore[union-attr]
