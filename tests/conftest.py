"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# No test is timed: a busy machine must not fail one.
settings.register_profile("agentd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentd")
