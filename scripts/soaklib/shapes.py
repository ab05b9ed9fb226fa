"""Tasks of every shape: what to submit, and what must come of it if nobody disturbs it."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]

#: Before anything else a task leaves its mark, in one write.
BEGIN = 'm() { echo "$SOAK_NONCE $AGENTD_TASK_ID $AGENTD_ATTEMPT $1" >> "$SOAK_MARKS"; }; m begin; '


class Shape(NamedTuple):
    """A request without its session, what to expect, and whether it would take long if nobody ended it."""

    name: str
    body: Json
    expect: Json
    long: bool = False


class Shapes:
    """Makes shapes, each with a nonce of its own. `mark` is in the command line of every process of every task."""

    def __init__(self, dice: random.Random, mark: str, marks: Path, longest_s: float) -> None:
        self.mark = mark
        self._dice = dice
        self._marks = marks
        self._longest_s = longest_s
        self._count = 0
        self._due = dice.sample(list(_SHAPES), len(_SHAPES))

    def next(self) -> Shape:
        """Each once, then any."""
        self._count += 1
        nonce = f"{self._count:07}"
        make = self._due.pop() if self._due else self._dice.choices(list(_SHAPES), weights=list(_SHAPES.values()))[0]
        return self._shaped(make(self._dice, f"0.{self.token(nonce)}", self._longest_s), nonce)

    def token(self, nonce: str) -> str:
        """What the command lines of one request's processes have in them; digits, so that `sleep` takes them."""
        return self.mark + nonce

    def _shaped(self, shape: Shape, nonce: str) -> Shape:
        spec = shape.body["spec"]
        if "command" in spec:
            spec["command"] = f"{BEGIN}: 0.{self.token(nonce)}; {spec['command']}"
        env = {"SOAK_NONCE": nonce, "SOAK_MARKS": str(self._marks), "SOAK_TOKEN": f"0.{self.token(nonce)}"}
        spec["env"] = env
        if "result" in shape.expect:
            shape.expect["result"] = {"nonce": nonce}
        return shape


def _shape(name: str, command: str, *, codes: tuple[str, ...] = ("ok",), long: bool = False, **fields: Any) -> Shape:
    spec = fields.pop("spec", {})
    return Shape(name, {"spec": {"command": command, **spec}, "name": name, **fields}, {"codes": list(codes)}, long)


def _expecting_output(shape: Shape, output: bytes) -> Shape:
    shape.expect["output"] = [len(output), zlib.crc32(output)]
    return shape


