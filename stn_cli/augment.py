"""``stn augment``: distorted pictures, with the exact theta of each, and what is annotated on them."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from itertools import chain, tee
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from stn_client.files import read_file
from stn_client.results import Row

from stn_cli.annotated import ANNOTATIONS
from stn_cli.app import app
from stn_cli.bulk import Address, Bulk, BulkOptions, Format, ShardImages, Workers, run_bulk
from stn_cli.bulk import Column as ParquetColumn
from stn_cli.connection import connected
from stn_cli.endings import EXIT_STATUSES
from stn_cli.files import Files, Job
from stn_cli.options import (
    AnnotationFile,
    AsJson,
    Out,
    Overwrite,
    OwnBundle,
    OwnEngine,
    Paths,
    Recursive,
    Seed,
    ShowProgress,
    Url,
)
from stn_cli.report import Column, Entry, Report
from stn_cli.sources import Source, count_sources, find_sources
from stn_cli.targets import shown, write_whole
from stn_cli.writing import Writing
from stn_core.canvas import MAX_PIXELS
from stn_core.draws import Numbering
from stn_core.moving import move

LINES = "augmented.jsonl"
MOST_COPIES = 10_000


@app.command(epilog=EXIT_STATUSES)
def augment(
    paths: Paths,
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a YAML or JSON file.")],
    out: Out,
    seed: Seed = 0,
    copies: Annotated[int, typer.Option(min=1, max=MOST_COPIES, help="Distorted images of each file.")] = 1,
    annotations: AnnotationFile = None,
    overwrite: Overwrite = False,
    recursive: Recursive = False,
    url: Url = None,
    bundle: OwnBundle = None,
    engine: OwnEngine = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    bulk: Bulk = False,
    format_: Format = None,
    column: ParquetColumn = None,
    workers: Workers = None,
    shard_images: ShardImages = None,
    address: Address = None,
) -> None:
    """Distort pictures by a recipe, at their own size and in their own colours, and tell exactly how.

    A copy is a function of picture, recipe, seed and the copy's number alone. augmented.jsonl in --out has a
    line for each: source, theta, theta_rectifying, exact, and the annotations, moved.
    """
    only_bulk = BulkOptions(format_, column, workers, shard_images, address)
    if bulk:
        job = {"command": "augment", "recipe": _whole_recipe(recipe), "seed": seed, "copies": copies}
        run_bulk(paths, out, recursive, url, only_bulk, job, annotations, overwrite, as_json, progress)
        return
    only_bulk.refuse()
    skipped = os.path.realpath(out)
    with _Augmenting(Path(out), overwrite, copies, annotations) as task, connected(url, bundle, engine) as client:
        files = Files(find_sources(paths, recursive, skipped), task.prepare, task.finish, copies)
        images, same = tee(files.images())
        report = Report(_columns(), as_json, progress, partial(count_sources, paths, recursive, skipped))
        # Of each file alone: equal files get equal copies, as POST /v1/augment gives them.
        ids = chain.from_iterable(Numbering().ids([image] * copies) for image in same)
        parts = client.stream.augment(images, _recipe(recipe), seed, ids, copies=copies, errors="keep")
        files.run(report, parts, lambda part: part)


class _Augmenting(Writing):
    def __init__(self, out: Path, overwrite: bool, copies: int, annotations: Path | None) -> None:
        super().__init__(out, overwrite, annotations, LINES)
        self._endings = [".png"] if copies == 1 else [f"-{number}.png" for number in range(copies)]

    def prepare(self, source: Source) -> Job:
        """The file's pixels, in its own colours, as ``POST /v1/augment`` reads them."""
        from stn_core.pictures import decode_picture

        targets, annotations = self.targets_of(source, self._endings), self.annotations_of(source)
        pixels = np.ascontiguousarray(decode_picture(read_file(source.path), max_pixels=MAX_PIXELS))
        return Job(source, pixels, targets, annotations)

    def finish(self, job: Job, row: Row, number: int) -> Entry:
        from stn_core.png import encode_png

        pixels, source_size = row.images, job.image.shape[:2]
        entry: dict[str, Any] = {"file": job.source.name, "copy": number, "image": shown(job.targets[number])}
        entry |= {"theta": row.theta, "theta_rectifying": row.theta_rectifying, "exact": bool(row.exact)}
        entry |= {"source_size": source_size, "size": pixels.shape[:2]}
        if job.annotations is not None:
            moved = move(job.annotations, row.theta, source_size, pixels.shape[:2])
            entry[ANNOTATIONS] = replace(moved, exact=bool(row.exact)).to_json()
        write_whole(job.targets[number], encode_png(pixels))
        self.note(entry)
        return entry


def _recipe(given: str) -> str | dict[str, Any]:
    """A file's recipe, or the name that the service knows one by; BadRecipe if the file has none."""
    return _whole_recipe(given) if Path(given).is_file() else given


def _whole_recipe(given: str) -> dict[str, Any]:
    from stn_core.recipes import load_recipe

    return load_recipe(given).model_dump(mode="json", exclude_unset=True)


def _columns() -> list[Column]:
    return [
        Column("copy", 5, lambda entry: str(entry["copy"])),
        Column("px", 11, lambda entry: "{} x {}".format(*entry["size"])),
        Column("exact", 5, lambda entry: "yes" if entry["exact"] else "no"),
    ]
