"""What holds for all tests."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

# No test is timed: a busy machine must not fail one. Nor does chance: the same examples every time. Other ones are
# looked at with --hypothesis-profile=explore.
_examples = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("agentd", _examples, derandomize=True)
settings.register_profile("explore", _examples)
settings.load_profile("agentd")

# Who runs the tests in the background or under nohup has these ignored, and so would every program under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Playwright's loop counts as running in this thread from its first test on, also while it rests: a test without
    a browser may have a loop of its own all the same.
    """
    if "browser" in getattr(item, "fixturenames", ()):
        return (yield)
    resting = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return (yield)
    finally:
        asyncio._set_running_loop(resting)


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    """For tests that configure a log: afterwards it is as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
