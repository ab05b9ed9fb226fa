"""The yardsticks: what the machine can do at all, and what task-spooler does with it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from time import perf_counter

SPAWN_C = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
int main(int argc, char **argv) { /* COUNT: spawn and wait for `true`, two in flight; print how many a second */
    int count = atoi(argv[argc - 1]), begun = 0, ended = 0;
    char *command[] = {"true", NULL};
    double start = now();
    while (ended < count) {
        for (pid_t pid; begun < count && begun - ended < 2; begun++)
            if (posix_spawnp(&pid, "true", NULL, NULL, command, environ)) return 1;
        if (wait(NULL) > 0) ended++;
    }
    printf("%.1f\n", count / (now() - start));
    return 0;
}
"""


class CLimit:
    """A loop in C that spawns `true` and waits for it, two in flight: nothing that runs commands is faster."""

    def __init__(self, directory: Path) -> None:
        source = directory / "spawn.c"
        source.write_text(SPAWN_C)
        self._binary = directory / "spawn"
        subprocess.run(["cc", "-O2", "-o", self._binary, source], check=True)

    def per_second(self, count: int = 1000) -> float:
        """How many a second it does now."""
        return float(subprocess.check_output([self._binary, str(count)]))


def missing(*commands: str) -> str | None:
    """Why a yardstick cannot be used here; None when it can."""
    absent = [command for command in commands if shutil.which(command) is None]
    return f"skipped: no {' and no '.join(absent)} here" if absent else None


class TaskSpooler:
    """A tsp server of its own, two tasks at a time. Every submit and every wait is a process: that is its interface."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = str(shutil.which("tsp"))
        self._environ = os.environ | {
            "TS_SOCKET": str(directory / "socket"), "TMPDIR": str(directory), "TS_MAXFINISHED": "100000",
        }  # fmt: skip
        self._run("-S", "2")

    def _run(self, *arguments: str) -> str:
        reading, writing = os.pipe()
        try:
            pid = os.posix_spawn(
                self._path, ["tsp", *arguments], self._environ, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)]
            )
        finally:
            os.close(writing)
        os.waitpid(pid, 0)
        os.set_blocking(reading, False)  # the server that the first call leaves behind holds the pipe
        try:
            return os.read(reading, 4096).decode().strip()
        except BlockingIOError:
            return ""
        finally:
            os.close(reading)

    def submit(self, *argv: str) -> str:
        """The id of a new task; its output goes to a file, as with us."""
        return self._run(*argv)

    def wait(self, task: str) -> None:
        """Return when it has ended."""
        self._run("-w", task)

    def per_second(self, count: int) -> float:
        """How many `true` a second, submitted one after the other."""
        began = perf_counter()
        tasks = [self.submit("true") for _ in range(count)]
        for task in tasks[-3:]:
            self.wait(task)
        return count / (perf_counter() - began)

    def close(self) -> None:
        """End the server."""
        self._run("-K")


def to_file_s(command: str, directory: Path) -> float:
    """Seconds of `sh -c command > file`."""
    target = directory / "raw.out"
    began = perf_counter()
    with target.open("wb") as out:
        subprocess.run(["sh", "-c", command], stdout=out, check=True)
    took = perf_counter() - began
    target.unlink()
    return took


def cold_cache() -> str | None:
    """Empty the page cache; the reason when that is not possible."""
    subprocess.run(["sync"], check=True)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError as error:
        return f"cold not measured: {error.strerror}"
    return None
