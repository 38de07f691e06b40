"""``stn map``: points and boxes of rectified pictures on their sources, and the other way round."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from stn_cli.annotated import AnnotationsByFile, read_lines
from stn_cli.app import app
from stn_cli.endings import EXIT_STATUSES, FAILED
from stn_cli.report import Entry, failure, print_json
from stn_core.annotations import Annotations, rows_to_json
from stn_core.errors import BadTensor, InvalidInput, StnError, brief
from stn_core.points import to_rectified, to_source
from stn_core.polygons import bounding_boxes, box_polygons

WAYS = {"to_source": to_source, "to_rectified": to_rectified}
NEEDED = ("theta", "rectified_size", "source_size")


@app.command("map", epilog=EXIT_STATUSES)
def map_points(
    results: Annotated[Path, typer.Argument(help="What stn rectify --json printed, or its annotations.jsonl.")],
    points: Annotated[
        Path,
        typer.Option(help='JSON by file: {"a.jpg": {"keypoints_px": [[x, y], ...], "boxes_px": [[x1, y1, x2, y2]]}}.'),
    ],
    direction: Annotated[
        str, typer.Option(help="to_source: from rectified pictures to their sources; to_rectified: back.")
    ] = "to_source",
) -> None:
    """Map points, boxes and polygons through the thetas of results; prints a JSON line for each file that has some.

    Points are (x, y) in px from the upper left corner. A box becomes the polygon of its corners, and the box around it.
    """
    if direction not in WAYS:
        raise InvalidInput(f"--direction: expected {' or '.join(WAYS)}, got {direction!r}")
    given, failed = AnnotationsByFile(points), False
    for number, result in read_lines(results):
        entry = _entry(result, given, direction, f"{results}, line {number}")
        if entry is not None:
            print_json(entry)
            failed |= "error" in entry
    if given.left:
        raise InvalidInput(f"{points}: no result in {results} is of the file {brief(given.left[0])}")
    if failed:
        raise typer.Exit(FAILED)


def _entry(result: Any, given: AnnotationsByFile, direction: str, where: str) -> Entry | None:
    """What becomes of the points of the file that ``result`` is of; None if it has none."""
    if not isinstance(result, dict) or not isinstance(result.get("file"), str):
        raise InvalidInput(f"{where}: expected a result of stn rectify --json, got {brief(result)}")
    name: str = result["file"]
    try:
        annotations = given.at(name)
        if annotations is None:
            return None
        missing = next((key for key in NEEDED if key not in result), None)
        if missing is not None:
            raise BadTensor(f"{where}: expected {', '.join(NEEDED)}, but {missing} is not there")
        return {"file": name, **_mapped(annotations, direction, *(result[key] for key in NEEDED))}
    except StnError as error:
        return failure(name, error)


def _mapped(annotations: Annotations, direction: str, *geometry: Any) -> dict[str, Any]:
    if annotations.mask is not None:
        raise BadTensor("mask: expected points, boxes and polygons; masks move with their images, in stn rectify")
    boxes = list(box_polygons(annotations.boxes_px))
    parts = [annotations.keypoints_px, *boxes, *annotations.polygons_px]
    found = WAYS[direction](np.concatenate(parts), *geometry)
    keypoints, *polygons = np.split(found.points_px, np.cumsum([len(part) for part in parts])[:-1])
    corners, others = polygons[: len(boxes)], polygons[len(boxes) :]
    return {
        "keypoints_px": rows_to_json(keypoints),
        "keypoints_inside": found.inside[: len(keypoints)],
        "boxes_px": rows_to_json(np.array([bounding_boxes(box) for box in corners]).reshape(-1, 4)),
        "box_polygons_px": [rows_to_json(box) for box in corners],
        "polygons_px": [rows_to_json(polygon) for polygon in others],
    }
