"""Logins that failed, counted by address, so that nobody can try for long."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

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

    def check(self, request: web.Request) -> None:
        """Refuse a login after too many that failed.

        Raises:
            Refusal: wait a minute.
        """
        since, count = self._counts.get(self.address(request), (0.0, 0))
        if count >= MAX_FAILURES and self._now() - since < WINDOW_S:
            raise Refusal(429, "rate_limited", "too many failed logins", hint="Wait a minute and try again.")

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
