"""A LitServe server with dynamic batching, as its documentation shows it: images as base64 in JSON.

python peers_litserve.py PORT    in the peers' environment, with the graph's path in FUSED
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Sequence
from typing import Any

import litserve
import numpy as np
from peers_model import Model, answer, images_in

Images = np.ndarray[Any, np.dtype[np.uint8]]
Answer = tuple[Any, Any]


class Digits(litserve.LitAPI):
    """Joins the images of up to 32 requests to one batch, with the waiting time that its documentation starts from."""

    def setup(self, device: str) -> None:
        self._model = Model()

    def decode_request(self, request: dict[str, str]) -> Images:
        return images_in(base64.b64decode(request["images"]))

    def batch(self, inputs: Sequence[Images]) -> tuple[Images, list[int]]:
        return np.concatenate(inputs), [len(images) for images in inputs]

    def predict(self, batch: tuple[Images, list[int]]) -> tuple[Answer, list[int]]:
        images, counts = batch
        return self._model(images), counts

    def unbatch(self, output: tuple[Answer, list[int]]) -> list[Answer]:
        (labels, probabilities), counts = output
        edges = np.cumsum(counts)[:-1]
        return list(zip(np.split(labels, edges), np.split(probabilities, edges), strict=True))

    def encode_response(self, output: Answer) -> dict[str, str]:
        return {"answer": base64.b64encode(answer(*output)).decode()}


if __name__ == "__main__":
    api = Digits(max_batch_size=32, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True, track_requests=False)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
