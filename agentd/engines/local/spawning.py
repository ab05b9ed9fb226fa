"""Starts the process of a launch in a session of its own, and says in a sentence why that failed.

Runs in the worker: standard library only. The worker's current directory is the launch's while this runs.
"""

from __future__ import annotations

import errno
import os
import signal
import stat

from . import cgroups

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

#: The C library's own search path when the environment has no PATH.
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
#: What the worker ignores or handles; the launched program finds the system's defaults.
RESET_SIGNALS = (
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM, signal.SIGCHLD, signal.SIGXFSZ,
)  # fmt: skip
TTY_ROWS, TTY_COLUMNS = 24, 80


class SpawnFailed(Exception):
    """The program could not be started; the text is a sentence for a person."""


class Streams:
    """The ends of a process's input and output that the worker holds: `out` and `err`, or one terminal as `out`."""

    __slots__ = ("err", "feed", "given", "out", "stdin", "terminal", "tty")

    def __init__(self, stdin: bytes | None, interactive: bool, tty: bool, size: list[int] | None) -> None:
        self.tty = tty
        self.err = -1
        self.terminal = ""  #: path of the terminal, which the process opens to make it its own
        self.stdin = -1
        self.feed = -1  #: our end of the input of an interactive one without a terminal
        self.given: list[int] = []  #: ends of the process; closed once it has them
        if tty:
            self.out, slave = os.openpty()
            self.given.append(slave)
            self.terminal = os.ttyname(slave)
            set_size(slave, *(size or (TTY_ROWS, TTY_COLUMNS)))
        else:
            self.out, write_out = os.pipe()
            self.err, write_err = os.pipe()
            self.given += (write_out, write_err)
            os.set_blocking(self.err, False)
            if interactive:
                self.stdin, self.feed = os.pipe()
                os.set_blocking(self.feed, False)
                self.given.append(self.stdin)
            elif stdin is not None:
                self.stdin = _as_file(stdin)
                self.given.append(self.stdin)
        os.set_blocking(self.out, False)

    def close_given(self) -> None:
        """Close the process's ends, so that its end is seen as the end of its output."""
        for fd in self.given:
            os.close(fd)
        self.given = []

    def close(self) -> None:
        """Close everything."""
        self.close_given()
        for fd in (self.out, self.err, self.feed):
            if fd >= 0:
                os.close(fd)


def spawn(launch: dict[str, Any], streams: Streams, group: str = "") -> int:
    """Start the launch, in a cgroup if one is given, and return its pid, which is also its session and process group.

    Raises:
        SpawnFailed: the directory, the program or the system does not allow it.
    """
    argv: list[str] = launch["argv"]
    env: dict[str, str] = launch["env"]
    cwd: str = launch["cwd"]
    try:
        os.chdir(cwd)
    except OSError as error:
        raise SpawnFailed(_cwd_sentence(cwd, error)) from None
    except ValueError as error:
        raise SpawnFailed(f"cwd is not valid: {error}") from None
    path = argv[0] if "/" in argv[0] else _found(argv[0], env.get("PATH", DEFAULT_PATH))
    limits = {name: value for name, value in launch["limits"].items() if value is not None}
    try:
        if group:
            limits = {name: value for name, value in limits.items() if name not in cgroups.LIMITS}
        if limits or group:
            return _fork(path, argv, env, streams, limits, group)
        return os.posix_spawn(
            path, argv, env, file_actions=_file_actions(streams), setsid=True, setsigmask=(), setsigdef=RESET_SIGNALS
        )
    except OSError as error:
        raise SpawnFailed(_exec_sentence(path, error)) from None
    except ValueError as error:  # a NUL byte, or = in a name of the environment
        raise SpawnFailed(f"argv or env is not valid: {error}") from None


def _file_actions(streams: Streams) -> list[tuple[int, int, str, int, int] | tuple[int, int, int]]:
    if streams.tty:  # a session leader that opens a terminal gets it as its controlling terminal
        return [
            (os.POSIX_SPAWN_OPEN, 0, streams.terminal, os.O_RDWR, 0),
            (os.POSIX_SPAWN_DUP2, 0, 1),
            (os.POSIX_SPAWN_DUP2, 0, 2),
        ]
    out, err = streams.given[:2]
    return [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        if streams.stdin < 0
        else (os.POSIX_SPAWN_DUP2, streams.stdin, 0),
        (os.POSIX_SPAWN_DUP2, out, 1),
        (os.POSIX_SPAWN_DUP2, err, 2),
    ]


