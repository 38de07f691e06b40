"""Shadow compare: a share of what ``predict`` answers is classified once more as it came, and the two are compared.

It happens after the answer, with what room the queues have: no request waits for it, and none fails by it. Nobody tells
the service what an image really shows; so it counts how often the label changed, and which of the two readings the
classifier was surer of. Where rectification made it read something else, less surely, it may have done harm.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from services.batching import Array, Columns
from stn_core.errors import StnError

logger = logging.getLogger("ray.serve")

_MOST_UNDER_WAY = 16
"""Requests that wait for their comparison; of more than that, the images are passed over."""

Classify = Callable[[Array], Awaitable[Columns]]
"""Label and probabilities of images of the network's input size, as they came."""


class Shadow:
    """Compares a ``share`` of requests, evenly spread; belongs to one event loop."""

    def __init__(self, share: float, classify: Classify) -> None:
        self._share = share
        self._classify = classify
        self._due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._images = self._passed_over = self._agree = self._surer_when_changed = 0
        self._gain = 0.0

    def offer(self, images: Array, predicted: Columns) -> None:
        """Takes note of ``images`` and what ``predict`` answered, if it is their turn."""
        self._due += self._share
        if self._due < 1:
            return
        self._due -= 1
        if len(self._tasks) >= _MOST_UNDER_WAY:
            self._passed_over += len(images)
            return
        task = asyncio.get_running_loop().create_task(self._compare(images, predicted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def counts(self) -> dict[str, tuple[float, ...]]:
        """The same as ``document`` in plain counts, and the gain as its sum and their number."""
        changed = self._images - self._agree
        return {
            "images_total": (self._images,),
            "passed_over_total": (self._passed_over,),
            "changed_total": (changed,),
            "changed_less_sure_total": (changed - self._surer_when_changed,),
            "confidence_gain": (self._gain, self._images),
        }

    def document(self) -> dict[str, Any]:
        """What was found so far; shares are of the compared images, None while there are none."""
        changed = self._images - self._agree

        def share(count: float) -> float | None:
            return count / self._images if self._images else None

        return {
            "share_of_requests": self._share,
            "images": self._images,
            "passed_over": self._passed_over,
            "agreement": share(self._agree),
            "confidence_gain": share(self._gain),
            "changed_and_surer": share(self._surer_when_changed),
            "changed_and_less_sure": share(changed - self._surer_when_changed),
        }

    async def _compare(self, images: Array, predicted: Columns) -> None:
        try:
            as_it_came = await self._classify(images)
        except StnError as error:
            self._passed_over += len(images)
            logger.info("%d images were not compared: %s", len(images), error)
            return
        gain = predicted["probabilities"].max(axis=1) - as_it_came["probabilities"].max(axis=1)
        agree = predicted["label"] == as_it_came["label"]
        self._images += len(images)
        self._agree += int(np.count_nonzero(agree))
        self._gain += float(gain.sum(dtype=np.float64))
        self._surer_when_changed += int(np.count_nonzero(~agree & (gain > 0)))
