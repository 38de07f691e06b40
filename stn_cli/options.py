"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stn_core.errors import InvalidInput

Data = Annotated[
    str,
    typer.Option(
        help="mnist, sample (5,000 real digits that come with a dependency), cluttered-mnist, a folder of class "
        "folders, a folder of IDX files, or an .npz file."
    ),
]
DataPath = Annotated[
    Path | None, typer.Option(help="Where mnist or cluttered-mnist lies, if not in one of the usual places.")
]
ImageSize = Annotated[
    str | None,
    typer.Option(
        "--size",
        help="HEIGHTxWIDTH: resize images of your own to it; default: as your own classifier takes them, else as they "
        "are, or of a folder where they differ, the median.",
    ),
]
Channels = Annotated[int | None, typer.Option(help="1 gray or 3 colour, for images of your own; default: as they are.")]
RecipeOption = Annotated[str, typer.Option(help="The distortions: a shipped recipe's name, or a YAML or JSON file.")]
Bundle = Annotated[str, typer.Option(help="A bundle: a folder, or a shipped bundle's name.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Everything random follows from it.")]

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="PATH...", help="Pictures: files, folders, patterns in quotes; - reads paths from the standard input."
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Take the folders below a folder too.")]
Url = Annotated[
    str | None,
    typer.Option(envvar="STN_URL", help="A running service; without one the work is done in this process."),
]
OwnBundle = Annotated[
    str | None,
    typer.Option("--bundle", help="Without a service: a folder, or a shipped bundle's name.", show_default="digits"),
]
OwnEngine = Annotated[
    str | None, typer.Option("--engine", help="Without a service: auto, onnx or tensorflow.", show_default="auto")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines, one object a file, with all numbers.")]
ShowProgress = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="A bar on the error output; default: if that is a terminal."),
]
Out = Annotated[
    str, typer.Option(help="The folder for the images, PNG, named after their sources; with --bulk also a URI.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")]
AnnotationFile = Annotated[
    Path | None,
    typer.Option(
        "--annotations", help="Keypoints, boxes, polygons and masks by file, JSON; moved into --out with the images."
    ),
]
Decide = Annotated[
    bool | None, typer.Option("--decide", help="Keep images as they came that go beyond the bundle's own limits.")
]
MinConfidence = Annotated[
    float | None, typer.Option(min=0, max=1, help="Keep images as they came that would be rectified less surely.")
]
MinScale = Annotated[float | None, typer.Option(min=0, help="Keep images that would be shown smaller.")]
MaxScale = Annotated[float | None, typer.Option(min=0, help="Keep images that would be shown larger.")]
MaxTurn = Annotated[float | None, typer.Option("--max-turn-deg", min=0, help="Keep images that would turn further.")]
MaxShear = Annotated[
    float | None, typer.Option("--max-shear-deg", min=0, help="Keep images that would be sheared by more.")
]
MaxContentLost = Annotated[
    float | None, typer.Option(min=0, max=1, help="Keep images of which a larger share would be cut off.")
]
MinMotion = Annotated[float | None, typer.Option("--min-motion-px", min=0, help="Keep images that would hardly move.")]
MayMirror = Annotated[bool | None, typer.Option("--may-mirror/--no-mirror", help="Whether an image may be mirrored.")]


def parse_size(text: str | None, most_px: int = 4096) -> tuple[int, int] | None:
    """``"28x32"`` as (height, width)."""
    if text is None:
        return None
    height, times, width = text.partition("x")
    if not (
        times and height.isdigit() and width.isdigit() and 0 < int(height) <= most_px and 0 < int(width) <= most_px
    ):
        raise InvalidInput(f"--size: expected HEIGHTxWIDTH of 1 to {most_px} px, such as 28x28, got {text!r}")
    return int(height), int(width)
