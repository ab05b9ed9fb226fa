"""What can be done on a page, as commands for a shell: the same requests, and never a secret in them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from webui.upstream import Agent, segment

#: The shell puts the token in: double quotes, and nothing else in them is special.
_AUTHORIZATION = '-H "Authorization: Bearer $AGENTD_TOKEN"'
_UNIX = "unix://"


def as_curl(
    agent: Agent,
    method: str,
    names: Sequence[object],
    params: Mapping[str, str] | None = None,
    *,
    body: object = None,
    upload: str | None = None,
    key: str | None = None,
) -> str:
    """A curl command that asks an agent; the token comes from AGENTD_TOKEN.

    Args:
        names: the segments of the path.
        body: sent as JSON, if it is not None.
        upload: a file of the caller's, whose name becomes the last segment of the path.
        key: an Idempotency-Key.
    """
    words = ["curl", "-sS"]
    url = agent.url
    if url.startswith(_UNIX):
        words += ["--unix-socket", url.removeprefix(_UNIX)]
        url = "http://localhost"
    if upload is not None:
        words += ["-T", upload]
    elif method != "GET":
        words += ["-X", method]
    if key is not None:
        words += ["-H", f"Idempotency-Key: {key}"]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", msgspec.json.encode(body).decode()]
    query = "&".join(f"{segment(name)}={segment(value)}" for name, value in (params or {}).items())
    path = "/".join(segment(str(name)) for name in names)
    address = f"{url}/{path}{'/' if upload is not None else ''}{'?' if query else ''}{query}"
    return f"{shlex.join(words)} {_AUTHORIZATION} {shlex.quote(address)}"


def as_agentd(agent: Agent, words: Sequence[object], operands: Sequence[object] = ()) -> str:
    """An `agentd` command for an agent; it takes AGENTD_TOKEN, or the token of a daemon of this machine."""
    given = [str(each) for each in operands]
    end = ["--"] if any(each.startswith("-") for each in given) else []
    return shlex.join(["agentd", *map(str, words), "--url", agent.url, *end, *given])


def submit_command(agent: Agent, task: Mapping[str, Any]) -> str | None:
    """`agentd submit` for a new task as POST /tasks takes it; None when that command has no option for some of it."""
    words: list[object] = ["submit", "--kind", task.get("kind", "shell")]
    for name, value in task.items():
        match name, value:
            case ("kind", _):
                pass
            case ("spec", _):
                words += ["--spec", msgspec.json.encode(value).decode()]
            case ("session_id", _):
                words += ["-s", value]
            case ("timeout_s", _):
                words += ["--timeout", f"{value}s"]
            case ("labels", dict()):
                words += [word for key, each in value.items() for word in ("--label", f"{key}={each}")]
            case ("needs", list()):
                words += [word for each in value for word in ("--needs", each)]
            case ("retry", {"max": most, **rest}) if not rest:
                words += ["--retries", most]
            case ("name" | "priority" | "queue" | "on_interrupt" | "not_before", _):
                words += [f"--{name.replace('_', '-')}={value}"]
            case _:
                return None
    return as_agentd(agent, words)
