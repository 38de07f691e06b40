"""A Serve application whose classifier sleeps: what is left is the gateway, the handles and the choice of replicas.

``growth.py`` starts it with more and more replicas. A replica sleeps for a millisecond an image, one batch at a time.
"""

# No "from __future__ import annotations" here: Ray reads the annotation of build's argument.

import time
from typing import Any

import numpy as np
from ray import serve
from ray.serve import Application

from services.app import GatewayReplica, StageReplica
from services.batching import Columns, MicroBatcher
from services.links import LocalLink
from services.settings import Settings
from services.stages import Operation

SLEEP_S = 1e-3
"""An image."""
CLASSES = 10
_OPTIONS: dict[str, Any] = {"max_ongoing_requests": 2048, "ray_actor_options": {"num_cpus": 0.01}}


class SleepStage:
    """The operation ``classify``, which needs time and no processor."""

    def warm_up(self) -> None:
        pass

    def run(self, operation: Operation, columns: Columns) -> Columns:
        images = len(columns["images"])
        time.sleep(SLEEP_S * images)
        return {"label": np.zeros(images, np.int64), "probabilities": np.zeros((images, CLASSES), np.float32)}


class SleepingReplica(StageReplica):
    """The classifier's replica with another stage."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        self._name = "classifier"
        self._batcher = MicroBatcher(LocalLink(SleepStage(), settings.classifier).call, settings.classifier)


def build(args: Settings) -> Application:
    """The service's own gateway before replicas that sleep; a config says how many."""
    sleeper = serve.deployment(name="Sleeper", **_OPTIONS)(SleepingReplica).bind(args)
    gateway = serve.deployment(name="Gateway", **_OPTIONS)(serve.ingress()(GatewayReplica))
    return gateway.bind(args, {"classifier": sleeper})
