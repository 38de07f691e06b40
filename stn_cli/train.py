"""``stn train``: from data and a recipe to a bundle that serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Channels, Data, DataPath, ImageSize, RecipeOption, Seed, parse_size
from stn_core.errors import InvalidInput


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="The folder of the bundle to write.")],
    data: Data = "mnist",
    data_path: DataPath = None,
    size: ImageSize = None,
    channels: Channels = None,
    recipe: RecipeOption = "tutorial-mix",
    jitter: Annotated[
        str, typer.Option(help="A recipe that moves rectified images about while the classifier learns, or none.")
    ] = "jitter",
    name: Annotated[str, typer.Option(help="The bundle's name.")] = "digits",
    localization: Annotated[str, typer.Option(help="tutorial, dense or deep.")] = "deep",
    classifier: Annotated[str, typer.Option(help="fc or cnn.")] = "cnn",
    localization_steps: Annotated[int, typer.Option(help="Batches to teach the localization network with.")] = 10_000,
    classifier_steps: Annotated[int, typer.Option(help="Batches to train the classifier with.")] = 12_000,
    batch_size: Annotated[int, typer.Option(help="Images a batch.")] = 256,
    localization_rate: Annotated[float, typer.Option(help="Adam's first rate; decays to 0.")] = 2e-3,
    classifier_rate: Annotated[float, typer.Option(help="Adam's first rate; decays to 0.")] = 2e-3,
    log_dir: Annotated[Path | None, typer.Option(help="Write TensorBoard logs into this folder.")] = None,
    seed: Seed = 1,
) -> None:
    """Teach a localization network with known theta, train a classifier behind it, and write the bundle."""
    import_tensorflow_quietly()
    from stn_core import datasets
    from stn_core.recipes import load_recipe
    from stn_core.training import TrainingPlan
    from stn_core.training import train as train_bundle

    try:
        plan = TrainingPlan(
            recipe=load_recipe(recipe),
            jitter=None if jitter == "none" else load_recipe(jitter),
            localization=localization,
            classifier=classifier,
            seed=seed,
            batch_size=batch_size,
            localization_steps=localization_steps,
            classifier_steps=classifier_steps,
            localization_rate=localization_rate,
            classifier_rate=classifier_rate,
        )
    except ValidationError as error:
        raise InvalidInput("; ".join(f"--{_option(p['loc'])}: {p['msg']}" for p in error.errors())) from None
    splits = datasets.load(data, path=data_path, size=parse_size(size), channels=channels)
    console = Console()
    console.print(f"{splits.summary()}; recipe {plan.recipe.name}; bundle {out}", highlight=False)
    with Progress(
        TextColumn("{task.description:13}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    ) as bars:
        tasks = {
            phase: bars.add_task(phase, total=total, loss=float("nan"), start=False)
            for phase, total in (("localization", localization_steps), ("classifier", classifier_steps))
        }

        def progress(phase: str, done: int, total: int, loss: float) -> None:
            bars.start_task(tasks[phase])
            bars.update(tasks[phase], completed=done, loss=loss)

        manifest = train_bundle(splits, plan, out, name, progress, log_dir)
    for measure, value in manifest.metrics.items():
        console.print(f"  test {measure:24} {value:.4f}", highlight=False)
    console.print(f"wrote {out} in {manifest.training['seconds']:.0f} s; serve it with: stn serve --bundle {out}")


def _option(location: tuple[int | str, ...]) -> str:
    return ".".join(map(str, location)).replace("_", "-") or "plan"
