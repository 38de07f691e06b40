"""``stn evaluate``: measures a bundle on data whose distortion is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Bundle, Data, DataPath, Seed
from stn_core.errors import InvalidInput


@app.command()
def evaluate(
    bundle: Bundle = "digits",
    data: Data = "mnist",
    data_path: DataPath = None,
    recipe: Annotated[str | None, typer.Option(help="Another recipe than the bundle was trained with.")] = None,
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    seed: Seed = 1_000_003,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the measures to this file too.")] = None,
) -> None:
    """Measure accuracy and straightness of a bundle, with and without rectification."""
    import_tensorflow_quietly()
    from stn_core import datasets
    from stn_core.engine import Engine
    from stn_core.evaluation import evaluate as measure
    from stn_core.recipes import load_recipe

    if part not in ("train", "validation", "test"):
        raise InvalidInput(f"--part: expected train, validation or test, got {part!r}")
    chosen = load_recipe(recipe) if recipe else None
    engine = Engine.load(bundle)
    height, width, channels = engine.manifest.input_shape
    held_out = getattr(datasets.load(data, path=data_path, size=(height, width), channels=channels), part)
    console = Console()
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("images")
        result = measure(
            engine,
            held_out,
            chosen or engine.manifest.recipe,
            seed,
            lambda done, total: bar.update(task, completed=done, total=total),
        )

    table = Table(title=f"{bundle} on {result.images} images ({data}, {part}), distorted by {result.recipe}")
    for heading in ("", "as it comes", "rectified"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(
        "accuracy, original", f"{result.accuracy_original_unrectified:.4f}", f"{result.accuracy_original:.4f}"
    )
    table.add_row(
        "accuracy, distorted", f"{result.accuracy_distorted_unrectified:.4f}", f"{result.accuracy_distorted:.4f}"
    )
    for name in ("median", "mean", "p90"):
        before, after = getattr(result.corner_error_unrectified_px, name), getattr(result.corner_error_px, name)
        table.add_row(f"corner error, {name}, px", f"{before:.2f}", f"{after:.2f}")
    table.add_row("right before, wrong after", "", f"{result.hurt_rate:.4f}")
    table.add_row("wrong before, right after", "", f"{result.helped_rate:.4f}")
    console.print(table)
    if json_file is not None:
        json_file.write_text(result.model_dump_json(indent=2) + "\n")
