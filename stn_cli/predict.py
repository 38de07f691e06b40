"""``stn predict``: straightens pictures of any size, and reads them."""

from __future__ import annotations

from functools import partial

from stn_cli.app import app
from stn_cli.bulk import (
    Address,
    Bulk,
    BulkOptions,
    BulkOut,
    Format,
    ShardImages,
    Workers,
    run_bulk,
)
from stn_cli.bulk import (
    Column as ParquetColumn,
)
from stn_cli.connection import connected
from stn_cli.endings import EXIT_STATUSES
from stn_cli.files import Files, Job
from stn_cli.options import (
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
    OwnBundle,
    OwnEngine,
    Paths,
    Recursive,
    ShowProgress,
    Url,
)
from stn_cli.report import Column, Entry, Report
from stn_cli.sources import count_sources, find_sources
from stn_cli.straightening import MODEL, Straight, columns, given_limits, straight_rows, straightening_job
from stn_core.errors import InvalidInput


@app.command(epilog=EXIT_STATUSES)
def predict(
    paths: Paths,
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
    out: BulkOut = None,
    format_: Format = None,
    column: ParquetColumn = None,
    workers: Workers = None,
    shard_images: ShardImages = None,
    address: Address = None,
) -> None:
    """Straighten and classify pictures of any size: label, probability, and by how much each was turned and scaled.

    With --decide, or any of the limits, images that go beyond one are read as they came; those not given are the
    bundle's.
    """
    limits = given_limits(
        decide, min_confidence, min_scale, max_scale, max_turn, max_shear, max_content_lost, min_motion, may_mirror
    )
    only_bulk = BulkOptions(format_, column, workers, shard_images, address)
    if bulk:
        job = straightening_job("predict", bundle, engine, limits)
        run_bulk(paths, out, recursive, url, only_bulk, job, as_json=as_json, progress=progress)
        return
    only_bulk.refuse()
    if out is not None:
        raise InvalidInput("--out: expected --bulk with it; without it, the results go to the standard output")
    with connected(url, bundle, engine) as client:
        classes = client.model(MODEL)["parameters"]["classes"]
        files = Files(find_sources(paths, recursive), lambda source: Job(source, source.path), partial(_said, classes))
        report = Report(_columns(bool(limits)), as_json, progress, partial(count_sources, paths, recursive))
        parts = client.stream.straighten(files.images(), errors="keep", pictures=False, **limits)
        files.run(report, parts, straight_rows)


def _said(classes: list[str], job: Job, straight: Straight, number: int) -> Entry:
    label, probabilities = int(straight.part.label[straight.place]), straight.part.probabilities[straight.place]
    read = {"file": job.source.name, "label": label, "class": classes[label], "probability": probabilities.max()}
    return {**read, "probabilities": probabilities, **straight.said}


def _columns(decided: bool) -> list[Column]:
    return [
        Column("class", 12, lambda entry: str(entry["class"])),
        Column("probability", 11, lambda entry: f"{entry['probability']:.4f}"),
        *columns(decided),
    ]
