"""How requests ended: by model, protocol and status, and what they were refused for."""

from collections import Counter


class RequestCounts:
    """Counted on the event loop alone, once a request."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.refused: Counter[str] = Counter()

    def add(self, model: str, protocol: str, status: int, reason: str) -> None:
        """A request that ended; ``model`` is empty if it was for none, ``reason`` if it was answered well."""
        if model:
            self.answered[model, protocol, status] += 1
        if reason:
            self.refused[reason] += 1
