"""Looks at a service while something goes on: memory, file descriptors, latency, now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Self

import numpy as np

from drills.service import Service


class Sample(NamedTuple):
    """What one look found."""

    at_s: float
    memory_bytes: int
    descriptors: int


class Watch:
    """Samples a service in a thread while the ``with`` block runs."""

    def __init__(self, running: Service, every_s: float = 1.0) -> None:
        self._running, self._every_s = running, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.samples: list[Sample] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def peak_bytes(self) -> int:
        return max((sample.memory_bytes for sample in self.samples), default=0)

    def _look(self) -> None:
        while True:
            self.samples.append(sample(self._running))
            if self._over.wait(self._every_s):
                return


def sample(running: Service) -> Sample:
    return Sample(time.time(), running.memory_bytes(), running.descriptors())


def settled(look: Callable[[], float], patience_s: float, enough: float) -> float:
    """What ``look`` gives, as soon as it is ``enough`` or less; else its last word after ``patience_s``."""
    deadline_s = time.monotonic() + patience_s
    while (value := look()) > enough and time.monotonic() < deadline_s:
        time.sleep(0.5)
    return value


class Slope(NamedTuple):
    """Of a line through values over time, by least squares; ``error`` is its standard error, both an hour."""

    an_hour: float
    error: float

    @classmethod
    def of(cls, at_s: Sequence[float], values: Sequence[float]) -> Slope:
        hours, y = np.asarray(at_s) / 3600, np.asarray(values, float)
        x = hours - hours.mean()
        slope = float((x * y).sum() / (x * x).sum())
        rest = y - y.mean() - slope * x
        # Neighbouring samples are alike: as many count as are independent (a first-order autoregression).
        alike = max(0.0, float(np.corrcoef(rest[:-1], rest[1:])[0, 1])) if rest.any() else 0.0
        free = max(1.0, len(y) * (1 - alike) / (1 + alike) - 2)
        return cls(slope, float(np.sqrt((rest * rest).sum() / free / (x * x).sum())))

    def __str__(self) -> str:
        return f"{self.an_hour:+.2g} ± {self.error:.2g} an hour"
