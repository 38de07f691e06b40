"""How requests ended: by model, protocol and status, and what they were refused for."""

from collections import Counter


class RequestCounts:
    """Counted on the event loop alone, once a request."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.refused: Counter[str] = Counter()
        self.files_refused: Counter[str] = Counter()
        """Of the files of ``/v1``: each has an answer of its own."""

    def add(self, model: str, protocol: str, status: int, reason: str, count: int = 1) -> None:
        """Requests that ended; ``model`` is empty if they were for none, ``reason`` if they were answered well."""
        if model:
            self.answered[model, protocol, status] += count
        if reason:
            self.refused[reason] += count
