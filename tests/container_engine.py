"""A real container engine of the tests: Podman's API service with runc, in a directory of its own, and one small image.

Debian: `apt install podman runc busybox-static`. Where one of these is missing, or may run nothing, tests are skipped.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from benchlib.processes import PATIENCE_S, until

IMAGE = "busybox:test"
APPLETS = ("cat", "dd", "echo", "false", "head", "id", "ls", "pwd", "sh", "sleep", "touch", "tr", "true")
_CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""


class ContainerEngine:
    """The service; `host` is what DOCKER_HOST is set to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = root / "s"
        self.host = f"unix://{self.socket}"
        self.service: subprocess.Popen[bytes] | None = None
        (root / "containers.conf").write_text(_CONTAINERS_CONF)
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{root}/graph"\nrunroot = "{root}/run"\n'
        (root / "storage.conf").write_text(storage)
        self.env = {
            **os.environ,
            "CONTAINERS_CONF": str(root / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(root / "storage.conf"),
        }

    def podman(self, *arguments: str, stdin: bytes | None = None) -> str:
        """Run podman beside the service, on the same containers."""
        command = ["podman", "--runtime=runc", *arguments]
        done = subprocess.run(command, env=self.env, input=stdin, capture_output=True, timeout=PATIENCE_S)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def import_image(self) -> None:
        """Make the image: one static program under several names."""
        files = self.root / "files"
        for name in ("bin", "etc", "tmp"):
            (files / name).mkdir(parents=True)
        shutil.copy(shutil.which("busybox") or "", files / "bin" / "busybox")
        for name in APPLETS:
            (files / "bin" / name).symlink_to("busybox")
        packed = subprocess.run(["tar", "-C", str(files), "-c", "."], check=True, capture_output=True).stdout
        self.podman("import", "-", IMAGE, stdin=packed)

    def start(self) -> None:
        """Start the service, and wait until it listens."""
        self.socket.unlink(missing_ok=True)
        command = ["podman", "--runtime=runc", "system", "service", "--time=0", self.host]
        with open(self.root / "log", "ab") as log:
            self.service = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        until(self.socket.exists)

    def stop(self) -> None:
        """End the service; its containers run on."""
        if self.service is not None:
            self.service.kill()
            self.service.wait()
            self.service = None
            self.socket.unlink(missing_ok=True)

    def ask(self, method: str, path: str) -> Any:
        """A request to the service. Where it works on the same containers, another podman may wait for ever."""
        connection = _Connection(self.socket)
        try:
            connection.request(method, f"http://podman/v4.0.0/libpod/{path}")
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status < 300, body
            return json.loads(body) if body else None
        finally:
            connection.close()

    def containers(self) -> list[dict[str, Any]]:
        """Every container, running or not."""
        if self.service is None:
            found: list[dict[str, Any]] = json.loads(self.podman("ps", "--all", "--format=json"))
        else:
            found = self.ask("GET", "containers/json?all=true")
        return found

    def running(self) -> list[str]:
        """The ids of those that run."""
        return [each["Id"] for each in self.containers() if each["State"] == "running"]

    def clear(self) -> None:
        """Remove every container."""
        if self.service is None:
            self.podman("rm", "--all", "--force", "--time=0")
            return
        for container in self.containers():
            if container["State"] == "running":  # or it would be asked to end, and waited for
                self.ask("POST", f"containers/{container['Id']}/kill?signal=KILL")
            self.ask("DELETE", f"containers/{container['Id']}?force=true&timeout=0&ignore=true")


class _Connection(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("podman", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@contextmanager
def container_engine(root: Path) -> Iterator[ContainerEngine]:
    """An engine that runs, with the image; afterwards nothing of it does."""
    missing = [name for name in ("podman", "runc", "busybox") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} here; on Debian: apt install podman runc busybox-static")
    engine = ContainerEngine(root)
    try:
        engine.import_image()
        engine.podman("run", "--rm", IMAGE, "true")
    except AssertionError as error:
        pytest.skip(f"podman runs no container here: {error}")
    try:
        engine.start()
        yield engine
    finally:
        engine.stop()
        engine.clear()
