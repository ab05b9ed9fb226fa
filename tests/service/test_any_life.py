"""Any life of the service, with crashes, power cuts, troubles of the disk and of the clock, against a model."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.service.whole_lives import WholeLife

TestServiceLife = WholeLife.TestCase
TestServiceLife.settings = settings(
    max_examples=35, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)
