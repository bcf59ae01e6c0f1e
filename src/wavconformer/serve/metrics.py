"""What the server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.requests = Counter(
            "wavconformer_requests",
            "Requests by route and status.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "wavconformer_request_seconds", "From a request to its answer.", ["route"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.audio = Counter("wavconformer_audio_seconds", "Audio that the model heard.", registry=self.registry)
        self.batches = Histogram(
            "wavconformer_batch_size", "Waveforms in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64), registry=self.registry
        )
        self.model = Counter("wavconformer_model_seconds", "Time in the model.", registry=self.registry)
        self.decoders = Counter(
            "wavconformer_decoders_ended", "Decoding processes that had to be ended.", registry=self.registry
        )
        self.workers = Counter(
            "wavconformer_workers_lost", "Processes of the model that ended by themselves.", registry=self.registry
        )
        self.jobs = Counter("wavconformer_jobs", "Jobs that came to an end.", ["state"], registry=self.registry)

    def gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Something that is looked up when it is asked for."""
        Gauge(f"wavconformer_{name}", what, registry=self.registry).set_function(value)

    def heard(self, size: int, seconds: float, took: float) -> None:
        """A batch is done."""
        self.batches.observe(size)
        self.audio.inc(seconds)
        self.model.inc(took)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
