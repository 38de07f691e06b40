"""The client for ordinary code. All it decides lies in ``calls`` and ``flow``; here are the sockets and the clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import chain, islice
from threading import Event
from typing import Any, Self, Unpack

from numpy.typing import ArrayLike, NDArray

from stn_client.answers import Settled
from stn_client.by_httpx import HttpxLink
from stn_client.by_sockets import SocketLink, is_straight
from stn_client.calls import Call
from stn_client.connected import Connected
from stn_client.flow import Deadline, Flow, Request, T
from stn_client.images import Images
from stn_client.models import R
from stn_client.options import AugmentOptions, Options, RectifyOptions, StraightenOptions, WarpOptions
from stn_client.progress import telling
from stn_client.results import Augmentation, Classification, Prediction, Rectification, Straightening, Warping
from stn_client.transport import Link


class Client(Connected[Link]):
    """A connection to the service at ``url``, for use by any number of threads; close it, or use it in ``with``.

    Images are a NumPy array ``[N, H, W, C]`` or ``[N, H, W]``, uint8 or floating in [0, 1]; or an iterable of images,
    each an array, a PIL image, the bytes of a PNG or JPEG, or a path; or the path of a folder or a pattern. They are
    split into requests that the service takes, ``in_flight`` of them at a time, and results keep their order.

    A service that fails or restarts is tried again ``retries`` times; one that says when to come again, until the
    pauses of a request come to ``patience_s``. Errors are those of ``stn_core.errors``, with
    ``ConnectionFailed``, ``NotAllowed`` and ``BadAnswer`` of ``stn_client.errors``.
    """

    def predict(self, images: Images, **options: Unpack[RectifyOptions]) -> Prediction:
        """Each image straightened and classified: label, probabilities, theta and the rectified image."""
        return self._gather(self._calls.predict(images, **options))

    def rectify(self, images: Images, **options: Unpack[RectifyOptions]) -> Rectification:
        """Each image straightened, and the theta that did it."""
        return self._gather(self._calls.rectify(images, **options))

    def straighten(self, images: Images, **options: Unpack[StraightenOptions]) -> Straightening:
        """Each image straightened at its own size and channels: images and files of mixed sizes in one call."""
        return self._gather(self._calls.straighten(images, **options))

    def classify(self, images: Images, **options: Unpack[Options]) -> Classification:
        """The label and the probabilities of each image as it is, not straightened."""
        return self._gather(self._calls.classify(images, **options))

    def warp(self, images: Images, theta: ArrayLike, **options: Unpack[WarpOptions]) -> NDArray[Any]:
        """Each image warped by its ``theta``, or all by one: ``warped(u) = image(theta u)``.

        Affine ``[N, 2, 3]``, homography ``[N, 3, 3]`` or thin-plate spline ``[N, K*K, 2]``; one for all without the N.
        """
        return self._gather(self._calls.warp_alone(images, theta, **options)).images

    def augment(
        self,
        images: Images,
        recipe: str | Mapping[str, Any],
        seed: int,
        ids: ArrayLike | None = None,
        **options: Unpack[AugmentOptions],
    ) -> Augmentation:
        """Each image distorted by its own draw of ``recipe`` (a name, or a recipe itself), with the theta that did it.

        A pure function of images, recipe and seed. An image's draw depends on its content; the ``ids`` (whole numbers
        from 0) that you give instead number the images that come out yourself. ``copies`` makes several of each, and
        ``annotations`` move with their images.
        """
        return self._gather(self._calls.augment(images, recipe, seed, ids, **options))

    @property
    def stream(self) -> Stream:
        """The same calls for more images than memory holds: results come batch by batch."""
        return Stream(self)

    def server_ready(self) -> bool:
        """True if the service answers that it is ready; False if it does not, or does not answer at all."""
        return self._run(self._calls.server_ready())

    def metadata(self) -> dict[str, Any]:
        """What the service says of itself: name, version, extensions, limits."""
        return self._run(self._calls.metadata())

    def recipes(self) -> dict[str, dict[str, Any]]:
        """What there is to say of each shipped recipe, by its name: description, family of theta, canvas, ..."""
        return self._run(self._calls.recipes())

    def recipe(self, name: str) -> dict[str, Any]:
        """A shipped recipe as data, to be changed and given to ``augment``; UnknownRecipe if there is none."""
        return self._run(self._calls.recipe(name))

    def shadow(self) -> dict[str, Any]:
        """What rectification changed, as far as the service compares it: see its setting ``shadow_share``."""
        return self._run(self._calls.shadow())

    def model(self, name: str) -> dict[str, Any]:
        """What the service says of one model: inputs, outputs, ``parameters`` with its classes. UnknownModel else."""
        return self._run(self._calls.model(name))

    def close(self) -> None:
        """Closes the connections; the client cannot be used after."""
        self._link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _new_link(self) -> Link:
        return SocketLink(self._settings) if is_straight(self._settings) else HttpxLink(self._settings)

    def _gather(self, call: Call[R]) -> R:
        whole = call.whole()
        with closing(self._settled(call)) as found:
            for settled in found:
                whole.add(settled)
        return whole.result()

    def _parts(self, call: Call[R]) -> Generator[R, None, None]:
        with closing(self._settled(call)) as found:
            for settled in found:
                yield call.part(settled)

    def _settled(self, call: Call[Any]) -> Generator[Settled, None, None]:
        flows = self._calls.flows(call, self._run(self._calls.limits(call.chosen.deadline)))
        with (
            telling(call.chosen.progress, call.model.name, call.source.total) as tell,
            closing(self._in_order(call, flows)) as found,
        ):
            for settled in found:
                tell(len(settled.index))
                yield settled

    def _in_order(self, call: Call[Any], flows: Iterator[Flow[T]]) -> Generator[T, None, None]:
        """What the flows come to; while the oldest is waited for, others are under way, and one is ready to begin."""
        ahead = [] if call.source.count is None else list(islice(flows, 2))
        if call.chosen.deadline is None and (self._in_flight == 1 or len(ahead) == 1):
            yield from map(self._run, chain(ahead, flows))  # a thread would cost more than it saves
            return
        waiting: deque[Future[T]] = deque()
        stopped = Event()
        pool = ThreadPoolExecutor(self._in_flight, "stn-client")
        try:
            for flow in chain(ahead, flows):
                done = [_result(waiting.popleft(), call.chosen.deadline)] if len(waiting) == self._in_flight else []
                waiting.append(pool.submit(self._run, flow, stopped))
                yield from done
            while waiting:
                yield _result(waiting.popleft(), call.chosen.deadline)
        finally:  # nothing goes on behind the caller's back, unless there is no time to wait for it
            stopped.set()
            pool.shutdown(wait=call.chosen.deadline is None, cancel_futures=True)

    def _run(self, flow: Flow[T], stopped: Event | None = None) -> T:
        came: object = None
        while stopped is None or not stopped.is_set():
            try:
                step = flow.send(came)
            except StopIteration as end:
                result: T = end.value
                return result
            came = self._link.send(step) if isinstance(step, Request) else (stopped or Event()).wait(step.duration_s)
        raise CancelledError


def _result(future: Future[T], deadline: Deadline | None) -> T:
    """What the future comes to; TimedOut if the deadline passes before."""
    if deadline is not None and not wait([future], max(0.0, deadline.left_s())).done:
        raise deadline.passed()
    return future.result()


class Stream:
    """The calls of a ``Client`` as iterators: of each batch a result, in the order of the images.

    The images are read no further than ``in_flight`` batches and one ahead of what was taken. To leave the loop early
    ends the call.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def predict(self, images: Images, **options: Unpack[RectifyOptions]) -> Generator[Prediction, None, None]:
        """See ``Client.predict``."""
        return self._client._parts(self._client._calls.predict(images, **options))

    def rectify(self, images: Images, **options: Unpack[RectifyOptions]) -> Generator[Rectification, None, None]:
        """See ``Client.rectify``."""
        return self._client._parts(self._client._calls.rectify(images, **options))

    def straighten(self, images: Images, **options: Unpack[StraightenOptions]) -> Generator[Straightening, None, None]:
        """See ``Client.straighten``."""
        return self._client._parts(self._client._calls.straighten(images, **options))

    def classify(self, images: Images, **options: Unpack[Options]) -> Generator[Classification, None, None]:
        """See ``Client.classify``."""
        return self._client._parts(self._client._calls.classify(images, **options))

    def warp(
        self, images: Images, theta: ArrayLike | Iterator[ArrayLike], **options: Unpack[Options]
    ) -> Generator[Warping, None, None]:
        """See ``Client.warp``; ``theta`` may be an iterator, which gives one for each image."""
        return self._client._parts(self._client._calls.warp(images, theta, **options))

    def augment(
        self,
        images: Images,
        recipe: str | Mapping[str, Any],
        seed: int,
        ids: ArrayLike | Iterator[int] | None = None,
        **options: Unpack[AugmentOptions],
    ) -> Generator[Augmentation, None, None]:
        """See ``Client.augment``; ``ids`` may be an iterator, which gives one for each image."""
        return self._client._parts(self._client._calls.augment(images, recipe, seed, ids, **options))
