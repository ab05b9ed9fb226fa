"""A link between two network namespaces that loses, delays, doubles, reorders, throttles and cuts what goes over it.

Two TUN devices, and a thread that carries IP packets between them: real TCP meets a real bad line, without `tc netem`,
which not every kernel has. Only root can make one.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

_TUNSETIFF, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000
_NEW_NETWORK = 0x40000000
#: Of a throttled link; what waits longer is lost, as in a router.
QUEUE_S = 1.0
PACKET_BYTES = 65_536


class Weather(NamedTuple):
    """What a link does, each way."""

    loss: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0  #: more than the pause between packets reorders them
    double: float = 0.0
    bytes_s: float = 0.0  #: 0 is as fast as it goes
    there: bool = True  #: whether anything arrives at the far side
    back: bool = True


FAIR = Weather()


class Link:
    """One link: the near device in one namespace, the far one in another. `weather` may be set at any time."""

    def __init__(self, near: str, far: str, number: int, seed: int) -> None:
        self.weather = FAIR
        self.near, self.far = f"10.77.{number}.1", f"10.77.{number}.2"
        self.packets = self.lost = 0
        self._chance = random.Random(seed)
        mine = f"ad{os.getpid() % 100_000}n{number}"
        self._ends = (_device(mine + "a", near, self.near, self.far), _device(mine + "b", far, self.far, self.near))
        self._over, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def close(self) -> None:
        """End the link, and its devices with it."""
        os.close(self._wake)
        self._thread.join()
        for fd in (*self._ends, self._over):
            os.close(fd)

    def _carry(self) -> None:
        near, far = self._ends
        on_the_way: list[tuple[float, int, int, bytes]] = []
        free = {near: 0.0, far: 0.0}
        while True:
            patience = max(0.0, on_the_way[0][0] - time.monotonic()) if on_the_way else None
            ready, _, _ = select.select([near, far, self._over], [], [], patience)
            if self._over in ready:
                return
            now = time.monotonic()
            for source in ready:
                packet = os.read(source, PACKET_BYTES)
                target = far if source == near else near
                for due in self._arrivals(len(packet), free, target, now):
                    heapq.heappush(on_the_way, (due, self.packets, target, packet))
                    self.packets += 1
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(on_the_way)
                with suppress(OSError):  # the device is going
                    os.write(target, packet)

    def _arrivals(self, size: int, free: dict[int, float], target: int, now: float) -> Iterator[float]:
        weather, chance = self.weather, self._chance
        passes = weather.there if target == self._ends[1] else weather.back
        if not passes or chance.random() < weather.loss:
            self.lost += 1
            return
        if weather.bytes_s:
            free[target] = max(now, free[target]) + size / weather.bytes_s
            if free[target] - now > QUEUE_S:
                free[target] -= size / weather.bytes_s
                self.lost += 1
                return
        sent = max(now, free[target]) if weather.bytes_s else now
        for _ in range(2 if chance.random() < weather.double else 1):
            yield sent + max(0.0, weather.delay_s + chance.uniform(-weather.jitter_s, weather.jitter_s))


def _device(name: str, namespace: str, own: str, peer: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN | _NO_HEADER))
        _ip("link", "set", name, "netns", namespace)
        _ip("-n", namespace, "address", "add", own, "peer", peer, "dev", name)
        _ip("-n", namespace, "link", "set", name, "up")
    except BaseException:
        os.close(fd)
        raise
    return fd


@contextmanager
def namespaces(count: int) -> Iterator[list[str]]:
    """Names of network namespaces, each with a loopback device; gone at the end."""
    with ExitStack() as stack:
        names = [f"agentd-{os.getpid()}-{number}" for number in range(count)]
        for name in names:
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "delete", name)
            _ip("-n", name, "link", "set", "lo", "up")
        yield names


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """This thread, and what it starts, is in the namespace."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def why_not() -> str | None:
    """Why no link can be made here; None when one can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    try:
        with namespaces(2) as (near, far), inside(near):
            Link(near, far, 0, seed=0).close()
        return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no TUN devices or network namespaces: {error}"


def _enter(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, _NEW_NETWORK) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
