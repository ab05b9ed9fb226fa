"""What `run` and `submit` say of a task: the options they share, and the request that comes of them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from agentd.cli.parameters import AHEAD, DURATION, LABEL, MOUNT, SESSION, TASK
from agentd.kinds.agents.protocol import Permission
from agentd.model.requests import AskedRetry, AskedTrigger, NewTask
from agentd.model.task import CauseCode, OnInterrupt, TriggerType

F = TypeVar("F", bound=Callable[..., Any])

#: A request body ends at `limits.body_bytes`; larger input belongs into a file of the workspace.
MAX_STDIN_BYTES = 1 << 20


def _kinds(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from agentd.kinds.registry import kinds

    return [name for name in kinds() if name.startswith(incomplete)]


def _agents(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    from agentd.kinds.agents.known import adapters

    return [name for name in adapters() if name.startswith(incomplete)]


_OPTIONS = (
    click.option(
        "-s",
        "--session",
        type=SESSION,
        envvar="AGENTD_SESSION_ID",
        metavar="SESSION",
        help="Session, made if absent.  [default: inside a task its own, else a new one]",
    ),
    click.option(
        "--kind",
        metavar="KIND",
        shell_complete=_kinds,
        help="Kind of task.  [default: shell; agent or docker by --agent, --image]",
    ),
    click.option(
        "--agent",
        metavar="NAME",
        shell_complete=_agents,
        help="Ask this agent (claude, codex, opencode, …); CMD is the prompt.",
    ),
    click.option("--model", metavar="NAME", help="With --agent: the model it uses."),
    click.option(
        "--permission",
        type=click.Choice([each.value for each in Permission]),
        help="With --agent: when it wants to use a tool.  [default: ask]",
    ),
    click.option("--image", metavar="NAME", help="Run CMD in a container of this image; without CMD, what is its own."),
    click.option(
        "--mount",
        "mounts",
        type=MOUNT,
        multiple=True,
        metavar="SOURCE:TARGET[:ro]",
        help="With --image: what the container sees; SOURCE begins in the workspace. May be repeated.",
    ),
    click.option("--name", help="What lists call it."),
    click.option("-C", "--cwd", metavar="DIR", help="Working directory.  [default: the session's workspace]"),
    click.option("-e", "--env", multiple=True, metavar="NAME[=VALUE]", help="Environment; without a value, yours."),
    click.option("--stdin", type=click.File("rb"), metavar="FILE", help="Standard input; - is that of this command."),
    click.option(
        "-i", "--interactive", is_flag=True, help="Keep its input open; `run` sends it yours. See `agentd input`."
    ),
    click.option("--tty", is_flag=True, help="Give it a terminal; stdout and stderr are then one."),
    click.option("--timeout", "timeout_s", type=DURATION, metavar="TIME", help="End it after so long: 30s, 5m, 2h."),
    click.option("--retries", type=click.IntRange(0, 1000), metavar="N", help="Try again so often when it fails."),
    click.option("--on-interrupt", type=click.Choice([o.value for o in OnInterrupt]), help="If the daemon dies."),
    click.option("--not-before", type=AHEAD, metavar="TIME", help="Start later: a time, or 10m from now."),
    click.option(
        "--needs", type=TASK, multiple=True, metavar="ID", help="Start after this task completed; may be repeated."
    ),
    click.option("--priority", type=click.IntRange(-1000, 1000), default=0, help="Higher runs first."),
    click.option("--queue", default="default", metavar="NAME", help="Queue that it waits in."),
    click.option(
        "--artifact", "artifacts", multiple=True, metavar="PATTERN", help="Keep such files of the workspace at its end."
    ),
    click.option("--label", type=LABEL, multiple=True, metavar="KEY=VALUE", help="Label it; may be repeated."),
)


def task_options(function: F) -> F:
    """The options, on a command that takes them as `**options`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def words_or_image(context: click.Context, parameter: click.Parameter, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Callback of CMD: it may be missing where an image has its own."""
    if not argv and not context.params.get("image"):
        raise click.MissingParameter(ctx=context, param=parameter)
    return argv


def described(options: dict[str, Any], argv: Sequence[str], command: str | None = None) -> tuple[str, dict[str, Any]]:
    """Kind and spec of what the words and options describe."""
    kind = options["kind"] or ("agent" if options["agent"] else "docker" if options["image"] else "shell")
    spec: dict[str, Any]
    if kind == "agent":
        spec = _of_agent(options, " ".join(argv) if command is None else command)
    elif kind == "shell":
        spec = _of_shell(options, argv, command)
    elif kind == "docker":
        spec = _of_container(options, argv, command)
    else:
        raise click.UsageError(f"a task of kind {kind!r} is described by --spec; see `agentd submit --help`")
    if options["cwd"] is not None:
        spec["workdir" if kind == "docker" else "cwd"] = options["cwd"]
    if options["env"]:
        spec["env"] = dict(map(_variable, options["env"]))
    return kind, spec


def _of_agent(options: dict[str, Any], prompt: str) -> dict[str, Any]:
    _refuse(options, ("stdin", "tty", "interactive"), "commands; an agent is given its prompt")
    _refuse(options, ("image", "mounts"), "--kind docker")
    if options["agent"] is None:
        raise click.UsageError("say which agent is asked: --agent NAME")
    chosen = {name: options[name] for name in ("model", "permission") if options[name] is not None}
    return {"agent": options["agent"], "prompt": prompt, **chosen}


def _of_container(options: dict[str, Any], argv: Sequence[str], command: str | None) -> dict[str, Any]:
    _refuse(options, ("agent", "model", "permission"), "--kind agent")
    _refuse(options, ("stdin", "interactive"), "commands; a container has no input")
    if options["image"] is None:
        raise click.UsageError("say which image it is of: --image NAME")
    spec: dict[str, Any] = {"operation": "run", "image": options["image"]}
    if argv or command is not None:
        spec["command"] = list(argv) if command is None else command
    if options["mounts"]:
        spec["mounts"] = list(options["mounts"])
    if options["tty"]:
        spec["tty"] = True
    return spec


def _refuse(options: dict[str, Any], names: Sequence[str], whose: str) -> None:
    for name in names:
        if options[name]:
            raise click.UsageError(f"--{name.removesuffix('s')} is of {whose}")


def _of_shell(options: dict[str, Any], argv: Sequence[str], command: str | None) -> dict[str, Any]:
    _refuse(options, ("agent", "model", "permission"), "--kind agent; say which: --agent NAME")
    _refuse(options, ("image", "mounts"), "--kind docker; say of which image: --image NAME")
    spec: dict[str, Any] = {"argv": list(argv)} if command is None else {"command": command}
    if options["stdin"] is not None:
        spec["stdin"] = _text(options["stdin"])
    if options["interactive"]:
        spec["interactive"] = True
    if options["tty"]:
        spec["tty"] = True
        if sys.stdout.isatty():
            columns, rows = shutil.get_terminal_size()
            spec["terminal"] = {"rows": rows, "columns": columns}
    return spec


def new_task(options: dict[str, Any], kind: str, spec: dict[str, Any]) -> NewTask:
    """The request."""
    retries = options["retries"]
    on = (CauseCode.EXIT_CODE, CauseCode.SIGNAL, CauseCode.TIMEOUT, CauseCode.WORKER_LOST)
    return NewTask(
        kind=kind,
        spec=spec,
        session_id=options["session"],
        name=options["name"],
        needs=options["needs"],
        priority=options["priority"],
        queue=options["queue"],
        labels=dict(options["label"]),
        trigger=AskedTrigger(type=TriggerType.MANUAL),
        timeout_s=options["timeout_s"],
        retry=AskedRetry(max=retries, on=on) if retries else None,
        on_interrupt=OnInterrupt(options["on_interrupt"] or "fail"),
        not_before=options["not_before"],
        artifacts=options["artifacts"],
    )


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise click.BadParameter(f"{name!r} is not a name of a variable", param_hint="--env")
    if not equals:
        if name not in os.environ:
            raise click.BadParameter(f"{name} is not set here; write {name}=VALUE", param_hint="--env")
        value = os.environ[name]
    return name, value


def _text(file: Any) -> str:
    if file.isatty():
        sys.stderr.write("agentd: reading standard input to its end (Ctrl-D)\n")
    data = file.read(MAX_STDIN_BYTES + 1)
    if len(data) > MAX_STDIN_BYTES:
        raise click.BadParameter("is over 1 MiB; put a file into the workspace instead", param_hint="--stdin")
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise click.BadParameter("is not UTF-8; put a file into the workspace instead", param_hint="--stdin") from None
