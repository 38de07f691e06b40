"""How the gateway calls a stage: the same way whether it lies in this process or behind a deployment handle."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from services.batching import BatchKey, Columns
from services.channel import Broken, Channels
from services.origin import for_travel
from services.settings import Placement, Settings, StageSettings
from services.stage_work import StageWork
from services.stages import BundleId, Operation, PredictStage, Stage, make_stages
from services.tracing import trace_batch
from stn_core.errors import Overloaded, StnError, Unavailable

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

logger = logging.getLogger("ray.serve")

MAX_BY_VALUE_BYTES = 1_000_000
"""Above this a batch goes through shared memory; by value, which is faster below, Ray takes at most 4 MiB a message."""

INLINE_S = 1e-3
"""The event loop may be held up for so long by a stage; a thread's start and end cost about as much."""

_ATTEMPTS = 2
_FRESH_S = 1.0


class StageLink(Protocol):
    """A stage as its callers see it."""

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        """The result of ``operation`` on one batch; raises errors of the StnError tree."""

    async def ready(self) -> bool:
        """Whether the stage is loaded and warm."""


class LocalLink:
    """A stage in this process, run in threads of its own so that the event loop stays free.

    What will be done sooner than a thread is woken, as the last such call tells, is done on the loop itself.
    """

    def __init__(self, stage: Stage, settings: StageSettings) -> None:
        self._stage = stage
        self._max_batch_images = settings.max_batch_images
        self._threads = ThreadPoolExecutor(settings.max_in_flight_batches, thread_name_prefix=type(stage).__name__)
        self._last_key: BatchKey | None = None
        self._last_s_per_image = math.inf
        self.work = StageWork()

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        key, images = BatchKey.of(operation, columns), len(next(iter(columns.values())))
        expected_s = self._last_s_per_image * images if key == self._last_key else math.inf
        if expected_s <= INLINE_S:
            result, seconds = self._timed(operation, columns)
        else:
            loop = asyncio.get_running_loop()
            result, seconds = await loop.run_in_executor(self._threads, self._timed, operation, columns)
        self._last_key, self._last_s_per_image = key, seconds / images
        self.work.add(operation.name, images, seconds, result)
        trace_batch(f"{type(self._stage).__name__}.{operation.name}", seconds, images)
        return result

    async def ready(self) -> bool:
        return True

    def _timed(self, operation: Operation, columns: Columns) -> tuple[Columns, float]:
        started_s = time.perf_counter()
        return self._run(operation, columns), time.perf_counter() - started_s

    def _run(self, operation: Operation, columns: Columns) -> Columns:
        images = len(next(iter(columns.values())))
        if images <= self._max_batch_images:
            return self._stage.run(operation, columns)
        # The batch was formed for the stage before this one, which takes larger ones.
        step = self._max_batch_images
        parts = [
            self._stage.run(operation, {name: array[start : start + step] for name, array in columns.items()})
            for start in range(0, images, step)
        ]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predict_link(stages: dict[str, Stage], settings: Settings) -> LocalLink:
    """The rectifier and the classifier as one stage, in batches that neither finds too large."""
    most_images = min(settings.rectifier.max_batch_images, settings.classifier.max_batch_images)
    stage = PredictStage(stages["rectifier"], stages["classifier"])
    return LocalLink(stage, settings.rectifier.model_copy(update={"max_batch_images": most_images}))


def local_links(settings: Settings) -> dict[str, StageLink]:
    """The stages that ``settings`` place in the gateway's process, loaded and warm; takes as long as that takes."""
    local = tuple(name for name, stage in settings.stages.items() if stage.placement is Placement.GATEWAY)
    threads = {settings.stages[name].threads for name in local if name != "augmenter"}
    most_threads = None if None in threads else max((count for count in threads if count), default=None)
    stages = make_stages(local, settings.bundle, settings.engine, most_threads)
    links: dict[str, StageLink] = {name: LocalLink(stages[name], settings.stages[name]) for name in local}
    if "rectifier" in local and "classifier" in local:
        links["predictor"] = predict_link(stages, settings)
    return links


