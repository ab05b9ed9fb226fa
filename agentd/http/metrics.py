"""Prometheus metrics, read from plain attributes when they are asked for; counting costs next to nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from agentd import __version__
from agentd.model.task import TERMINAL, State
from agentd.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST

_COMMIT_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
_REQUEST_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)


class Histogram:
    """Counts of durations in buckets whose upper bounds, in seconds, are given."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def add_to(self, family: HistogramMetricFamily, labels: tuple[str, ...] = ()) -> None:
        """Write it into a family, cumulated as Prometheus has it."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric(labels, buckets, sum_value=self._sum)


class Metrics(Collector):
    """All metrics of a daemon."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._commits = Histogram(_COMMIT_BUCKETS_S)
        self._requests: dict[str, Histogram] = {}
        self._answers: Counter[tuple[str, int]] = Counter()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        service.store.on_commit_latency = self._commits.observe

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request by route name; streams count when they end."""
        histogram = self._requests.get(route)
        if histogram is None:
            histogram = self._requests[route] = Histogram(_REQUEST_BUCKETS_S)
        histogram.observe(seconds)
        self._answers[route, status] += 1

    def exposition(self) -> bytes:
        """The text that Prometheus reads."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every metric as it stands."""
        service = self._service
        yield InfoMetricFamily(
            "agentd",
            "The daemon.",
            value={"version": __version__, "agent_id": service.agent_id, "boot_id": service.boot_id},
        )
        yield from self._tasks()
        yield from self._usage()
        yield from self._workers()
        yield from self._store()
        yield from self._http()

    def _tasks(self) -> Iterator[Metric]:
        finished = CounterMetricFamily(
            "agentd_tasks_finished", "Tasks that ended since the start.", labels=("state", "cause")
        )
        for (state, cause), count in sorted(self._service.finished.items()):
            finished.add_metric((state, cause), count)
        yield finished
        live = GaugeMetricFamily("agentd_tasks", "Tasks that are not terminal.", labels=("state",))
        ledgers = self._service.store.resident
        for state in State:
            if state not in TERMINAL:
                live.add_metric((state.value,), sum(ledger.counts[state] for ledger in ledgers))
        yield live
        queue = self._service.queue_facts()
        yield GaugeMetricFamily("agentd_queue_depth", "Tasks that are queued.", value=queue.depth)
        yield GaugeMetricFamily(
            "agentd_queue_oldest_age_seconds", "Age of the oldest of them.", value=queue.oldest_age_s or 0.0
        )
        recovered = CounterMetricFamily(
            "agentd_recovered_tasks", "What the last start found and did, by outcome.", labels=("outcome",)
        )
        for outcome, count in sorted(self._service.recovered.items()):
            recovered.add_metric((outcome,), count)
        yield recovered

    def _usage(self) -> Iterator[Metric]:
        used = self._service.usage
        yield CounterMetricFamily("agentd_attempts", "Attempts that ended since the start.", value=used.attempts)
        yield CounterMetricFamily("agentd_attempt_seconds", "Seconds that they ran.", value=used.wall_s)
        yield CounterMetricFamily("agentd_attempt_cpu_seconds", "Processor time that they used.", value=used.cpu_s)
        yield CounterMetricFamily("agentd_output_bytes", "Output that they wrote.", value=used.output_bytes)
        tokens = CounterMetricFamily("agentd_tokens", "Tokens that they reported.", labels=("direction",))
        tokens.add_metric(("input",), used.input_tokens)
        tokens.add_metric(("output",), used.output_tokens)
        yield tokens
        yield CounterMetricFamily("agentd_cost_usd", "What they cost, as reported.", value=used.cost_usd)

    def _workers(self) -> Iterator[Metric]:
        capacity = self._service.runner.capacity()
        workers = GaugeMetricFamily("agentd_workers", "Worker processes.", labels=("state",))
        for state in ("busy", "idle", "starting"):
            workers.add_metric((state,), getattr(capacity, state))
        yield workers
        yield GaugeMetricFamily("agentd_workers_max", "Tasks that can run at once.", value=capacity.max)
        yield CounterMetricFamily("agentd_worker_restarts", "Workers lost and replaced.", value=capacity.restarts)
        yield GaugeMetricFamily("agentd_workers_degraded", "1 while the pool backs off.", value=capacity.degraded)

    def _store(self) -> Iterator[Metric]:
        service = self._service
        yield GaugeMetricFamily("agentd_sessions", "Sessions.", value=len(service.store.entries))
        commits = HistogramMetricFamily("agentd_journal_commit_seconds", "Time to write and sync a batch of events.")
        self._commits.add_to(commits)
        yield commits
        yield GaugeMetricFamily("agentd_disk_full", "1 when there is no room to write.", value=service.disk().full)
        yield CounterMetricFamily(
            "agentd_events_dropped", "Event streams that were cut off because their reader was too slow.",
            value=service.bus.dropped,
        )  # fmt: skip
        yield GaugeMetricFamily("agentd_event_subscribers", "Open event streams.", value=service.bus.subscribers)

    def _http(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily("agentd_http_request_seconds", "Time to answer.", labels=("route",))
        for route, histogram in sorted(self._requests.items()):
            histogram.add_to(seconds, (route,))
        yield seconds
        answered = CounterMetricFamily("agentd_http_requests", "Requests answered.", labels=("route", "status"))
        for (route, status), count in sorted(self._answers.items()):
            answered.add_metric((route, str(status)), count)
        yield answered
