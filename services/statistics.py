"""What each model has done since this process started, as Triton's statistics extension tells it.

Counted on the event loop alone, by additions; each gateway process counts for itself.
"""

import time
from typing import Any

from services.batching import BatchReport
from services.histogram import Histogram

REQUEST_BOUNDS_S = (5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_NS = 1e9


class Duration:
    """How often something was done, and how long that took altogether."""

    __slots__ = ("count", "ns")

    def __init__(self) -> None:
        self.count = 0
        self.ns = 0

    def add(self, ns: int, count: int = 1) -> None:
        self.count += count
        self.ns += ns

    def document(self) -> dict[str, int]:
        return {"count": self.count, "ns": self.ns}


class BatchStatistics:
    """The batches of one size: putting them together, running them, taking them apart."""

    __slots__ = ("joined", "ran", "split")

    def __init__(self) -> None:
        self.joined, self.ran, self.split = Duration(), Duration(), Duration()

    def document(self, size: int) -> dict[str, Any]:
        return {
            "batch_size": size,
            "compute_input": self.joined.document(),
            "compute_infer": self.ran.document(),
            "compute_output": self.split.document(),
        }


class ModelStatistics:
    """One model's counters."""

    def __init__(self, name: str, version: str) -> None:
        self._name, self._version = name, version
        self._images = self._executions = self._last_ms = 0
        self._success, self._fail = Duration(), Duration()
        self._queue, self._input, self._infer, self._output = Duration(), Duration(), Duration(), Duration()
        self._batches: dict[int, BatchStatistics] = {}
        self.request_s = Histogram(REQUEST_BOUNDS_S)

    @property
    def images(self) -> int:
        """Those of requests that were answered well."""
        return self._images

    @property
    def queued_s(self) -> tuple[float, int]:
        """What requests waited for their batch, all together, and how many did."""
        return self._queue.ns / _NS, self._queue.count

    def add_success(self, images: int, total_ns: int, input_ns: int, output_ns: int) -> None:
        """One request answered: in all, reading and checking its tensors, and encoding its answer."""
        self._images += images
        self._last_ms = time.time_ns() // 1_000_000
        self._success.add(total_ns)
        self.request_s.observe(total_ns / _NS)
        self._input.add(input_ns)
        self._output.add(output_ns)

    def add_failure(self, total_ns: int) -> None:
        """One request for this model answered with an error, or given up."""
        self._fail.add(total_ns)
        self.request_s.observe(total_ns / _NS)

    def add_batch(self, batch: BatchReport) -> None:
        """One batch that ran; its time counts for each request in it."""
        infer_ns = int(batch.infer_s * _NS)
        self._executions += 1
        self._queue.add(int(batch.waited_s * _NS), batch.requests)
        self._infer.add(infer_ns * batch.pieces, batch.requests)
        of_size = self._batches.get(batch.images)
        if of_size is None:
            of_size = self._batches[batch.images] = BatchStatistics()
        of_size.joined.add(int(batch.input_s * _NS))
        of_size.ran.add(infer_ns)
        of_size.split.add(int(batch.output_s * _NS))

    def document(self) -> dict[str, Any]:
        """The entry of ``model_stats``."""
        return {
            "name": self._name,
            "version": self._version,
            "last_inference": self._last_ms,
            "inference_count": self._images,
            "execution_count": self._executions,
            "inference_stats": {
                "success": self._success.document(),
                "fail": self._fail.document(),
                "queue": self._queue.document(),
                "compute_input": self._input.document(),
                "compute_infer": self._infer.document(),
                "compute_output": self._output.document(),
            },
            "batch_stats": [self._batches[size].document(size) for size in sorted(self._batches)],
        }
