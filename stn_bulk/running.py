"""Runs a job: its shards as a Ray Data set, through a pool of workers that each load the engine once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from stn_bulk import job
from stn_bulk.parts import Format, new_part
from stn_bulk.pictures import Failure, Picture, pictures_of
from stn_bulk.places import Place
from stn_bulk.ray_session import ray_session
from stn_bulk.results import ANNOTATIONS, Augmenting, Straightening, Task
from stn_bulk.shards import Cut, Sources, shards_of
from stn_core import __version__
from stn_core.bundle import MANIFEST, find_bundle, read_manifest, sha256_of
from stn_core.canvas import Wanted
from stn_core.confidence import DECISION_FILE
from stn_core.decision import Limits
from stn_core.errors import BadBundle, InvalidInput, StnError, Unsupported
from stn_core.recipes import Recipe

Command = Literal["predict", "rectify", "augment"]
SHARD_IMAGES = 1000
_BATCH_IMAGES, _BATCH_PIXELS = 64, 2**24
_MAX_BLOCKS = 10_000
_TRIES = 3
"""Of a shard, whose worker Ray starts anew whenever it ends."""


@dataclass(frozen=True)
class Options:
    """What the results of a job follow from, beside its sources: all of it is what a resume must have again."""

    command: Command
    format: Format = "files"
    bundle: str = "digits"
    engine: str = "auto"
    limits: dict[str, Any] | None = None
    wanted: dict[str, Any] = field(default_factory=dict)
    mask: bool = False
    recipe: dict[str, Any] | None = None
    seed: int = 0
    copies: int = 1
    column: str = "image"
    annotations: bool = False
    shard_images: int = SHARD_IMAGES

    def endings(self) -> tuple[str, ...]:
        """What is made of each stem."""
        if self.command == "augment":
            return (".png",) if self.copies == 1 else tuple(f"-{number}.png" for number in range(self.copies))
        return (".png", ".mask.png") if self.mask else (".png",)

    def columns(self) -> list[str]:
        """Those that the rows have, in no order."""
        found = ["file", "theta", "source_size"]
        if self.command == "augment":
            found += ["copy", "theta_rectifying", "exact", "size"]
        else:
            found += ["label", "class", "probability", "probabilities", "turn_deg", "scale", "rectified_size"]
        if self.limits is not None:
            found += ["decision", "reason", "confidence"]
        if self.command != "predict":
            found += ["name", "image"]
        return found + ["mask"] * self.mask + [ANNOTATIONS] * self.annotations


@dataclass(frozen=True)
class Outcome:
    """What came of a job: ``images`` in all, of which ``failed``; and how many of them had been done before."""

    images: int
    failed: int
    done_before: int
    shards: int


Progress = Callable[[int, int], None]
"""Is told how many images are done, and how many there are."""


def run_job(
    sources: Sources,
    out: str,
    options: Options,
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Does what of the job at ``out`` is not done yet.

    InvalidInput if the sources name nothing, or ``out`` is not this job's; Unavailable without Ray at ``address``.
    """
    _check(options)
    place, digest = Place(out), _bundle_sha256(options)
    cut = Cut(options.endings(), options.shard_images, dots=options.format != "webdataset")
    with job.Plan(shards_of(sources, place, cut)) as plan:
        if not plan.images:
            raise InvalidInput(f"images: expected pictures in {', '.join(map(repr, sources.given))}, found none")
        job.begin(place, plan, {"version": __version__, **asdict(options), "bundle_sha256": digest})
        done = job.done_numbers(place)
        left = [line for line in plan.lines if line.number not in done]
        before = plan.images - sum(line.images for line in left)
        if progress is not None:
            progress(before, plan.images)
        if left:
            with ray_session(address, workers) as count:
                settings = {"out": place.address, "options": options, "bundle_sha256": digest}
                so_far = before
                for images in _run(left, settings, min(count, len(left))):
                    so_far += images
                    if progress is not None:
                        progress(so_far, plan.images)
        found = job.finish(place, plan)
    return Outcome(found.images, found.failed, before, len(plan.lines))


