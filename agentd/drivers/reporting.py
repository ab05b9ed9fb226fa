"""What a driver tells its daemon: progress, at most a few times a second, and questions, which wait for their answers.

A daemon that is away or refuses never ends the agent: that is said once, on stderr.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from typing import Any
from urllib.parse import urlsplit

#: Between two reports, and before another try after one that failed, in seconds.
PAUSE_S, AGAIN_S = 0.25, 1.0
#: How long one request may take, and more for one that waits for an answer; how long the last report may take.
REQUEST_S, WAIT_S, LAST_S = 10.0, 30.0, 4.0
#: What the daemon takes of a message, in characters.
MESSAGE_MOST, PROMPT_MOST = 2000, 8000
_LATER = frozenset({408, 425, 429, 500, 502, 503, 504})


class Reports:
    """Tells of one task. Its thread begins with the first report; `close` sends the last one and ends it."""

    def __init__(self, url: str, token: str, task_id: str) -> None:
        parts = urlsplit(url)
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._path = f"{parts.path.rstrip('/')}/tasks/{task_id}"
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._changed = threading.Condition()
        self._pending: dict[str, Any] = {}
        self._closing = not (self._host and task_id)  # run by hand: there is nobody to tell
        self._complained = False
        self._thread: threading.Thread | None = None

    def progress(self, **fields: Any) -> None:
        """Report these fields soon; later values of a field replace those not yet sent."""
        if message := fields.get("message"):
            fields["message"] = str(message)[:MESSAGE_MOST]
        with self._changed:
            if self._closing:
                return
            self._pending.update(fields)
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, daemon=True)
                self._thread.start()
            self._changed.notify()

    def ask(self, ask_id: str, prompt: str, options: tuple[str, ...]) -> str | None:
        """The answer to a question; blocks until there is one. None when nobody can be asked, or it was withdrawn."""
        ask_id = ask_id[:100]
        body = {"ask_id": ask_id, "prompt": prompt[:PROMPT_MOST], "options": list(options)}
        while not self._closing:
            status, answer = self._request("POST", f"{self._path}/ask?timeout_s={WAIT_S:g}", body, REQUEST_S + WAIT_S)
            answered = answer.get("answered")
            if status == 200:
                if isinstance(answered, dict) and answered.get("ask_id") == ask_id:
                    return str(answered["answer"])
                return None
            if status and status != 202 and status not in _LATER:
                self._complain(f"could not ask: the daemon answered {status}")
                return None
            time.sleep(PAUSE_S if status == 202 else AGAIN_S)
        return None

    def withdraw(self, ask_id: str) -> None:
        """Take a question back, which nobody need answer any more."""
        self._request("DELETE", f"{self._path}/ask?ask_id={ask_id}", None, REQUEST_S)

    def close(self, patience_s: float = LAST_S) -> None:
        """Send what is left and end; at most `patience_s` are spent on it."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(patience_s)

    def _send_all(self) -> None:
        while True:
            with self._changed:
                while not self._pending and not self._closing:
                    self._changed.wait()
                report, self._pending = self._pending, {}
                last = self._closing
            if not report:
                return
            status, _ = self._request("POST", f"{self._path}/progress", report, REQUEST_S)
            again = not status or status in _LATER
            with self._changed:
                if again and not last:
                    self._pending = {**report, **self._pending}
                elif status >= 300:
                    self._complain(f"could not report: the daemon answered {status}")
                if not self._closing:
                    self._changed.wait_for(lambda: self._closing, AGAIN_S if again else PAUSE_S)

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> tuple[int, dict[str, Any]]:
        """Status and answer; 0 when there was none."""
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
            return response.status, answer if isinstance(answer, dict) else {}
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._complain(f"could not reach the daemon: {error}")
            return 0, {}
        finally:
            connection.close()

    def _complain(self, what: str) -> None:
        if not self._complained:
            self._complained = True
            sys.stderr.write(f"agentd: {what}; the agent goes on\n")
            sys.stderr.flush()
