"""Something that listens where an agent should, and answers bytes that a test made up."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

from .viewer import token_flags


class OddAgent:
    """Answers every request with the same bytes, or with nothing at all. Use it as a context manager.

    Args:
        answer: what it sends, head and all; empty to hang.
        hold: leave the connection open behind the answer.
    """

    def __init__(self, answer: bytes = b"", *, hold: bool = False) -> None:
        self.answer = answer
        self.hold = hold or not answer
        self.requests: list[bytes] = []  #: the heads of those that came
        self.open = 0  #: connections that are there now
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> OddAgent:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)

    def flags(self, place: Path, name: str = "odd") -> tuple[str, str]:
        """Flags that give a viewer a token for it."""
        return token_flags(place, name, "odd-token")

    def _start(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._sockets.append(connection)
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.open += 1
        with contextlib.suppress(OSError), connection:
            heard = b""
            while b"\r\n\r\n" not in heard and (part := connection.recv(65_536)):
                heard += part
            self.requests.append(heard)
            connection.sendall(self.answer)
            while self.hold and connection.recv(65_536):
                pass
        with self._lock:
            self.open -= 1


def http_answer(
    body: bytes,
    content_type: str = "application/json",
    status: str = "200 OK",
    *headers: str,
    length: int | None = None,
) -> bytes:
    """A whole answer; with `length`, one that promises another length."""
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body) if length is None else length}",
    ]
    return "\r\n".join([*lines, *headers, "Connection: close", "", ""]).encode() + body
