"""A container engine behind Docker's API, as the driver asks it: requests, and errors that say what to do about them.

aiodocker is imported when an engine is opened, and nowhere else: the daemon never loads it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

#: What an engine gets to accept a connection and say its version, and to answer any other request, in seconds.
ANSWER_S, REQUEST_S = 10.0, 120.0
#: Status of aiodocker for an engine that it cannot reach.
_UNREACHABLE = 900
_NOT_FOUND, _CONFLICT = 404, 409


class Refused(Exception):
    """What could not be done: a sentence, with what to do about it."""


class Missing(Refused):
    """The engine knows no such image or container."""


class Away(Refused):
    """The engine does not answer."""


def host_of(environ: Mapping[str, str]) -> str:
    """Where the engine is: DOCKER_HOST, or the first socket that is there.

    Raises:
        Away: there is none, or it is reached in a way that is not known here.
    """
    if host := environ.get("DOCKER_HOST"):
        if host.startswith(("unix://", "tcp://", "http://", "https://")):
            return host
        raise Away(f"DOCKER_HOST is {_shown(host)!r}; it must begin with unix://, tcp://, http:// or https://")
    sockets = ["/run/docker.sock", "/var/run/docker.sock"]
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        sockets += [f"{runtime}/docker.sock", f"{runtime}/podman/podman.sock"]
    sockets.append("/run/podman/podman.sock")
    for socket in sockets:
        if os.path.exists(socket):
            return f"unix://{socket}"
    raise Away(
        f"there is no container engine: DOCKER_HOST is not set, and there is no socket at {', '.join(sockets)}; "
        "start Docker, or `podman system service`, or give the daemon DOCKER_HOST"
    )


def _shown(host: str) -> str:
    """The host without a name and password in it: what is said here is shown to every viewer."""
    return re.sub(r"[^/]*@", "", host)


def _check_socket(host: str) -> None:
    if host.startswith("unix://") and not os.path.exists(host.removeprefix("unix://")):
        raise Away(f"there is no container engine at {host}: no such socket; start it, or set another DOCKER_HOST")


@contextlib.asynccontextmanager
async def engine_at(host: str) -> AsyncIterator[Engine]:
    """The engine there, once it has answered.

    Raises:
        Away: it does not answer.
    """
    import aiodocker  # some 0.4 s

    _check_socket(host)
    docker = aiodocker.Docker(url=host)
    try:
        engine = Engine(docker, host)
        await engine.greet()
        yield engine
    finally:
        await docker.close()


class Engine:
    """Requests to one engine; every method raises Refused, Missing or Away."""

    def __init__(self, docker: Any, host: str) -> None:
        import aiodocker
        import aiohttp

        self.local = host.startswith("unix://")  #: it sees the files that we see
        #: Podman looks whether a container runs, not whether all of its output was read (4.3: seen under load).
        self.leaves_early = True
        self._docker = docker
        self._host = _shown(host)
        self._error = aiodocker.DockerError
        self._lost = (aiohttp.ClientError, OSError)
        self._unbounded = aiohttp.ClientTimeout()

    async def greet(self) -> None:
        """See whether it is there, and what it is."""
        with self._sentences():
            async with asyncio.timeout(ANSWER_S):
                version = await self._docker.version()
        names = [str(each.get("Name")) for each in version.get("Components") or ()]
        self.leaves_early = "Podman Engine" in names

    async def has_image(self, image: str) -> bool:
        """Whether it need not be fetched."""
        try:
            await self._soon(self._docker.images.inspect(image))
        except Missing:
            return False
        return True

    async def pull(self, image: str) -> None:
        """Fetch an image, however long that takes."""
        try:
            with self._sentences():
                async for _ in self._docker.images.pull(image, stream=True):
                    pass  # layers, and how far each is
        except Away:
            raise
        except Refused as error:
            raise Refused(
                f"image {image!r} could not be pulled: {error}; check its name, and that the engine may "
                "read it from its registry"
            ) from None

    async def create(self, config: dict[str, Any], name: str) -> str:
        """Make a container; its id."""
        made = await self._soon(self._docker.containers.create(config, name=name))
        return str(made.id)

    async def start(self, container_id: str) -> None:
        """Start it; one that runs goes on."""
        await self._soon(self._container(container_id).start())

    async def stop(self, container_id: str, grace_s: int) -> None:
        """Ask it to end, and kill it after the grace in seconds; one that does not run stays so."""
        with self._sentences():
            async with asyncio.timeout(REQUEST_S + grace_s):
                await self._container(container_id).stop(t=grace_s)

    async def kill(self, container_id: str, signal: str = "SIGKILL") -> None:
        """Send it a signal. One that does not run is Refused."""
        await self._soon(self._container(container_id).kill(signal=signal))

    async def remove(self, container_id: str) -> None:
        """Kill and remove it, with its own volumes; one that is gone, or is being removed, is no error."""
        try:
            await self._soon(self._container(container_id).delete(force=True, v=True))
        except (Missing, Conflicting):
            pass

    async def wait(self, container_id: str) -> int:
        """Its exit code, when it does not run any more."""
        with self._sentences():
            answer = await self._container(container_id).wait()
        return int(answer["StatusCode"])

    async def show(self, container_id: str) -> dict[str, Any]:
        """All that is known of it."""
        found: dict[str, Any] = await self._soon(self._container(container_id).show())
        return found

    async def labelled(self, labels: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The labels of each container that has all of these, by its id."""
        wanted = [f"{name}={value}" for name, value in labels.items()]
        found = await self._soon(self._docker.containers.list(all=True, filters=json.dumps({"label": wanted})))
        return {each.id: dict(each["Labels"] or {}) for each in found}

    async def output(self, container_id: str, *, follow: bool) -> AsyncIterator[bytes]:
        """What it has written, as the engine frames it, piece by piece; with `follow`, until it has ended."""
        asked = {"stdout": "1", "stderr": "1", "follow": "1" if follow else "0"}
        with self._sentences():
            # aiodocker's own `log` decodes each frame as text.
            path = f"containers/{container_id}/logs"
            async with self._docker._query(path, params=asked, timeout=self._unbounded) as response:
                async for piece in response.content.iter_any():
                    yield piece

    def _container(self, container_id: str) -> Any:
        return self._docker.containers.container(container_id)

    async def _soon(self, request: Any) -> Any:
        with self._sentences():
            async with asyncio.timeout(REQUEST_S):
                return await request

    @contextlib.contextmanager
    def _sentences(self) -> Iterator[None]:
        try:
            yield
        except self._error as error:
            raise self._refusal(error) from error
        except TimeoutError as error:
            raise Away(f"the container engine at {self._host} is there and does not answer; look at its log") from error
        except self._lost as error:
            raise Away(f"the connection to the container engine at {self._host} was lost: {error}") from error

    def _refusal(self, error: Any) -> Refused:
        message = str(error.message).strip() or f"it answered {error.status}"
        if error.status == _NOT_FOUND:
            return Missing(message)
        if error.status == _CONFLICT:
            return Conflicting(message)
        if error.status != _UNREACHABLE:
            return Refused(message)
        reason = getattr(error.__context__, "os_error", None) or error.__context__
        if isinstance(reason, PermissionError):
            return Away(
                f"the container engine at {self._host} may not be used by this user: {reason.strerror}; "
                "add the daemon's user to the socket's group, or set DOCKER_HOST to an engine of its own"
            )
        what = reason.strerror if isinstance(reason, OSError) and reason.strerror else reason
        return Away(
            f"no container engine answers at {self._host}: {what}; start it, or give the daemon another DOCKER_HOST"
        )


class Conflicting(Refused):
    """It cannot be done as the container is now: it does not run, or is being removed."""
