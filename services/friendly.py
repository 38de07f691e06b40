"""Routes for people with files and curl: images in, as they lie on a disk, and JSON or an image out.

Each file is a request of its own to the pipelines, which join them to batches again: a broken file harms no neighbour,
and the answers are those of the protocol.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from time import perf_counter_ns
from typing import NamedTuple, TypeVar

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp

from services.accept import by_preference
from services.annotated import AnnotationAllowance, check_mask, with_moved
from services.asks import AUGMENT, Ask, parameters_of, picture_of, read_ask
from services.body import read_body
from services.forms import Form, Item, from_text, read_form
from services.friendly_answers import JSON, PNG, json_answer, png_answer
from services.origin import current, new_request_id
from services.pipelines import Outcome, Pipelines
from services.protocol import ModelSpec
from services.recipe_routes import RecipeRoutes
from services.routes import DescribedRoute
from services.settings import Settings
from services.uploads import PixelAllowance, as_request_format, bytes_tensor, read_head, read_pixels
from stn_core.annotations import Annotations
from stn_core.errors import BadBody, NotAcceptable, StnError, TimedOut, shortened
from stn_core.geometry import Size
from stn_core.wire import InferRequest

T = TypeVar("T")

logger = logging.getLogger("ray.serve")

PATH = "/v1"
_FILES_AT_ONCE = 256
"""Of one request under way; more would hold up the event loop, and form no larger batches."""
_SUMMARIES = {
    "predict": ("Straightens and classifies image files", 'curl -F image=@digit.png "$URL/v1/predict"'),
    "rectify": (
        "Straightens image files",
        'curl -F image=@digit.png -H "accept: image/png" -o straight.png "$URL/v1/rectify"',
    ),
    "straighten": (
        "Straightens image files of any size at their own",
        'curl -F image=@photo.jpg -F canvas=fit -H "accept: image/png" -o large.png "$URL/v1/straighten"',
    ),
    "classify": ("Classifies image files as they are", 'curl -F image=@straight.png "$URL/v1/classify"'),
    AUGMENT: (
        "Distorts image files by a recipe",
        'curl -F image=@digit.png -F recipe=rotation -F copies=3 "$URL/v1/augment"',
    ),
}


def friendly_routes(pipelines: Pipelines, settings: Settings) -> list[DescribedRoute]:
    """All routes below ``/v1``."""
    files = _FileRoutes(pipelines, settings)
    return [*files.routes(), *RecipeRoutes(pipelines, settings.limits).routes(PATH)]


class _Prepared(NamedTuple):
    """What is asked of the pipelines for one file, and what moves with it."""

    request: InferRequest
    annotations: Annotations | None


class _FileRoutes:
    def __init__(self, pipelines: Pipelines, settings: Settings) -> None:
        self._pipelines = pipelines
        self._limits = settings.limits
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="files")
        self._moving = ThreadPoolExecutor(1, thread_name_prefix="annotations")  # may take seconds, if it is a spline
        self._channels = max(pipelines.specs["predict"].inputs[0].shape[-1], 1)

    def routes(self) -> list[DescribedRoute]:
        return [self._route(self._pipelines.specs[name], *texts) for name, texts in _SUMMARIES.items()]

    def _route(self, spec: ModelSpec, summary: str, example: str) -> DescribedRoute:
        takes = ("multipart/form-data", "application/json", "image/*")
        gives = (JSON, PNG) if picture_of(spec) else (JSON,)
        parameters = parameters_of(spec, self._limits)
        return DescribedRoute(
            "POST", f"{PATH}/{spec.name}", partial(self._answer, spec), summary, parameters, takes, gives, example
        )

    async def _answer(self, spec: ModelSpec, request: Request) -> ASGIApp:
        origin = current()
        if origin is not None:
            origin.model, origin.protocol = spec.name, "files"
        kinds = by_preference(request.headers.get("accept", ""), (JSON, PNG))
        if not kinds:
            raise NotAcceptable(f"accept: expected {JSON} or {PNG}, got {shortened(request.headers['accept'])!r}")
        deadline_s = asyncio.get_running_loop().time() + self._limits.request_timeout_s
        with self._pipelines.budget.lease() as lease, self._pipelines.arrival(spec) as arrival:
            try:
                async with asyncio.timeout_at(deadline_s):
                    body = await read_body(request.headers, request.stream(), self._limits, lease)
                    form, ask = await self._in_thread(self._read, spec, request, body)
                    kind = _kind_of_answer(kinds, ask, len(form.items))
                    ask = replace(ask, pictures=ask.pictures or kind == PNG)
                    prepared = await self._in_thread(self._prepare, ask, form.items)
            except ClientDisconnect:
                raise BadBody("the client went away before the end of the body") from None
            except TimeoutError:
                raise self._too_late(spec) from None
            arrival.end()
            turns = asyncio.Semaphore(_FILES_AT_ONCE)
            outcomes = await asyncio.gather(*(self._infer(ask, one, deadline_s, turns) for one in prepared))
            if kind == PNG:
                return await self._in_thread(png_answer, ask, outcomes[0])
            names, path = [item.name for item in form.items], shortened(request.scope["path"])
            return await self._in_thread(json_answer, ask, names, outcomes, path)

    async def _in_thread(self, work: Callable[..., T], *given: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *given)

    def _read(self, spec: ModelSpec, request: Request, body: bytes) -> tuple[Form, Ask]:
        form = read_form(request.headers.get("content-type", ""), body, self._limits)
        query = [(name, from_text(value)) for name, value in request.query_params.multi_items()]
        return form, read_ask(spec, [*query, *form.parameters], form.items, self._limits)

    def _prepare(self, ask: Ask, items: Sequence[Item]) -> list[_Prepared | StnError]:
        """A request to the pipelines for each file, or what is wrong with it."""
        allowance = PixelAllowance(self._limits)
        for_points = None if ask.recipe is None else AnnotationAllowance(ask.recipe, ask.copies, self._limits)
        prepared: list[_Prepared | StnError] = []
        for item, annotations in zip_longest(items, ask.annotations):
            try:
                if isinstance(annotations, StnError):
                    raise annotations
                request = self._request_of(ask, item, allowance)
                if annotations is not None and for_points is not None:
                    check_mask(annotations, _size_of(request))
                    for_points.take(annotations)
                prepared.append(_Prepared(request, annotations))
            except StnError as error:
                prepared.append(error)
        return prepared

    def _request_of(self, ask: Ask, item: Item, allowance: PixelAllowance) -> InferRequest:
        if isinstance(item.data, StnError):
            raise item.data
        head, limits, with_opacity = read_head(item.data, self._limits), self._limits, self._channels == 4
        pixels = max(head.pixels, ask.pixels_made)
        if ask.recipe is None:  # the pipelines read the file, as they read those of the protocol
            allowance.take(pixels * self._channels)
            images = bytes_tensor(as_request_format(item.data, head, limits, with_opacity))
        else:  # in the file's own colours, which no network asks to be other
            allowance.take(pixels * (4 if with_opacity else 1 if head.is_gray else 3) * ask.copies)
            images = np.repeat(read_pixels(item.data, limits, with_opacity)[None], ask.copies, axis=0)
        return InferRequest({"images": images}, ask.outputs, ask.parameters)

    async def _infer(
        self, ask: Ask, prepared: _Prepared | StnError, deadline_s: float, turns: asyncio.Semaphore
    ) -> Outcome | StnError:
        """What one file comes to, counted as the request that it is; never raises, so that each has its own answer."""
        statistics, started_ns = self._pipelines.statistics[ask.spec.name], perf_counter_ns()
        outcome = await self._outcome(ask, prepared, deadline_s, turns)
        taken_ns = perf_counter_ns() - started_ns
        if isinstance(outcome, Outcome):
            origin = current()
            if origin is not None:
                origin.images += outcome.images
            statistics.add_success(outcome.images, taken_ns, outcome.prepared_ns - started_ns, 0)
        else:
            statistics.add_failure(taken_ns)
            self._pipelines.requests.files_refused[outcome.code] += 1
        return outcome

    async def _outcome(
        self, ask: Ask, prepared: _Prepared | StnError, deadline_s: float, turns: asyncio.Semaphore
    ) -> Outcome | StnError:
        if isinstance(prepared, StnError):
            return prepared
        request, annotations = prepared
        try:
            async with asyncio.timeout_at(deadline_s), turns:
                outcome = await self._pipelines.infer(ask.spec, request)
                if annotations is None:
                    return outcome
                loop, size = asyncio.get_running_loop(), _size_of(request)
                moved: Outcome = await loop.run_in_executor(self._moving, with_moved, outcome, annotations, size)
                return moved
        except StnError as error:
            return error
        except TimeoutError:
            return self._too_late(ask.spec)
        except Exception:
            number, origin = new_request_id(), current()
            request_id = "unknown" if origin is None else origin.request_id
            logger.exception("file %s of request %s for %s failed", number, request_id, ask.spec.name)
            return StnError(f"the service failed on file {number}; its log has the reason")

    def _too_late(self, spec: ModelSpec) -> TimedOut:
        limit_s = self._limits.request_timeout_s
        return TimedOut(f"{spec.name}: no answer within {limit_s:g} s; send fewer files at once or try later")


def _size_of(request: InferRequest) -> Size:
    _, height, width, _ = request.inputs["images"].shape
    return height, width


def _kind_of_answer(kinds: Sequence[str], ask: Ask, files: int) -> str:
    """The most welcome of ``kinds`` that the answer can be; NotAcceptable says what to do if there is none."""
    images = files * ask.copies if picture_of(ask.spec) else 0
    found = next((kind for kind in kinds if kind == JSON or images == 1), None)
    if found is None:
        made = f"{images} images" if images else "no image"
        raise NotAcceptable(
            f"accept: an answer in {PNG} is one image, and this one has {made}; "
            + (f"send one file and ask for one copy, or accept {JSON}" if images else f"accept {JSON}")
        )
    return found
