"""``/metrics``, in the format of Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Counters of one server; nothing in them names a key or a prompt."""

    def __init__(self, waiting: Callable[[], float], jobs: Callable[[], float]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "unift_requests", "Requests", ["path", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "unift_request_seconds", "Until the answer began", ["path"], registry=self.registry
        )
        self.tokens = Counter("unift_tokens", "Tokens", ["kind"], registry=self.registry)
        Gauge("unift_waiting", "Questions in the queue", registry=self.registry).set_function(
            waiting
        )
        Gauge("unift_open_jobs", "Jobs that are not over", registry=self.registry).set_function(
            jobs
        )
