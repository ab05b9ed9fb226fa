"""Runs one CLI to its end: reads what it prints, tells it on, answers what it asks, and knows when it hangs."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import sys
import threading
import time
from collections import deque

from agentd.drivers.child import STOPS, Child
from agentd.drivers.homes import Home
from agentd.drivers.reporting import Reports
from agentd.drivers.screen import headline, shown
from agentd.kinds.agents.lines import Lines
from agentd.kinds.agents.protocol import Adapter, Assignment, Permission
from agentd.kinds.agents.steps import Ask, Conversation, Detail, Final, Step, Turn, Used
from agentd.model.ids import is_conversation_id

#: Before a stop that it may not have had is passed on; before one that ignores an end is killed; for the rest of its
#: output when it is gone and a process that it left still holds the pipe: in seconds.
PASS_ON_S, KILL_S, DRAIN_S = 1.0, 5.0, 2.0
#: Bytes read at a time, and kept of stderr.
PIECE, COMPLAINT_MOST = 64 << 10, 4 << 10
#: What becomes of one that stalls.
STALL_OPTIONS = ("wait", "end")


class Conducted:
    """What is known of a run: filled while it lasts."""

    def __init__(self) -> None:
        self.final: Final | None = None
        self.conversation: str | None = None
        self.turns = 0
        self.used: Used | None = None
        self.stalled = False
        self.ended_late = False  #: it hung after its result and was ended
        self.skipped = 0  #: lines too long to be read
        self.garbage = 0  #: lines that were no events


class Conductor:
    """One run of one CLI."""

    def __init__(self, adapter: Adapter, assignment: Assignment, child: Child, reports: Reports, home: Home) -> None:
        self.known = Conducted()
        self._adapter, self._assignment, self._child = adapter, assignment, child
        self._reports, self._home = reports, home
        self._reader = adapter.reader()
        self._lines = Lines()
        self._complaint = bytearray()
        self._answers: deque[tuple[Ask, str]] = deque()
        self._asking = 0
        self._stalls = 0
        self._stall_asked = False  #: a person is asked what becomes of it
        self._stall_answers: deque[str | None] = deque()
        self._before = (
            home.counted(assignment.conversation) if assignment.conversation and adapter.cumulative else (0, 0)
        )
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self._stop: int | None = None
        #: What falls due when, by the monotonic clock.
        self._due: dict[str, float] = {}
        if assignment.stall_s is not None:
            self._due["stall"] = time.monotonic() + assignment.stall_s

    def run(self) -> int:
        """Conduct it to its end; its exit code, or minus the signal that ended it."""
        child = self._child
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in STOPS:
            signal.signal(number, self._stopped)
        child.say(self._adapter.first_input(self._assignment))
        if not self._adapter.speaks:
            child.say_no_more()
        with selectors.DefaultSelector() as selector:
            for end in (child.out, child.err, child.handle, self._wake_read):
                selector.register(end, selectors.EVENT_READ)
            self._loop(selector)
        code = child.code
        assert code is not None
        self._take(self._lines.end())
        known = self.known
        known.skipped, known.garbage = self._lines.skipped, self._reader.garbage
        if known.final is None or (code and known.final.ok and not known.ended_late):
            known.final = self._reader.end(code, self._complaint.decode(errors="replace")) or known.final
        if known.ended_late and known.final is not None:
            return 0 if known.final.ok else 1
        return code

    def _loop(self, selector: selectors.BaseSelector) -> None:
        child, open_ends = self._child, {self._child.out, self._child.err}
        listening = False
        while True:
            if child.has_more_to_hear is not listening:
                listening = not listening
                if listening:
                    selector.register(child.input, selectors.EVENT_WRITE)
                elif child.input_open:
                    selector.unregister(child.input)
            wait = min(self._due.values(), default=None)
            for key, _ in selector.select(None if wait is None else max(0.0, wait - time.monotonic())):
                match key.fd:
                    case child.handle:
                        selector.unregister(child.handle)
                        self._due = {"drained": time.monotonic() + DRAIN_S}
                    case self._wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, PIECE)
                    case child.input:
                        selector.unregister(child.input)  # before it may be closed
                        listening = False
                        child.write_some()
                    case _ if not self._read(key.fd):
                        selector.unregister(key.fd)
                        open_ends.discard(key.fd)
            self._answer()
            if self._stop is not None and "pass_on" not in self._due and "drained" not in self._due:
                self._due["pass_on"] = time.monotonic() + PASS_ON_S
            self._act()
            if child.code is not None and (not open_ends or "end" in self._due):
                return

    def _act(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        for what in [what for what, at in self._due.items() if at <= now]:
            del self._due[what]
            match what:
                case "stall" if not self._asking:
                    self._stall()
                case "linger":
                    self.known.ended_late = True
                    self._end()
                case "pass_on" if self._stop is not None:
                    self._child.signal(self._stop)
                    self._stop = None
                case "kill":
                    self._child.signal(signal.SIGKILL)
                case "drained":
                    self._due["end"] = float("inf")

    def _stall(self) -> None:
        sentence = f"it has said nothing for {self._assignment.stall_s:g} s"
        _print_error(f"agentd: {sentence}")
        self._reports.progress(message=sentence)
        if self._assignment.stall_ends:
            self._end_stalled(f"{sentence} and was ended")
            return
        self._stalls += 1
        self._stall_asked = True
        ask_id, prompt = f"stall-{self._stalls}", f"{sentence.capitalize()}. Wait for it, or end it?"

        def wait() -> None:
            self._stall_answers.append(self._reports.ask(ask_id, prompt, STALL_OPTIONS))
            self._wake()

        threading.Thread(target=wait, daemon=True).start()

    def _end_stalled(self, message: str) -> None:
        self.known.stalled = True
        self.known.final = Final(False, "", Detail.STALLED, message, None, self.known.turns)
        self._end()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"a")

    def _end(self) -> None:
        self._child.close_input()
        self._child.signal(signal.SIGTERM)
        self._due["kill"] = time.monotonic() + KILL_S

    def _stopped(self, number: int, frame: object) -> None:
        """A stop is for the child: it ends, and we with it."""
        self._stop = number

    def _read(self, end: int) -> bool:
        """Read a piece; False at its end."""
        try:
            data = os.read(end, PIECE)
        except BlockingIOError:
            return True
        if end == self._child.err:
            self._complaint += data
            del self._complaint[:-COMPLAINT_MOST]
            _write(2, data)
        elif data:
            self._take(self._lines.feed(data))
        return bool(data)

    def _take(self, lines: list[bytes]) -> None:
        for line in lines:
            steps = self._reader.feed(line, time.time())
            for step in steps:
                self._step(step)
            if not steps:
                continue
            if self._stall_asked:
                self._stall_asked = False
                threading.Thread(target=self._reports.withdraw, args=(f"stall-{self._stalls}",), daemon=True).start()
            if self._assignment.stall_s is not None and self._child.code is None:
                self._due["stall"] = time.monotonic() + self._assignment.stall_s
            if "linger" in self._due:
                self._due["linger"] = time.monotonic() + self._assignment.linger_s

    def _step(self, step: Step) -> None:
        known = self.known
        asked = self._assignment.permission is Permission.ASK
        if (asked or not isinstance(step, Ask)) and (text := shown(step)):
            _write(1, text.encode(errors="replace"))
        if message := headline(step):
            self._reports.progress(message=message)
        match step:
            case Conversation(id=id) if id != known.conversation and is_conversation_id(id):
                known.conversation = id
                self._reports.progress(conversation={"agent": self._assignment.agent, "conversation_id": id})
            case Turn(n=n):
                known.turns = n
                self._tell_usage()
            case Used():
                known.used = self._own_part(step)
                self._tell_usage()
            case Ask():
                self._ask(step)
            case Final() if not known.stalled:
                known.final = step
                self._child.say_no_more()
                if "drained" not in self._due and "end" not in self._due:
                    self._due["linger"] = time.monotonic() + self._assignment.linger_s

    def _own_part(self, used: Used) -> Used:
        """What this attempt used, where the CLI counts from the beginning of the conversation."""
        if not self._adapter.cumulative or self.known.conversation is None:
            return used
        self._home.count(self.known.conversation, used.input_tokens, used.output_tokens)
        before = self._before if self.known.conversation == self._assignment.conversation else (0, 0)
        return Used(max(0, used.input_tokens - before[0]), max(0, used.output_tokens - before[1]), used.cost_usd)

    def _tell_usage(self) -> None:
        usage: dict[str, float] = {"turns": self.known.turns}
        if (used := self.known.used) is not None:
            usage |= {"input_tokens": used.input_tokens, "output_tokens": used.output_tokens}
            if used.cost_usd is not None:
                usage["cost_usd"] = used.cost_usd
        self._reports.progress(usage=usage)

    def _ask(self, ask: Ask) -> None:
        if self._assignment.permission is not Permission.ASK:
            self._answers.append((ask, self._assignment.permission.value))
            return
        self._asking += 1

        def wait() -> None:
            answer = self._reports.ask(ask.id, ask.prompt, ask.options)
            self._answers.append((ask, "nobody could be asked" if answer is None else answer))
            self._wake()

        threading.Thread(target=wait, daemon=True).start()

    def _answer(self) -> None:
        while self._stall_answers:
            if (answer := self._stall_answers.popleft()) is None or not self._stall_asked:
                continue  # it went on
            self._stall_asked = False
            if answer == STALL_OPTIONS[1]:
                self._end_stalled("it said nothing for too long and was ended by a person")
            elif self._assignment.stall_s is not None:
                self._due["stall"] = time.monotonic() + self._assignment.stall_s
        while self._answers:
            ask, answer = self._answers.popleft()
            if self._assignment.permission is Permission.ASK:
                self._asking -= 1
                _write(1, f"> {answer}\n".encode(errors="replace"))
                if self._assignment.stall_s is not None and self._child.code is None:
                    self._due["stall"] = time.monotonic() + self._assignment.stall_s
            self._child.say(self._adapter.answer(ask, answer))


def _write(end: int, data: bytes) -> None:
    """Our own output; nobody may read it any more."""
    view = memoryview(data)
    with contextlib.suppress(OSError):
        while view:
            view = view[os.write(end, view) :]


def _print_error(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
