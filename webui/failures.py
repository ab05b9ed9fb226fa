"""Logins that failed, counted by address, so that nobody can try for long."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aiohttp import web

from webui.refusals import Refusal

#: Failed logins a minute and address before more are refused.
MAX_FAILURES = 10
WINDOW_S = 60.0
#: Addresses that are remembered; the one that was quiet longest is forgotten first.
_MAX_ADDRESSES = 1024


class Failures:
    """Counts them.

    Args:
        trust_forwarded: take the client's address from X-Forwarded-For, as the nearest proxy wrote it.
    """

    def __init__(self, trust_forwarded: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._trust_forwarded = trust_forwarded
        self._now = now
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._tried: Counter[str] = Counter()  # logins that are tried right now

    def check(self, request: web.Request) -> None:
        """Refuse a login after too many that failed.

        Raises:
            Refusal: wait a minute.
        """
        address = self.address(request)
        since, count = self._counts.get(address, (0.0, 0))
        failed = count if self._now() - since < WINDOW_S else 0
        if failed + self._tried[address] >= MAX_FAILURES:
            raise Refusal(429, "rate_limited", "too many failed logins", hint="Wait a minute and try again.")

    @contextmanager
    def trying(self, request: web.Request) -> Iterator[None]:
        """While a login is tried it counts as one that failed: many at once are no way around the limit.

        Raises:
            Refusal: as of `check`.
        """
        self.check(request)
        address = self.address(request)
        self._tried[address] += 1
        try:
            yield
        finally:
            self._tried[address] -= 1
            self._tried += Counter()  # those at zero go

    def count(self, request: web.Request) -> None:
        """One has failed."""
        address = self.address(request)
        since, count = self._counts.pop(address, (self._now(), 0))
        if self._now() - since >= WINDOW_S:
            since, count = self._now(), 0
        self._counts[address] = (since, count + 1)
        if len(self._counts) > _MAX_ADDRESSES:
            self._counts.popitem(last=False)

    def address(self, request: web.Request) -> str:
        """Who asks: an address, or the /64 of one in IPv6, which is what one customer has."""
        found = request.remote or ""
        forwarded = request.headers.getall("X-Forwarded-For", [])
        if self._trust_forwarded and forwarded:
            found = forwarded[-1].rpartition(",")[2].strip()
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return found[:64]
        return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else found
