"""A histogram as Prometheus wants it: how many values lay below each bound, and their sum."""

from bisect import bisect_left


class Histogram:
    """Counts values by the first of ``bounds`` that is not below them."""

    __slots__ = ("bounds", "values")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.values = [0.0] * (len(bounds) + 2)
        """The sum of what was observed, then the count of each bucket by itself; the last has no bound."""

    def observe(self, value: float) -> None:
        self.values[0] += value
        self.values[bisect_left(self.bounds, value) + 1] += 1
