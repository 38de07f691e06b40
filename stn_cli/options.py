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


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``"28x32"`` as (height, width)."""
    if text is None:
        return None
    height, times, width = text.partition("x")
    if not (times and height.isdigit() and width.isdigit() and 0 < int(height) <= 4096 and 0 < int(width) <= 4096):
        raise InvalidInput(f"--size: expected HEIGHTxWIDTH of 1 to 4096 px, such as 28x28, got {text!r}")
    return int(height), int(width)
