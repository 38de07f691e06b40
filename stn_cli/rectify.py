"""``stn rectify``: straight images at their own resolution, or the thetas alone."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

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
    Decide,
    MaxContentLost,
    MaxScale,
    MaxShear,
    MaxTurn,
    MayMirror,
    MinConfidence,
    MinMotion,
    MinScale,
    Out,
    Overwrite,
    OwnBundle,
    OwnEngine,
    Paths,
    Recursive,
    ShowProgress,
    Url,
    parse_size,
)
from stn_cli.report import Column, Entry, Report
from stn_cli.sources import Source, count_sources, find_sources
from stn_cli.straightening import Straight, columns, given_limits, straight_rows, straightening_job
from stn_cli.targets import shown, write_whole
from stn_cli.writing import Writing
from stn_core.canvas import MAX_SIDE_PX
from stn_core.errors import InvalidInput
from stn_core.moving import move

IMAGE, MASK, MOVED = ".png", ".mask.png", "annotations.jsonl"


@app.command(epilog=EXIT_STATUSES)
def rectify(
    paths: Paths,
    out: Out | None = None,
    canvas: Annotated[
        str, typer.Option(help="crop shows what the network's window shows, fit the whole picture.")
    ] = "crop",
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH of the images; default: as the sources.")] = None,
    max_side: Annotated[int | None, typer.Option(min=1, help="The longer side of an image at most, px.")] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Write NAME.mask.png too: where the source was read.")] = False,
    annotations: AnnotationFile = None,
    overwrite: Overwrite = False,
    recursive: Recursive = False,
    url: Url = None,
    bundle: OwnBundle = None,
    engine: OwnEngine = None,
    decide: Decide = None,
    min_confidence: MinConfidence = None,
    min_scale: MinScale = None,
    max_scale: MaxScale = None,
    max_turn: MaxTurn = None,
    max_shear: MaxShear = None,
    max_content_lost: MaxContentLost = None,
    min_motion: MinMotion = None,
    may_mirror: MayMirror = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
    bulk: Bulk = False,
    format_: Format = None,
    column: ParquetColumn = None,
    workers: Workers = None,
    shard_images: ShardImages = None,
    address: Address = None,
) -> None:
    """Straighten pictures at their own resolution and in their own colours, and move what is annotated on them.

    Without --out it prints the thetas alone. With --decide, or any of the limits, images that go beyond one are kept
    as they came.
    """
    limits = given_limits(
        decide, min_confidence, min_scale, max_scale, max_turn, max_shear, max_content_lost, min_motion, may_mirror
    )
    for option, given in (("--mask", mask), ("--annotations", annotations)):
        if given and out is None:
            raise InvalidInput(f"{option}: expected a folder to write to, give --out too")
    wanted: Any = {"canvas": canvas, "size": parse_size(size, MAX_SIDE_PX), "max_side_px": max_side}
    only_bulk = BulkOptions(format_, column, workers, shard_images, address)
    if bulk:
        job = {**straightening_job("rectify", bundle, engine, limits), "wanted": wanted, "mask": mask}
        run_bulk(paths, out, recursive, url, only_bulk, job, annotations, overwrite, as_json, progress)
        return
    only_bulk.refuse()
    skipped = None if out is None else os.path.realpath(out)
    with (
        _Rectifying(None if out is None else Path(out), overwrite, mask, annotations) as task,
        connected(url, bundle, engine) as client,
    ):
        files = Files(find_sources(paths, recursive, skipped), task.prepare, task.finish)
        report = Report(_columns(bool(limits)), as_json, progress, partial(count_sources, paths, recursive, skipped))
        made: Any = {"pictures": out is not None, "mask": mask}
        files.run(
            report, client.stream.straighten(files.images(), errors="keep", **made, **wanted, **limits), straight_rows
        )


class _Rectifying(Writing):
    """Writes what comes back of each file as it comes: the service makes PNG files."""

    def __init__(self, out: Path | None, overwrite: bool, mask: bool, annotations: Path | None) -> None:
        super().__init__(out, overwrite, annotations, None if annotations is None else MOVED)
        self._endings = [IMAGE, MASK] if mask else [IMAGE]

    def prepare(self, source: Source) -> Job:
        return Job(source, source.path, self.targets_of(source, self._endings), self.annotations_of(source))

    def finish(self, job: Job, straight: Straight, number: int) -> Entry:
        entry: dict[str, Any] = {"file": job.source.name, **straight.said}
        if job.annotations is not None:
            source_size, rectified_size = tuple(entry["source_size"]), tuple(entry["rectified_size"])
            entry[ANNOTATIONS] = move(job.annotations, entry["theta"], source_size, rectified_size).to_json()
        made = (straight.part.encoded, straight.part.encoded_mask)
        for name, target, files in zip(("image", "mask"), job.targets, made, strict=False):
            assert files is not None
            write_whole(target, files[straight.place])
            entry[name] = shown(target)
        if job.annotations is not None:
            self.note(entry)
        return entry


def _columns(decided: bool) -> list[Column]:
    return [*columns(decided), Column("px", 11, lambda entry: "{} x {}".format(*entry["rectified_size"]))]