def _run(left: list[job.Line], settings: dict[str, Any], workers: int) -> Iterator[int]:
    """The images of shards, as they are done."""
    import ray

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # what it would say is raised, too
    shards = ray.data.from_items([line._asdict() for line in left], override_num_blocks=min(len(left), _MAX_BLOCKS))
    pool = ray.data.ActorPoolStrategy(size=workers)
    done = shards.map_batches(Worker, fn_constructor_kwargs=settings, batch_size=1, compute=pool, num_cpus=1)
    try:
        for row in done.iter_rows():
            if row["code"]:
                raise StnError.by_code.get(row["code"], StnError)(row["detail"])
            yield int(row["images"])
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if "Error" in line]
        raise StnError(f"a worker failed: {lines[-1] if lines else type(error).__name__}") from error


class Worker:
    """Does shards, one after another; what it writes is a function of the shard and the job alone."""

    def __init__(self, out: str, options: Options, bundle_sha256: str | None) -> None:
        self._out, self._options = Place(out), options
        self._with_opacity = False
        self._task: Task | None = None
        self._bundle_sha256 = bundle_sha256

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """How many images a shard has; or the error that ends the job, which Ray would make another of."""
        (number,), (offset,), (count,) = (batch[name].tolist() for name in ("number", "offset", "bytes"))
        images, code, detail = 0, "", ""
        try:
            images = self._do(number, offset, count)
        except StnError as error:
            code, detail = error.code, error.detail
        return {"images": np.array([images]), "code": np.array([code]), "detail": np.array([detail])}

    def _do(self, number: int, offset: int, count: int) -> int:
        shard, options = job.read_shard(self._out, offset, count), self._options
        failures: list[Failure] = []
        if job.count_try(self._out, number) > _TRIES:
            raise StnError(
                f"shard {number} ended its worker {_TRIES} times: one of its pictures crashes what reads it, or takes "
                f"more memory than there is; they are in line {number + 1} of _stn/shards.jsonl"
            )
        self._task = self._task or self._new_task()
        with new_part(self._out, options.format, number, options.columns()) as part:
            pictures = pictures_of(shard, options.column, self._with_opacity)
            for batch in _batches(pictures, failures):
                for result in self._task.run(batch):
                    if isinstance(result, Failure):
                        failures.append(result)
                    else:
                        part.add(result)
        images = len(shard["items"])
        job.mark_done(self._out, number, images, [{"file": f.file, "error": f.error.problem()} for f in failures])
        return images

    def _new_task(self) -> Task:
        options = self._options
        if _bundle_sha256(options) != self._bundle_sha256:
            raise BadBundle(f"bundle {options.bundle}: on this machine it is another one than where the job was begun")
        if options.command == "augment":
            return Augmenting(Recipe.model_validate(options.recipe), options.seed, options.copies)
        from stn_core.engine import Engine

        engine = Engine.load(options.bundle, threads=1, backend=options.engine)  # type: ignore[arg-type]
        self._with_opacity = engine.manifest.input_shape[2] == 4
        wanted = Wanted(**options.wanted) if options.command == "rectify" else None
        return Straightening(engine, options.limits, wanted, options.mask)


def _batches(pictures: Iterator[Picture | Failure], failures: list[Failure]) -> Iterator[list[Picture]]:
    """Pictures that are small enough together; what could not be read is added to ``failures``."""
    batch: list[Picture] = []
    pixels = 0
    for picture in pictures:
        if isinstance(picture, Failure):
            failures.append(picture)
            continue
        batch.append(picture)
        pixels += picture.pixels.size
        if len(batch) == _BATCH_IMAGES or pixels >= _BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _check(options: Options) -> None:
    """What else a worker would find, when the job is begun; errors are those of the engine."""
    if options.command == "predict" and options.format == "webdataset":
        raise InvalidInput("--format: expected files or parquet: webdataset is one of images, and predict makes none")
    Wanted(**options.wanted)
    limits = Limits().changed(options.limits or {})
    if limits.min_confidence > 0 and DECISION_FILE not in read_manifest(options.bundle).files:
        raise Unsupported(f"bundle {options.bundle} has no confidence: stn calibrate --bundle FOLDER adds it")


def _bundle_sha256(options: Options) -> str | None:
    """Of the bundle's manifest, which has those of all its files; None where no bundle is asked."""
    if options.command == "augment":
        return None
    read_manifest(options.bundle)  # checks the files
    return sha256_of(find_bundle(options.bundle) / MANIFEST)
