"""What one stage has done in this process: its batches by operation, what it decided, and what it predicted."""

import numpy as np

from services.batching import Columns
from services.drift import Drift
from services.histogram import Histogram
from stn_core.decision import REASONS, Reason

BATCH_BOUNDS = tuple(float(2**power) for power in range(13))
"""Images of a batch."""
STAGE_BOUNDS_S = (1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PREDICT_THETA = ("localize", "rectify", "decide")


class _Batches:
    __slots__ = ("images", "seconds")

    def __init__(self) -> None:
        self.images, self.seconds = Histogram(BATCH_BOUNDS), Histogram(STAGE_BOUNDS_S)


class StageWork:
    """Counted on one event loop, once a batch."""

    def __init__(self) -> None:
        self.batches: dict[str, _Batches] = {}
        """By the operation's name."""
        self.drift = Drift()
        self._decided = np.zeros(len(Reason), np.int64)

    def add(self, operation: str, images: int, seconds: float, result: Columns) -> None:
        """A batch that ran."""
        of_operation = self.batches.get(operation)
        if of_operation is None:
            of_operation = self.batches[operation] = _Batches()
        of_operation.images.observe(images)
        of_operation.seconds.observe(seconds)
        if operation in _PREDICT_THETA and "theta" in result:
            self.drift.add(result["theta"])
            if "reason" in result:
                self._decided += np.bincount(result["reason"], minlength=len(Reason))

    def decided(self) -> dict[tuple[str, str], int]:
        """How many images came to each outcome, and for what reason."""
        outcomes = ("rectified" if reason == Reason.OK else "kept" for reason in Reason)
        return dict(zip(zip(outcomes, REASONS, strict=True), self._decided.tolist(), strict=True))