def _quick(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("quick", "m end")


def _fails(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("fails", f"exit {dice.randint(1, 125)}", codes=("exit_code",))


def _sleeps(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("sleeps", f"sleep {dice.random():.2f} {token}; m end")


def _long(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("long", f"sleep {dice.uniform(longest_s / 4, longest_s):.1f} {token}; m end", long=True)


def _loud(dice: random.Random, token: str, longest_s: float) -> Shape:
    size = int(10 ** dice.uniform(2, 5.8))
    line = token.encode() + b"\n"
    shape = _shape("loud", f"yes $SOAK_TOKEN | head -c {size}; m end")
    return _expecting_output(shape, (line * (size // len(line) + 1))[:size])


def _both_streams(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("both streams", "for i in $(seq 200); do echo out $i; echo err $i >&2; done; m end")


def _dribbles(dice: random.Random, token: str, longest_s: float) -> Shape:
    shape = _shape("dribbles", f"for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.1 {token}; done; m end")
    return _expecting_output(shape, b"".join(b"line %d\n" % n for n in range(1, 9)))


def _forks(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("forks", f"for i in 1 2 3 4 5 6; do (sleep 0.1 {token}) & done; wait; m end")


def _leaves(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape(
        "leaves some behind", f"setsid sh -c 'sleep 300 {token} & sleep 300 {token}' & sleep 300 {token} & m end"
    )


def _escapes(dice: random.Random, token: str, longest_s: float) -> Shape:
    inner = f"env -i /usr/bin/setsid /bin/sh -c '(/bin/sleep 300 {token}) & /bin/sleep 300 {token}'"
    return _shape("escapes", f"{inner} & sleep 0.1 {token}; m end")


def _deaf(dice: random.Random, token: str, longest_s: float) -> Shape:
    command = f"trap '' TERM HUP INT; while :; do sleep 0.2 {token}; done"
    return _shape("deaf", command, codes=("timeout",), timeout_s=dice.choice([0.5, 3.0]))


def _stopped(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("stops itself", "kill -STOP $$; m end", codes=("timeout",), timeout_s=1.0)


def _too_long(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("too long", f"sleep 300 {token}", codes=("timeout",), timeout_s=round(dice.uniform(0.1, 1.5), 2))


def _again(dice: random.Random, token: str, longest_s: float) -> Shape:
    retry = {"max": 3, "on": ["exit_code", "worker_lost"], "backoff_s": 0.05, "factor": 2.0}
    return _shape("again", "[ $AGENTD_ATTEMPT -ge 3 ] || exit 7; m end", codes=("ok", "exit_code"), retry=retry)


def _persistent(dice: random.Random, token: str, longest_s: float) -> Shape:
    command = f"sleep {dice.uniform(0.5, 3):.1f} {token}; m end"
    return _shape("persistent", command, on_interrupt="retry", long=True)


def _later(dice: random.Random, token: str, longest_s: float) -> Shape:
    at = datetime.now(UTC) + timedelta(seconds=dice.uniform(0.1, 3))
    return _shape("later", "m end", not_before=at.isoformat(timespec="microseconds").replace("+00:00", "Z"))


def _result(dice: random.Random, token: str, longest_s: float) -> Shape:
    shape = _shape("result", 'printf \'{"nonce":"%s"}\' $SOAK_NONCE > $AGENTD_RESULT; m end')
    shape.expect["result"] = None  # the nonce follows
    return shape


def _artifact(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("artifact", "echo $SOAK_TOKEN > $AGENTD_ARTIFACTS/$SOAK_NONCE.txt; m end")


def _talks(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("talks", "agentd progress 50 --phase half --message here || true; m end")


def _too_much(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape(
        "too much", "yes $SOAK_TOKEN", codes=("output_limit",), max_output_bytes=dice.choice([1, 4096, 300_000])
    )


def _missing(dice: random.Random, token: str, longest_s: float) -> Shape:
    body = {"spec": {"argv": ["/no/such/program"]}, "name": "missing"}
    return Shape("missing", body, {"codes": ["spawn_failed"]})


def _reads(dice: random.Random, token: str, longest_s: float) -> Shape:
    text = token * dice.choice([1, 100, 5_000])
    return _expecting_output(_shape("reads", "cat; m end", spec={"stdin": text}), text.encode())


def _never_reads(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("never reads", "m end", spec={"stdin": token * 20_000})


def _terminal(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("terminal", "test -t 1 && m end", spec={"tty": True})


def _falls(dice: random.Random, token: str, longest_s: float) -> Shape:
    return _shape("falls", "kill -SEGV $$", codes=("signal",))


def _deep(dice: random.Random, token: str, longest_s: float) -> Shape:
    script = f'n=$1; [ $n -gt 0 ] && sh -c "$0" "$0" $((n - 1)); sleep 0.05 {token}'
    return _shape("deep", f"sh -c '{script}' '{script}' 12; m end")


#: How often each is made, of the sum of all.
_SHAPES: dict[Callable[[random.Random, str, float], Shape], int] = {
    _quick: 20, _fails: 5, _sleeps: 10, _long: 4, _loud: 8, _both_streams: 3, _dribbles: 4, _forks: 5, _leaves: 5,
    _escapes: 5, _deaf: 2, _stopped: 2, _too_long: 4, _again: 5, _persistent: 6, _later: 5, _result: 5, _artifact: 3,
    _talks: 2, _too_much: 3, _missing: 2, _reads: 3, _never_reads: 1, _terminal: 2, _falls: 2, _deep: 2,
}  # fmt: skip
