"""One attempt: from the launch to the proof that its whole process tree is gone.

Runs in the worker: standard library only. The worker is a subreaper, so whatever outlives its parent in the tree
becomes the worker's child; when `wait` says there is no child left, nothing of the tree is. There are no timers here:
`due` names the next moment at which `tick` wants to be called.
"""

from __future__ import annotations

import os
import select
import signal
import time

from . import cgroups, evidence, spawning
from .listener import Listener
from .recorder import Recorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .feeding import Feeder

#: An attempt that lives longer than this, in seconds, is worth a log from now on and telling the daemon its pid.
SPAWNED_AFTER_S = 0.010
#: What is left when the first process exits by itself may finish within this time before it is asked to end:
#: the `tee` of `exec > >(tee log)` needs a moment to see the end of its input.
SETTLE_S = 0.050
#: Between two looks for what SIGKILL has not ended yet: at first, and at most.
RESCAN_S, RESCAN_MOST_S = 0.010, 0.5


#: More than a worker ever has (12 MiB when fresh, 13 after gigabytes of output).
WORKER_BYTES = 16 << 20


class Attempt:
    """Runs one launch.

    Raises:
        SpawnFailed: nothing was started.
    """

    def __init__(self, launch: dict[str, Any], poller: select.poll) -> None:
        self.id: str = launch["attempt_id"]
        self.over = False  #: the tree is gone and the output complete
        self.feeder: Feeder | None = None  #: of one that has a terminal or is interactive
        self._group = ""  # its cgroup
        self.pid = 0
        self.pid_started_at: int | None = None
        self._launch = launch
        self._poller = poller
        self._grace_s: float = launch["grace_s"]
        self._status: int | None = None  # of the first process, once it is reaped
        self._ended_by = ""
        self._leftovers = 0
        self._lived_on = False  # something outlived the first process
        self._ending_rest = False  # and is being ended
        self._max_rss = 0
        self._user_s = self._system_s = 0.0
        self._oom_kills: int | None = None
        self._term_at: float | None = None
        self._kill_at: float | None = None
        self._rescan_at: float | None = None
        self._rescan_s = RESCAN_S
        self._begin()

    def _begin(self) -> None:
        launch = self._launch
        stdin = launch["stdin"]
        given = stdin.encode() if stdin is not None else None
        interactive: bool = launch["interactive"]
        launch["env"]["AGENTD_TASK_ID"] = launch["task_id"]  # the tag by which leftovers are known
        log_path: str = launch["log_path"]
        if not os.access(os.path.dirname(log_path), os.W_OK | os.X_OK):
            raise spawning.SpawnFailed(f"output file {log_path} cannot be made: its directory is missing or closed")
        self._recorder = Recorder(log_path, launch["index_path"], launch["max_output_bytes"])
        streams = None
        try:
            for path in launch["premade"]:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
            streams = spawning.Streams(given, interactive, launch["tty"], launch["tty_size"])
            if launch["cgroup"] is not None:
                self._enter_group(launch)
            self.pid = spawning.spawn(launch, streams, self._group)
        except BaseException as error:
            if streams is not None:
                streams.close()
            self._recorder.close()
            if self._group:
                cgroups.remove(self._group)
            if isinstance(error, OSError):
                raise spawning.SpawnFailed(f"no pipe, terminal or file for what it leaves: {error.strerror}") from None
            raise
        finally:
            os.chdir("/")  # not to hold the launch's directory
        streams.close_given()
        self._started = time.monotonic()
        self._tell_at: float | None = self._started + SPAWNED_AFTER_S
        timeout_s = launch["timeout_s"]
        self._timeout_at: float | None = None if timeout_s is None else self._started + timeout_s
        self._listener = Listener(self._poller, streams, self._recorder)
        if interactive or (streams.tty and given is not None):
            self._feed(streams, given or b"", interactive)

    def _enter_group(self, launch: dict[str, Any]) -> None:
        group = cgroups.group_of(launch["cgroup"], self.id)
        limits = launch["limits"]
        try:
            cgroups.make(group, {name: limits[name] for name in cgroups.LIMITS if limits[name] is not None})
        except OSError as error:
            raise spawning.SpawnFailed(f"its cgroup {group} could not be made: {error.strerror}") from None
        self._group = group

    def _feed(self, streams: spawning.Streams, given: bytes, interactive: bool) -> None:
        from .feeding import Feeder  # few attempts need it

        self.feeder = self._listener.feeder = Feeder(self._poller, streams, given, interactive)

    # What happens

    def on_ready(self, fd: int, events: int, now: float) -> None:
        """One of its streams can be read, or its input written."""
        if self.feeder is not None:
            self.feeder.on_ready(fd, events)
        if not self._listener.on_ready(fd, now):
            self._listener.close()
            self._output_limit(now)

    def on_child(self, now: float) -> None:
        """A process of the tree ended: collect it, and see whether it was the last."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                if self._status is not None:
                    self._finish(now)
                return
            if pid == 0:
                break
            self._user_s += usage.ru_utime
            self._system_s += usage.ru_stime
            self._max_rss = max(self._max_rss, usage.ru_maxrss)
            if pid == self.pid:
                self._status = status
            elif self._status is not None and self._ending_rest:
                self._leftovers += 1
        if self._status is None:
            return
        if not self._lived_on:
            self._lived_on = True
            if not self._ended_by:
                self._ended_by = "exit"
                self._term_at = now + SETTLE_S
                self._lower_kill_at(now + SETTLE_S + self._grace_s)
            else:
                self._term_at = now  # the group was asked already, sessions of their own were not
        if self._rescan_at is not None:
            self._rescan_at = min(self._rescan_at, now + RESCAN_S)

    def stop(self, why: str, grace_s: float, now: float) -> None:
        """End the tree: SIGTERM to the group, and SIGKILL to everything after the grace. A shorter grace overrules."""
        if not self._ended_by:
            self._ended_by = why
            if grace_s > 0:
                self._signal_group(signal.SIGTERM)
                self._signal_group(signal.SIGCONT)  # what is stopped cannot end itself
        self._lower_kill_at(now + grace_s)

    def tick(self, now: float) -> bool:
        """Do what is due; True when the daemon is to be told the pid."""
        if self._recorder.flush_at is not None and now >= self._recorder.flush_at:
            self._recorder.flush()
        if self._timeout_at is not None and now >= self._timeout_at:
            self._timeout_at = None
            self.stop("timeout", self._grace_s, now)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = self._term_at = None
            if self._status is None:
                self._signal_group(signal.SIGKILL)
            self._rescan_at = now
        if self._term_at is not None and now >= self._term_at:
            self._term_at = None
            self._terminate_leftovers()
        if self._rescan_at is not None and now >= self._rescan_at:
            self._kill_everything()
            self._rescan_at = time.monotonic() + self._rescan_s
            self._rescan_s = min(self._rescan_s * 2, RESCAN_MOST_S)
        if self._tell_at is not None and now >= self._tell_at:
            self._tell_at = None
            self._recorder.create()
            return self._identify()
        return False

    @property
    def due(self) -> float | None:
        """When `tick` must be called next (monotonic)."""
        times = (
            self._tell_at, self._timeout_at, self._recorder.flush_at, self._term_at, self._kill_at, self._rescan_at,
        )  # fmt: skip
        return min((each for each in times if each is not None), default=None)

    def exit(self) -> dict[str, Any]:
        """How it ended, with the fields of `Exit`. Only when it is over."""
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        verdict = self._verdict(code)
        if self._group:
            cgroups.remove(self._group)
        result, problem = evidence.result(self._launch["result_path"], self._launch["max_result_bytes"])
        for path in self._launch["premade"]:
            evidence.remove_empty(path)
        if result == "" and self._launch["premade"]:
            result = None
        problems = [*self._recorder.problems(), *([problem] if problem else [])]
        return {
            "ended_by": verdict,
            "exit_code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "message": "; ".join(problems),
            "pid": self.pid,
            "pid_started_at": self.pid_started_at,
            "duration_s": round(self._ended - self._started, 6),
            "usage": {
                "max_rss_bytes": self._peak_bytes(),
                "user_s": round(self._user_s, 6),
                "system_s": round(self._system_s, 6),
            },
            "output_bytes": self._recorder.written,
            "result": result,
            "leftovers": self._leftovers,
        }

    def _peak_bytes(self) -> int | None:
        """The largest process; None where that may be the worker itself, as which each is counted until its exec."""
        peak = self._max_rss * 1024
        return peak if peak > WORKER_BYTES else None

    def _output_limit(self, now: float) -> None:
        if self._ended_by == "exit":
            self._ended_by = "output_limit"  # its leftovers wrote too much
        self.stop("output_limit", self._grace_s, now)

    # The end

    def _finish(self, now: float) -> None:
        """Nothing of the tree lives: what it wrote is in the pipes. A stranger who holds one is not waited for."""
        if not self._listener.drain(now):
            self._output_limit(now)
        self._recorder.close()
        if self.feeder is not None:
            self.feeder.close()
        self._ended = time.monotonic()
        self.over = True

    def _verdict(self, code: int) -> str:
        if self._ended_by and self._ended_by != "exit":
            return self._ended_by
        killed = code in (-signal.SIGKILL, 128 + signal.SIGKILL)  # itself, or what its shell waited for
        if self._group:
            return "out_of_memory" if killed and cgroups.oom_kills(self._group) else "exit"
        if killed and self._oom_kills is not None and (evidence.oom_kills() or 0) > self._oom_kills:
            return "out_of_memory"
        return "exit"

    def _identify(self) -> bool:
        from .process_tree import started_at  # short attempts never need it

        self.pid_started_at = started_at(self.pid)
        self._oom_kills = evidence.oom_kills()
        return self.pid_started_at is not None

    def _lower_kill_at(self, moment: float) -> None:
        if self._rescan_at is None and (self._kill_at is None or moment < self._kill_at):
            self._kill_at = moment

    def _signal_group(self, number: int) -> None:
        if self._status is None:  # not reaped, so the number cannot be a stranger's
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                pass  # it is a zombie that nobody else is with
            except PermissionError:
                pass  # all of it became another user, as with sudo: it runs until it ends by itself

    def _terminate_leftovers(self) -> None:
        from .process_tree import descendants, send, snapshot

        self._ending_rest = True
        for process in descendants(snapshot(), (os.getpid(),)):
            if not process.zombie:
                send(process, signal.SIGTERM)
                send(process, signal.SIGCONT)

    def _kill_everything(self) -> None:
        from .process_tree import descendants, kill_trees, snapshot

        self._ending_rest = True
        if self._group:
            cgroups.kill(self._group)
        kill_trees(descendants(snapshot(), (os.getpid(),)))