class RemoteLink:
    """A stage in deployments of its own: one call a batch, by a channel where there is one, else by Ray's handle."""

    def __init__(
        self, name: str, handle: "DeploymentHandle[Any]", timeout_s: float, readiness_timeout_s: float
    ) -> None:
        self._name = name
        self._by_value = handle.options(
            _by_reference=False, request_serialization="pickle", response_serialization="pickle"
        )
        self._by_reference = handle
        self._channels = Channels(self._by_value.address.remote)
        self._timeout_s = timeout_s
        self._readiness_timeout_s = readiness_timeout_s
        self._asking: asyncio.Task[bool] | None = None
        self._asked_s = -math.inf

    async def call(self, operation: Operation, columns: Columns) -> Columns:
        began_s = time.perf_counter()
        result = await self._call(operation, columns)
        images = len(next(iter(columns.values())))
        trace_batch(f"call to the {self._name}", time.perf_counter() - began_s, images)
        return result

    async def _call(self, operation: Operation, columns: Columns) -> Columns:
        columns = {name: np.ascontiguousarray(array) for name, array in columns.items()}
        images = len(next(iter(columns.values())))
        size = max(sum(array.nbytes for array in columns.values()), images * operation.result_bytes)
        for _ in range(_ATTEMPTS):
            channel = self._channels.least_busy() if size <= MAX_BY_VALUE_BYTES else None
            if channel is None:
                break
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await channel.call(operation, columns)
            except TimeoutError:
                raise Unavailable(f"the {self._name} did not answer within {self._timeout_s:g} s") from None
            except Broken:  # to another replica there may be one, while Ray does not know yet that this one died
                logger.warning("a channel to the %s broke; trying another one, or its handle", self._name)
        return await self._call_by_handle(operation, columns, size)

    async def prepare(self, bundle: BundleId) -> None:
        """Has a replica of the stage load ``bundle``; BadBundle if it cannot. Others load it when they meet it."""
        await self._repeated(lambda: self._by_value.prepare.remote(bundle))

    async def _call_by_handle(self, operation: Operation, columns: Columns, size: int) -> Columns:
        handle = self._by_value if size <= MAX_BY_VALUE_BYTES else self._by_reference
        result: Columns = await self._repeated(lambda: handle.run.remote(operation, columns, for_travel()))
        return result

    async def _repeated(self, start: Callable[[], Any]) -> Any:
        for attempt in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await start()
            except TimeoutError:
                raise Unavailable(f"the {self._name} did not answer within {self._timeout_s:g} s") from None
            except Exception as error:
                reason = _typed(self._name, error)
                # Operations are pure functions of their arguments: a call lost with its replica can be repeated.
                if not isinstance(reason, Unavailable) or attempt + 1 == _ATTEMPTS:
                    raise reason from error
                logger.warning("the %s failed (%s); trying once more", self._name, error)
        raise AssertionError("unreachable")

    async def ready(self) -> bool:
        """Asks no more often than ``_FRESH_S``: each time costs both sides milliseconds."""
        now_s = time.monotonic()
        if self._asking is None or (self._asking.done() and now_s - self._asked_s > _FRESH_S):
            self._asking, self._asked_s = asyncio.create_task(self._ask()), now_s
        return await asyncio.shield(self._asking)

    async def _ask(self) -> bool:
        try:
            async with asyncio.timeout(self._readiness_timeout_s):
                good = bool(await self._by_value.ready.remote())
        except Exception as error:
            logger.info("the %s is not ready: %s", self._name, error or type(error).__name__)
            return False
        await self._channels.look()
        return good


def _typed(name: str, error: Exception) -> StnError:
    """The error of our tree for whatever a handle call raised."""
    from ray.exceptions import RayActorError, RayTaskError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError

    if isinstance(error, RayTaskError) and isinstance(error.cause, StnError):
        return error.cause
    if isinstance(error, StnError):
        return error
    if isinstance(error, BackPressureError):
        return Overloaded(f"the {name} has as many requests as it takes; try again later")
    if isinstance(error, (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)):
        return Unavailable(f"the {name} is not available just now; try again")
    logger.error("the %s failed", name, exc_info=error)
    return StnError(f"the {name} failed")
