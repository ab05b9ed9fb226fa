"""An agent that answers each path with what a test wrote down: one of a newer version, or with a clock that is off."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from .viewer import token_flags


class ScriptedAgent:
    """Answers GETs with the JSON that `answers` has for their path, and 404 where it has none.

    Use it as a context manager.

    Args:
        answers: by path, without the query.
        clock_s: how far its clock is ahead, in seconds.
    """

    def __init__(self, answers: dict[str, Any], clock_s: float = 0) -> None:
        self.answers = answers
        self.clock_s = clock_s
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def flags(self, place: Path, name: str) -> tuple[str, str]:
        """Flags that give a viewer a token for it."""
        return token_flags(place, name)

    def posted(self, path: str, key: str | None, body: Any) -> tuple[int, Any] | None:
        """The status and the JSON that answer a POST with this Idempotency-Key and JSON; None hangs up instead."""
        return 404, {"code": "not_found", "status": 404, "detail": f"nothing at {path}"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        agent = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                if path == "/events":
                    self._stream()
                    return
                value = agent.answers.get(path)
                problem = {"code": "not_found", "status": 404, "detail": f"nothing at {path}"}
                self._say(*((404, problem) if value is None else (200, value)))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = agent.posted(
                    self.path, self.headers.get("Idempotency-Key"), json.loads(body) if body else None
                )
                if answer is not None:
                    self._say(*answer)
                self.close_connection = answer is None

            def _say(self, status: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Agentd-Role", "admin")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b'event: hello\ndata: {"seq": 1, "boot_id": "b"}\n\n')
                agent._ended.wait(60)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return super().date_time_string(time.time() + agent.clock_s)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
