"""What each served model does with a request: check it, batch it with others, send it through the stages."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np

from services.batching import Array, Columns, MicroBatcher
from services.body import ByteBudget
from services.decisions import decide_operation, operation_decides, told
from services.inputs import (
    ImageRules,
    check_names,
    check_spline,
    read_ids,
    read_images,
    read_points,
    read_sizes,
    read_theta,
    result_bytes,
)
from services.links import LocalLink, StageLink
from services.protocol import ModelSpec, model_specs
from services.rates import spend_images
from services.request_counts import RequestCounts
from services.room import Arrival
from services.settings import Settings
from services.shadow import Shadow
from services.stages import CLASSIFY, MapStage, Operation, augment_operation
from services.statistics import ModelStatistics
from services.straighten import Straightener
from stn_core.bundle import Manifest
from stn_core.draws import image_ids
from stn_core.errors import BadRecipe, BadTensor, Unsupported, brief
from stn_core.recipes import Recipe, distorted_size, parse_recipe, steps_by_imgaug, theta_shape_of
from stn_core.transforms import THETA_SHAPES, invert
from stn_core.wire import InferRequest

TO_SOURCE, TO_RECTIFIED = "to_source", "to_rectified"
MAX_SEED = 2**63 - 1
_INLINE_BYTES = 64 * 1024
_INLINE_RECIPE_CHARACTERS = 4096
_LOCALIZE = Operation("localize")
_WARP = Operation("warp")
_RESIZE = Operation("resize")


class Work(NamedTuple):
    """A checked request: what to do with which arrays, and what the answer says beside its outputs."""

    operation: Operation
    columns: Columns
    parameters: dict[str, str] = {}  # noqa: RUF012  # never changed


class Outcome(NamedTuple):
    """The outputs of one request by name, the parameters of its answer, and what is counted of it."""

    outputs: Columns
    parameters: dict[str, str]
    images: int
    prepared_ns: int
    """When its tensors were checked, by ``time.perf_counter_ns``."""


class Pipelines:
    """The five models over their stages; each batches by itself, so that a stage holds up only models that need it."""

    def __init__(self, settings: Settings, links: dict[str, StageLink], manifest: Manifest) -> None:
        self._links = links
        self.specs = model_specs(manifest)
        self.requests = RequestCounts()
        self.budget = ByteBudget(settings.limits.max_bytes_in_flight)
        self._decoding = ThreadPoolExecutor(2, thread_name_prefix="decode")
        self._limits = settings.limits
        self._manifest = manifest
        self._rectified_size = manifest.rectified_shape[:2]
        channels = manifest.input_shape[2]
        self._crooked = ImageRules(settings.limits, manifest.input_shape, channels, unit_range=True)
        self._straight = ImageRules(settings.limits, manifest.rectified_shape, channels, unit_range=True)
        self._free = ImageRules(settings.limits, None, channels, unit_range=True)
        self._free_values = ImageRules(settings.limits, None, channels, unit_range=False)
        self._prepare: dict[str, Callable[[InferRequest], Work]] = {
            "predict": self._prepare_predict,
            "rectify": self._prepare_rectify,
            "classify": self._prepare_classify,
            "warp": self._prepare_warp,
            "augment": self._prepare_augment,
            "map": self._prepare_map,
        }
        self._map = LocalLink(MapStage(), settings.rectifier)
        predict = links["predictor"].call if "predictor" in links else self._run_predict
        runs: dict[str, tuple[Callable[[Any, Columns], Awaitable[Columns]], str]] = {
            "predict": (predict, "rectifier"),
            "straighten": (predict, "rectifier"),
            "rectify": (links["rectifier"].call, "rectifier"),
            "classify": (links["classifier"].call, "classifier"),
            "warp": (links["rectifier"].call, "rectifier"),
            "augment": (links["augmenter"].call, "augmenter"),
            "map": (self._map.call, "rectifier"),
        }
        in_flight = {name: settings.stages[stage].gateway_in_flight for name, (_, stage) in runs.items()}
        if "predictor" not in links:  # while one of the two stages has a batch, the other is free for the next
            both = settings.rectifier.max_in_flight_batches + settings.classifier.max_in_flight_batches
            in_flight["predict"] = max(in_flight["predict"], both)
        timeout_s = settings.limits.request_timeout_s
        self.statistics = {spec.name: ModelStatistics(spec.name, spec.version) for spec in self.specs.values()}
        self._batchers = {
            name: MicroBatcher(run, settings.stages[stage], in_flight[name], self.statistics[name].add_batch, timeout_s)
            for name, (run, stage) in runs.items()
        }
        self._stage_of = {name: stage for name, (_, stage) in runs.items()}
        self._straightener = Straightener(settings, manifest, self._look)
        self.shadow = Shadow(settings.shadow_share, self._classify_as_it_came)
        self.refused: str | None = None
        """Why another bundle, which was to be served instead, is not."""
        self._compares = settings.shadow_share > 0
        self._resizes = manifest.rectified_shape != manifest.input_shape

    def arrival(self, spec: ModelSpec, gone: Callable[[], bool] | None = None) -> Arrival:
        """Of a request to the model: refused where it would find no room, before any of it is read."""
        return self._batchers[spec.name].arrival(gone)

    async def infer(self, spec: ModelSpec, request: InferRequest, arrival: Arrival | None = None) -> Outcome:
        """What one request comes to; its ``arrival`` ends when it waits for a batch."""
        spend_images(_images_in(request))
        if spec.name == "straighten":
            done = await self._straightener.infer(request)
            return Outcome(done.outputs, {}, done.images, done.prepared_ns)
        prepare = self._prepare[spec.name]
        if _is_quick(request):
            work = prepare(request)
        else:
            work = await asyncio.get_running_loop().run_in_executor(self._decoding, prepare, request)
        prepared_ns = perf_counter_ns()
        batcher = self._batchers[spec.name]
        outputs = await batcher.submit(work.operation, work.columns, work.operation.result_bytes, arrival)
        if operation_decides(work.operation):
            outputs = told(outputs)
        if self._compares and spec.name == "predict":
            self.shadow.offer(work.columns["images"], outputs)
        return Outcome(outputs, work.parameters, len(next(iter(work.columns.values()))), prepared_ns)

    def local_links(self) -> dict[str, LocalLink]:
        """The stages of this process."""
        return {**{name: link for name, link in self._links.items() if isinstance(link, LocalLink)}, "map": self._map}

    def queued_images(self) -> dict[str, int]:
        """Images that wait here for a batch, by the stage that they wait for."""
        queued = dict.fromkeys(self._stage_of.values(), 0)
        for name, batcher in self._batchers.items():
            queued[self._stage_of[name]] += batcher.queued_images
        return queued

    @property
    def bundle(self) -> tuple[str, str]:
        """Name and version of the bundle that is served."""
        return self._manifest.name, self._manifest.version

    async def unready_stages(self, stages: tuple[str, ...] | None = None) -> list[str]:
        """Which of ``stages`` (all when None) are not loaded and warm."""
        names = list(self._links) if stages is None else list(stages)
        ready = await asyncio.gather(*(self._links[name].ready() for name in names))
        return [name for name, good in zip(names, ready, strict=True) if not good]

    async def _look(self, small: Array, request: InferRequest) -> Columns:
        """What the networks find in small copies ``[N, *input_shape]`` of images to be straightened."""
        operation = self._rectify_operation(small, request)
        return await self._batchers["straighten"].submit(operation, {"images": small}, operation.result_bytes)

    async def _classify_as_it_came(self, images: Array) -> Columns:
        if self._resizes:
            images = (await self._links["rectifier"].call(_RESIZE, {"images": images}))["images"]
        return await self._batchers["classify"].submit(CLASSIFY, {"images": images})

    async def _run_predict(self, operation: Operation, columns: Columns) -> Columns:
        rectified = await self._links["rectifier"].call(operation, columns)
        classified = await self._links["classifier"].call(CLASSIFY, {"images": rectified["rectified"]})
        return {**classified, **rectified}

    def _prepare_predict(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("images",))
        images = read_images(request.inputs["images"], self._crooked)
        return Work(self._rectify_operation(images, request), {"images": images})

    def _prepare_rectify(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("images",))
        images = read_images(request.inputs["images"], self._crooked)
        operation = self._rectify_operation(images, request)
        only_theta = operation.name == "rectify" and _asked(request) == {"theta"}
        return Work(_LOCALIZE if only_theta else operation, {"images": images})

    def _rectify_operation(self, images: Array, request: InferRequest) -> Operation:
        size = result_bytes("rectified", images, self._rectified_size, self._limits)
        return decide_operation(request, self._manifest, size) or Operation("rectify", result_bytes=size)

    def _prepare_classify(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("images",))
        return Work(CLASSIFY, {"images": read_images(request.inputs["images"], self._straight)})

    def _prepare_warp(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("images", "theta"))
        images = read_images(request.inputs["images"], self._free_values)
        theta = read_theta(request.inputs["theta"], len(images))
        check_spline(theta.shape[1:], images.shape[1:3], self._limits)
        return Work(_WARP, {"images": images, "theta": theta})

    def _prepare_augment(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("images",), ("ids",))
        recipe, seed = read_recipe(request)
        images = read_images(request.inputs["images"], self._free)
        # The canvas is checked before the request joins a batch, and before a pixel of it is made.
        size = distorted_size(recipe, images.shape[1:3])
        check_spline(theta_shape_of(recipe), size, self._limits)
        bytes_each = result_bytes("distorted images", images, size, self._limits)
        operation = augment_operation(recipe.model_dump_json(), seed, bytes_each)
        given = request.inputs.get("ids")
        # Ids of the whole request, so that neither its neighbours nor its slices have a say in what is drawn.
        ids = image_ids(images) if given is None else read_ids(given, len(images))
        slow_steps = steps_by_imgaug(recipe)
        said = {"by_imgaug": ",".join(slow_steps)} if slow_steps else {}
        return Work(operation, {"images": images, "ids": ids}, said)

    def _prepare_map(self, request: InferRequest) -> Work:
        check_names(request.inputs, ("points", "theta", "rectified_size", "source_size"))
        direction = request.parameters.get("direction", TO_SOURCE)
        if direction not in (TO_SOURCE, TO_RECTIFIED):
            raise BadTensor(f"parameters.direction: expected {TO_SOURCE} or {TO_RECTIFIED}, got {brief(direction)}")
        images = len(request.inputs["points"]) if request.inputs["points"].ndim else 0
        if images == 0:
            raise BadTensor("points: expected those of at least one image, got none")
        columns = {"points": read_points(request.inputs["points"], images)}
        columns["theta"] = read_theta(request.inputs["theta"], images, np.float64)
        if direction == TO_RECTIFIED and columns["theta"].shape[2] == 3:  # a spline is undone numerically
            invert(columns["theta"])  # refuses here what would fail its neighbours later
        for name in ("rectified_size", "source_size"):
            columns[name] = read_sizes(name, request.inputs[name], images, self._limits)
        return Work(Operation(direction), columns)


def read_recipe(request: InferRequest) -> tuple[Recipe, int]:
    """The recipe and the seed of a request to ``augment``, whose outputs the recipe can give."""
    recipe, seed = request.parameters.get("recipe"), request.parameters.get("seed")
    if not isinstance(recipe, str | dict):
        raise BadRecipe(
            f"parameters.recipe: expected the name of a recipe or a recipe as JSON, got {type(recipe).__name__}"
        )
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise BadTensor(f"parameters.seed: expected a whole number from 0 to {MAX_SEED}, got {brief(seed)}")
    parsed = parse_recipe(recipe)
    if theta_shape_of(parsed) == THETA_SHAPES["tps"] and "theta_rectifying" in _asked(request):
        raise Unsupported(
            f"outputs: theta_rectifying is not there for the recipe {parsed.name}: it has a thin_plate step, and a "
            "thin-plate spline has no inverse; ask for the other outputs"
        )
    return parsed, seed


def _images_in(request: InferRequest) -> int:
    """The images that ``request`` is about, before anything of it is checked."""
    about = request.inputs.get("images", request.inputs.get("points"))
    return len(about) if about is not None and about.ndim else 1


def _asked(request: InferRequest) -> set[str]:
    """The outputs that a request asks for by name; empty if it leaves the choice to the model."""
    return {output.name for output in request.outputs or ()}


def _is_quick(request: InferRequest) -> bool:
    """Whether checking ``request`` takes well under a millisecond, so that a thread would cost more than it saves."""
    recipe = request.parameters.get("recipe", "")  # the one parameter whose check takes long
    if not isinstance(recipe, str) or len(recipe) > _INLINE_RECIPE_CHARACTERS:
        return False
    tensors = request.inputs.values()
    return all(array.dtype != np.dtype("O") for array in tensors) and sum(a.nbytes for a in tensors) <= _INLINE_BYTES
