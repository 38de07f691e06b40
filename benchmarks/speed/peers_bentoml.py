"""A BentoML service with adaptive batching, as its documentation shows it: arrays in JSON.

python peers_bentoml.py PORT    in the peers' environment, with the graph's path in FUSED
"""

# No "from __future__ import annotations" here: BentoML reads the annotations.

import os
import sys
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import DType, Shape
from peers_model import SIDE, Model

Images = Annotated[np.ndarray, DType("uint8"), Shape((-1, SIDE, SIDE, 1))]  # type: ignore[type-arg]


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Digits:
    def __init__(self) -> None:
        self._model = Model()

    @bentoml.api(batchable=True, max_batch_size=256, max_latency_ms=1000)
    def predict(self, images: Images) -> np.ndarray:  # type: ignore[type-arg]
        return self._model(images)[1]


if __name__ == "__main__":
    serve = ["-m", "bentoml", "serve", "peers_bentoml:Digits", "--host=127.0.0.1", f"--port={sys.argv[1]}"]
    folder = os.path.dirname(os.path.abspath(__file__))
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.execv(sys.executable, [sys.executable, *serve, f"--working-dir={folder}"])
