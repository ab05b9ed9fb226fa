"""One worker process as the daemon sees it: started, spoken to, watched, reaped. It decides nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from agentd.engines.local.brand import brand_of, put
from agentd.model.launch import Exit, Launch
from agentd.model.reading import UNREADABLE
from agentd.model.task import Value

WORKER_TAG = "AGENTD_WORKER_OF"
_PROGRAM = str(Path(__file__).with_name("worker.py"))
#: What the interpreter may need to start; nothing else of the daemon's environment reaches a worker.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
#: Bytes read from a worker before the loop does something else.
_READ = 256 << 10


class Ready(Value, tag="ready", frozen=True, kw_only=True):
    """The worker has started."""


class Alive(Value, tag="alive", frozen=True, kw_only=True):
    """It still watches its attempt."""


class Spawned(Value, tag="spawned", frozen=True, kw_only=True):
    """The attempt's first process is known."""

    attempt_id: str
    pid: int
    pid_started_at: int


class Fed(Value, tag="fed", frozen=True, kw_only=True):
    """How many bytes of what the attempt was sent it has taken so far, and whether its input is open."""

    attempt_id: str
    taken: int
    open: bool


class Exited(Value, tag="exit", frozen=True, kw_only=True):
    """The attempt ended and its tree is gone."""

    attempt_id: str
    exit: Exit


Message = Ready | Alive | Spawned | Fed | Exited


class _Run(Value, frozen=True, kw_only=True):
    run: Launch


class _Stop(Value, frozen=True, kw_only=True):
    stop: str
    grace_s: float


class _Input(Value, frozen=True, kw_only=True):
    input: str
    data: bytes
    eof: bool


class _Resize(Value, frozen=True, kw_only=True):
    resize: str
    rows: int
    columns: int


_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_encoder = msgspec.json.Encoder()


def encoded_run(launch: Launch) -> bytes:
    """The message that starts a launch.

    Raises:
        UnicodeEncodeError: an argument or variable is not valid Unicode.
    """
    return _encoder.encode(_Run(run=launch)) + b"\n"


class WorkerProcess:
    """A process running `worker.py`, with a socket to it and a pidfd on it.

    `on_message` gets each message, `on_end` the wait status once the process has ended; both on the event loop.
    The status is None where a tracer holds the process: it is the tracer's to collect first, and nobody waits for that.

    Raises:
        OSError: it could not be started.
    """

    def __init__(
        self,
        agent_id: str,
        heartbeat_s: float,
        on_message: Callable[[Message], None],
        on_end: Callable[[int | None], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_message = on_message
        self._on_end = on_end
        self._received = b""
        self._unsent = bytearray()
        self._socket, theirs = socket.socketpair()
        try:
            self.pid = self._spawn(theirs.fileno(), agent_id, heartbeat_s)
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._socket.close()  # a worker that was started all the same leaves at that
            raise
        finally:
            theirs.close()
        put(self.pid, brand_of(agent_id))  # it is given nothing to run before
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self.read)
        self._loop.add_reader(self._pidfd, self._ended)

    @staticmethod
    def _spawn(end: int, agent_id: str, heartbeat_s: float) -> int:
        env = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        env[WORKER_TAG] = agent_id
        argv = [sys.executable, "-I", "-S", _PROGRAM, repr(heartbeat_s)]
        actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = [
            (os.POSIX_SPAWN_DUP2, end, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),  # standard error stays the daemon's: tracebacks
        ]
        return os.posix_spawn(
            sys.executable, argv, env, file_actions=actions, setsid=True, setsigmask=(), setsigdef=(signal.SIGPIPE,)
        )

    def send(self, data: bytes) -> None:
        """Send without waiting; what the socket does not take follows when it does."""
        if self._socket.fileno() < 0:
            return
        if not self._unsent:
            try:
                data = data[self._socket.send(data) :]
            except BlockingIOError:
                pass
            except OSError:
                return  # it is going; `on_end` follows
        if data:
            if not self._unsent:
                self._loop.add_writer(self._socket, self._flush)
            self._unsent += data

    def stop(self, attempt_id: str, grace_s: float) -> None:
        """Ask it to end its attempt."""
        self.send(_encoder.encode(_Stop(stop=attempt_id, grace_s=grace_s)) + b"\n")

    def input(self, attempt_id: str, data: bytes, eof: bool) -> None:
        """Hand it what its attempt is to read."""
        self.send(_encoder.encode(_Input(input=attempt_id, data=data, eof=eof)) + b"\n")

    def resize(self, attempt_id: str, rows: int, columns: int) -> None:
        """Change the size of its attempt's terminal."""
        self.send(_encoder.encode(_Resize(resize=attempt_id, rows=rows, columns=columns)) + b"\n")

    def leave(self) -> None:
        """Let it go: without a daemon it ends what it runs, and itself."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()

    def kill(self) -> None:
        """SIGKILL it; what it ran becomes the daemon's to end."""
        if self._pidfd >= 0:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended by itself

    def read(self) -> None:
        """Deliver the messages that have come."""
        while self._socket.fileno() >= 0:
            try:
                data = self._socket.recv(_READ)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # it is ending; `_ended` follows
                self.leave()
                return
            *lines, self._received = (self._received + data).split(b"\n")
            try:
                messages = [_decoder.decode(line) for line in lines]
            except UNREADABLE:  # no worker of ours talks like this
                self.leave()
                self.kill()
                return
            for message in messages:
                self._on_message(message)
            if len(data) < _READ:
                return

    def _flush(self) -> None:
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            return
        except OSError:
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def _ended(self) -> None:
        self.read()  # the last words may hold an exit
        self.leave()
        self._loop.remove_reader(self._pidfd)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        os.close(self._pidfd)
        self._pidfd = -1
        self._on_end(status if pid else None)
