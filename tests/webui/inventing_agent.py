"""An agent with kinds of tasks that nobody has invented yet, which takes them, refuses them, or says nothing at all."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TASK = {"task_id": "t1", "session_id": "s1", "kind": "poem", "state": "queued"}

#: A kind with every form of value that JSON Schema has names for, and one that it has none for.
POEM = {
    "type": "object",
    "required": ["prompt", "mood"],
    "properties": {
        "prompt": {"type": "string", "description": "What it is <b>about</b>."},
        "mood": {"$ref": "#/components/schemas/Mood"},
        "verses": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}], "default": 3},
        "warmth": {"type": "number", "default": 0.5},
        "rhymes": {"type": "boolean", "default": True},
        "words": {"type": "array", "items": {"type": "string"}},
        "glossary": {"type": "object", "additionalProperties": {"type": "string"}},
        "layout": {
            "type": "object",
            "properties": {"width": {"type": "integer"}, "font": {"enum": ["serif", "mono"]}},
        },
        "extra": {},
    },
}


def document() -> dict[str, Any]:
    """What the agent says it takes."""
    shared = {
        "kind": {"type": "string"},
        "spec": {"type": "object"},
        "session_id": {"type": "string"},
        "trigger": {"type": "object"},
        "stars": {"type": "integer"},
    }
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewTask"}}}}
    return {
        "openapi": "3.1.0",
        "paths": {"/tasks": {"post": {"requestBody": body}}},
        "x-agentd-kinds": {
            "poem": {"title": "A poem", "spec": {"$ref": "#/components/schemas/Poem"}},
            "dance": {"title": "A dance", "spec": {"type": "object", "properties": {"steps": {"type": "integer"}}}},
        },
        "components": {
            "schemas": {
                "Poem": POEM,
                "Mood": {"title": "Mood", "enum": ["glad", "sad", 7]},
                "NewTask": {"type": "object", "required": ["spec"], "properties": shared},
            }
        },
    }


class InventingAgent:
    """Serves `documents` by path, and answers POSTs with `answer`: a status and a value, or None to hang up unread.

    Use it as a context manager. `taken` has what was posted: path, Idempotency-Key and body.
    """

    def __init__(self) -> None:
        self.begin()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def begin(self) -> None:
        """Forget what a test has told and asked of it."""
        self.documents: dict[str, Any] = {"/openapi.json": document(), "/tasks/t1": TASK}
        self.answer: tuple[int, Any] | None = (201, TASK)
        self.taken: list[tuple[str, str | None, Any]] = []

    def __enter__(self) -> InventingAgent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def flags(self, place: Path, name: str) -> tuple[str, str]:
        """Flags that give a viewer a token for it."""
        file = place / f"{name}.token"
        file.write_text("a-token")
        return "--token-file", f"{name}={file}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = agent.documents.get(self.path.partition("?")[0])
                problem = {"code": "not_found", "detail": f"nothing at {self.path}"}
                self._say(404 if found is None else 200, problem if found is None else found)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                key = self.headers.get("Idempotency-Key")
                agent.taken.append((self.path, key, json.loads(body) if body else None))
                if agent.answer is not None:
                    self._say(*agent.answer)

            def _say(self, status: int, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
