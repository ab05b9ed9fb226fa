"""The viewer as a process: listen, say where, serve until told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import ssl
import sys

import structlog
from aiohttp import web

from webui.app import Viewer
from webui.connections import Runner
from webui.log import configure
from webui.running import noted
from webui.settings import Settings, SettingsError

#: What is printed once it answers.
LINK = """\
agentd-web: open this within ten minutes; it logs in once (`agentd-web link` makes more):
  {url}{link}
"""
log = structlog.get_logger()


async def serve(settings: Settings, secret: bytes) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; print a one-time link as soon as it answers.

    Raises:
        SettingsError: it cannot listen there, or with this certificate.
    """
    configure(settings.log_level, settings.log_format)
    context = _tls(settings)
    stopped = _signalled()
    viewer = Viewer(settings, os.environ, secret)
    runner = Runner(viewer.application(), viewer.refused)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
        try:
            await site.start()
        except OSError as error:
            reason = error.strerror if error.errno is None else os.strerror(error.errno)
            raise SettingsError(
                f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another with --host and --port"
            ) from error
        url = _address(settings, runner.addresses[0][1])
        with noted(settings.secret_file, url):
            log.info("viewer.ready", url=url, agents=len(viewer.roster.agents()))
            if not settings.secure and not _only_here(runner.addresses[0][0]):
                log.warning(
                    "viewer.exposed", remedy="others can reach it and read logins on the way: use TLS or a proxy"
                )
            _say(LINK.format(url=url, link=viewer.link()))
            await stopped.wait()
            log.info("viewer.stopping")
    finally:
        await runner.cleanup()


def _signalled() -> asyncio.Event:
    stopped = asyncio.Event()
    numbers = {signal.SIGTERM, signal.SIGINT}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup: it shall outlive its terminal
        numbers.add(signal.SIGHUP)
    for number in numbers:
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for name in ("tls_cert", "tls_key"):
        path = getattr(settings, name)
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise SettingsError(f"{name} {path}: {error.strerror}") from error
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")  # nobody is asked for one
    except ssl.SSLError as error:
        key = settings.tls_key or "the same file"
        raise SettingsError(
            f"tls_cert {settings.tls_cert}: with the key in {key} it is no certificate in PEM with its own key "
            f"without a passphrase ({error.reason or error})"
        ) from error
    return context


def _address(settings: Settings, port: int) -> str:
    """Where a browser finds the viewer, its prefix included."""
    if settings.public_url:
        return settings.public_url.rstrip("/")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - nothing is bound here
    host = f"[{host}]" if ":" in host else host
    return f"{'https' if settings.tls_cert else 'http'}://{host}:{port}"


def _only_here(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _say(text: str) -> None:
    """Print, if anybody listens: a closed stdout is no reason to stop."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        pass