def _fork(path: str, argv: list[str], env: dict[str, str], streams: Streams, limits: dict[str, int], group: str) -> int:
    """The slow way, for what posix_spawn cannot do: limits that hold for the program and not for the worker."""
    report_read, report_write = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(report_read)
        os.close(report_write)
        raise
    if pid == 0:
        _become(path, argv, env, streams, limits, group, report_write)
    os.close(report_write)
    with open(report_read, "rb", buffering=0) as file:
        report = file.read(16)  # empty when the pipe was closed by a successful exec
    if not report:
        return pid
    os.waitpid(pid, 0)
    number = int(report)
    raise OSError(number, os.strerror(number))


def _become(
    path: str, argv: list[str], env: dict[str, str], streams: Streams, limits: dict[str, int], group: str, report: int
) -> NoReturn:
    """In the forked child: turn into the program, or report the errno and leave."""
    number = errno.ENOMEM  # what is no OSError here is a MemoryError under the new limit
    try:
        signal.set_wakeup_fd(-1)
        for each in RESET_SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        os.setsid()
        if streams.tty:
            terminal = os.open(streams.terminal, os.O_RDWR)
            ends = (terminal, terminal, terminal)
        else:
            stdin = streams.stdin if streams.stdin >= 0 else os.open(os.devnull, os.O_RDONLY)
            ends = (stdin, streams.given[0], streams.given[1])
        for target, fd in enumerate(ends):
            os.dup2(fd, target)
        if group:
            cgroups.enter(group)
        _limit(limits)
        os.execve(path, argv, env)  # noqa: S606 - the program is what the user asked to run
    except OSError as error:
        number = error.errno or errno.EIO
    finally:
        os.write(report, b"%d" % number)
        os._exit(127)


def _limit(limits: dict[str, int]) -> None:
    import resource  # only launches with limits need it

    for name, value in limits.items():
        if name == "memory_bytes":
            _lower(resource.RLIMIT_AS, value, value)
        elif name == "cpu_s":
            _lower(resource.RLIMIT_CPU, value, value + 1)  # SIGXCPU, and SIGKILL a second later
        elif name == "files":
            _lower(resource.RLIMIT_NOFILE, value, value)
        elif name == "processes":
            _lower(resource.RLIMIT_NPROC, value, value)


def _lower(which: int, soft: int, hard: int) -> None:
    import resource

    _, most = resource.getrlimit(which)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(which, (soft, hard))


def _found(name: str, search: str) -> str:
    """Where PATH has an executable of this name; PATH is the launch's own, not the worker's."""
    for directory in search.split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    raise SpawnFailed(f"executable {name!r} was not found in PATH ({search})")


def _as_file(text: bytes) -> int:
    """The input as an anonymous file: a reader cannot block the worker, and none is needed."""
    fd = os.memfd_create("stdin")
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Say how large a terminal is; what runs in its foreground hears of it by SIGWINCH, if that changes anything."""
    import termios  # only launches with a terminal need it

    termios.tcsetwinsize(terminal, (rows, columns))


def _cwd_sentence(cwd: str, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return f"cwd {cwd} does not exist"
    if error.errno == errno.ENOTDIR:
        return f"cwd {cwd} is not a directory"
    if error.errno == errno.EACCES:
        return f"cwd {cwd} may not be entered (permission denied)"
    return f"cwd {cwd} cannot be used: {error.strerror}"


def _exec_sentence(path: str, error: OSError) -> str:
    match error.errno:
        case errno.ENOENT if os.path.exists(path):
            return f"executable {path} names an interpreter (#!) that does not exist"
        case errno.ENOENT:
            return f"executable {path} does not exist"
        case errno.EACCES if _is_directory(path):
            return f"{path} is a directory, not an executable"
        case errno.EACCES:
            return f"{path} is not executable (permission denied)"
        case errno.ENOEXEC:
            return f"{path} is not a program that the system can run; a script must begin with #!"
        case errno.E2BIG:
            return "argv and env together are longer than the system allows"
        case errno.ENOMEM:
            return f"{path} could not be started: out of memory, or limits.memory_bytes is too small for it"
    return f"{path} could not be started: {error.strerror}"


def _is_directory(path: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False
