"""The client for ordinary code. All it decides lies in ``calls`` and ``flow``; here are the socket and the clock."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import httpx
import numpy as np
from numpy.typing import ArrayLike, NDArray

from stn_client.calls import Calls
from stn_client.flow import Failure, Flow, Pause, Request, Response, Retry, Step, T
from stn_client.results import Augmentation, Classification, Prediction, Rectification
from stn_client.transport import failure_of, httpx_arguments, httpx_options, response_of, slices

Images = NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]


class Client:
    """A connection to the service at ``url``, for use by any number of threads; close it, or use it in ``with``.

    Images are NumPy arrays ``[N, H, W, C]`` or ``[N, H, W]``, uint8 or floating in [0, 1], with any ``N`` from 1: they
    are split into requests that the service takes, ``in_flight`` of them at a time, and results keep their order.

    A full or restarting service is tried again ``retries`` times. Errors are those of ``stn_core.errors``, with
    ``ConnectionFailed`` and ``BadAnswer`` of ``stn_client.errors``.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_timeout_s: float = 5.0,
        read_timeout_s: float = 60.0,
        retries: int = Retry.retries,
        in_flight: int = 4,
    ) -> None:
        self._http = httpx.Client(**httpx_options(url, connect_timeout_s, read_timeout_s))
        self._calls = Calls(Retry(retries))
        self._in_flight = max(1, in_flight)

    def predict(self, images: Images) -> Prediction:
        """Each image straightened and classified: label, probabilities, theta and the rectified image."""
        return self._run(self._calls.predict(images))

    def rectify(self, images: Images) -> Rectification:
        """Each image straightened, and the theta that did it."""
        return self._run(self._calls.rectify(images))

    def classify(self, images: Images) -> Classification:
        """The label and the probabilities of each image as it is, not straightened."""
        return self._run(self._calls.classify(images))

    def warp(self, images: Images, theta: ArrayLike) -> NDArray[Any]:
        """Each image warped by its ``theta``, or all by one: ``warped(u) = image(theta u)``.

        Affine ``[N, 2, 3]``, homography ``[N, 3, 3]`` or thin-plate spline ``[N, K*K, 2]``; one for all without the N.
        """
        return self._run(self._calls.warp(images, theta))

    def augment(
        self, images: Images, recipe: str | Mapping[str, Any], seed: int, ids: ArrayLike | None = None
    ) -> Augmentation:
        """Each image distorted by its own draw of ``recipe`` (a name, or a recipe itself), with the theta that did it.

        A pure function of images, recipe and seed. An image's draw depends on its content; the ``ids [N]`` (whole
        numbers from 0) that you give instead number the images yourself.
        """
        return self._run(self._calls.augment(images, recipe, seed, ids))

    def server_ready(self) -> bool:
        """True if the service answers that it is ready; False if it does not, or does not answer at all."""
        return self._run(self._calls.server_ready())

    def metadata(self) -> dict[str, Any]:
        """What the service says of itself: name, version, extensions, limits."""
        return self._run(self._calls.metadata())

    def close(self) -> None:
        """Closes the connections; the client cannot be used after."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        came: object = None
        while True:
            try:
                step = flow.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            came = self._do(step)

    def _do(self, step: Step) -> object:
        if isinstance(step, Request):
            return self._send(step)
        if isinstance(step, Pause):
            time.sleep(step.duration_s)
            return None
        if self._in_flight == 1:
            return [self._run(flow) for flow in step.flows]
        with ThreadPoolExecutor(min(self._in_flight, len(step.flows)), "stn-client") as pool:
            return list(pool.map(self._run, step.flows))  # after an error the flows that wait do not begin

    def _send(self, request: Request) -> Response | Failure:
        content = slices(request) if request.parts else None
        try:
            return response_of(self._http.request(content=content, **httpx_arguments(request)))
        except httpx.RequestError as error:
            return failure_of(error, self._http.base_url)
