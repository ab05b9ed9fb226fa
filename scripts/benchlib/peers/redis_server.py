"""A Redis of one's own on the loopback, as it is without a configuration: snapshots now and then, no log of writes."""

# mypy: disable-error-code=import-not-found

from __future__ import annotations

import redis

from benchlib.peers.peer import Peer, fresh, without_error
from benchlib.processes import free_port, until


class OnRedis(Peer):
    """A peer whose queue is in Redis; the Redis survives when the peer is killed."""

    commands = ("redis-server",)
    packages = ("redis-server",)
    port = 0

    def redis(self) -> redis.Redis:
        """A client of it; the first call starts it."""
        if self.port == 0:
            self.port = free_port()
            data = fresh(self.directory / "redis")
            quiet = ("--loglevel", "warning")
            argv = ("redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(data), *quiet)
            self.run(*argv, server=True)
        client = redis.Redis(port=self.port)
        until(lambda: without_error(client.ping), 20)
        return client

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}"

    def stop(self) -> None:
        super().stop()
        self.port = 0
