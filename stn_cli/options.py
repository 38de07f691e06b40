"""Options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    str,
    typer.Option(
        help="mnist, sample (5,000 real digits that come with a dependency), cluttered-mnist, a folder of class "
        "folders, or an .npz file."
    ),
]
DataPath = Annotated[
    Path | None, typer.Option(help="Where mnist or cluttered-mnist lies, if not in one of the usual places.")
]
RecipeOption = Annotated[str, typer.Option(help="The distortions: a shipped recipe's name, or a YAML or JSON file.")]
Bundle = Annotated[str, typer.Option(help="A bundle: a folder, or a shipped bundle's name.")]
Seed = Annotated[int, typer.Option(help="Everything random follows from it.")]
