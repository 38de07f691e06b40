"""One inference, whatever protocol it came by: how long it may take, what it may ask for, and what is counted of it."""

import asyncio
from collections.abc import Callable
from time import perf_counter_ns
from types import TracebackType
from typing import TypeVar

from services.batching import Columns
from services.classification import check_classification, classified
from services.origin import current
from services.pipelines import Outcome, Pipelines
from services.protocol import ModelSpec
from services.settings import Limits
from stn_core.errors import BadBody, BadTensor, StnError, TimedOut, brief
from stn_core.wire import InferRequest

INLINE_BYTES = 256 * 1024
"""Messages up to this size are decoded and encoded on the event loop; a thread would cost more."""
INLINE_TEXT_BYTES = 16 * 1024
"""The same of what is no array as it is: JSON, typed contents, names of classes."""
_MICROSECONDS = 1e-6

Answer = TypeVar("Answer")
Encode = Callable[[Columns, str, str, InferRequest, dict[str, str]], Answer]
"""Makes the answer of outputs, the model's name and version, the request, and the parameters of the answer."""


class Inference:
    """An ``async with`` block around all that is done for one request; TimedOut ends it when its time is over.

    The request counts as answered if ``run`` was and the block ends without an error, else as failed. Overloaded where
    the queue has no room for it. ``gone`` tells whether its client has left.
    """

    def __init__(
        self, pipelines: Pipelines, spec: ModelSpec, limits: Limits, gone: Callable[[], bool] | None = None
    ) -> None:
        self._pipelines = pipelines
        self._arrival = pipelines.arrival(spec, gone)
        self._spec = spec
        self._timeout_s = limits.request_timeout_s
        self._timeout = asyncio.timeout(self._timeout_s)
        self._started_ns = self._received_ns = self._inferred_ns = perf_counter_ns()
        self._outcome: Outcome | None = None
        self._origin = current()
        if self._origin is not None:
            self._origin.model = spec.name

    async def __aenter__(self) -> "Inference":
        try:
            self._arrival.begin()
        except StnError:
            self._count(False)
            raise
        await self._timeout.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._arrival.end()
        self._count(kind is None)
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise TimedOut(
                f"model {self._spec.name} gave no answer within {self._timeout_s:g} s; send fewer images at once or "
                "try later"
            ) from None

    def received(self) -> None:
        """The request is here, whole: the time until now was its way, not work."""
        self._received_ns = perf_counter_ns()

    async def run(self, request: InferRequest, encode: Encode[Answer]) -> Answer:
        """What ``encode`` makes of the outputs that ``request`` comes to, in the model's own order."""
        spec = self._spec
        self._shorten(request)
        _check_outputs(spec, request)
        outcome = self._outcome = await self._pipelines.infer(spec, request, self._arrival)
        self._inferred_ns = perf_counter_ns()
        # Without columns that travelled between stages only.
        outputs = {name: outcome.outputs[name] for name in spec.output_names if name in outcome.outputs}

        def answer() -> Answer:
            return encode(classified(outputs, spec, request), spec.name, spec.version, request, outcome.parameters)

        size = sum(array.nbytes for array in outputs.values())
        if size <= (INLINE_BYTES if _all_binary(request) else INLINE_TEXT_BYTES):
            return answer()
        return await asyncio.to_thread(answer)

    def _shorten(self, request: InferRequest) -> None:
        """Takes the time that ``request`` asks for, counted from now, if it is less than the service's own."""
        asked_s = _asked_timeout_s(request)
        if asked_s is not None and asked_s < self._timeout_s:
            self._timeout_s = asked_s
            self._timeout.reschedule(asyncio.get_running_loop().time() + asked_s)

    def _count(self, well: bool) -> None:
        ended_ns = perf_counter_ns()
        statistics, outcome = self._pipelines.statistics[self._spec.name], self._outcome
        if not well or outcome is None:
            statistics.add_failure(ended_ns - self._started_ns)
            return
        prepared_ns, encoded_ns = outcome.prepared_ns - self._received_ns, ended_ns - self._inferred_ns
        if self._origin is not None:
            self._origin.images = outcome.images
        statistics.add_success(outcome.images, ended_ns - self._started_ns, prepared_ns, encoded_ns)


def _all_binary(request: InferRequest) -> bool:
    """Whether the answer holds arrays as they are, and no texts, which take far longer."""
    if request.outputs is None:
        return request.binary_by_default
    return all(output.binary and not output.classes for output in request.outputs)


def _check_outputs(spec: ModelSpec, request: InferRequest) -> None:
    """Refuses unknown outputs before any work is done for them."""
    for output in request.outputs or ():
        if output.name not in spec.output_names:
            known = ", ".join(spec.output_names)
            raise BadTensor(f"outputs: expected some of {known} of model {spec.name}, got {brief(output.name)}")
        if output.classes:
            check_classification(spec, output)


def _asked_timeout_s(request: InferRequest) -> float | None:
    """The protocol's ``timeout`` parameter, which is in microseconds."""
    asked = request.parameters.get("timeout")
    if asked is None or asked == 0:
        return None
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        raise BadBody(f"parameters.timeout: expected microseconds as a whole number, got {brief(asked)}")
    return asked * _MICROSECONDS
