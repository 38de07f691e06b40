"""``stn evaluate``: measures a bundle on data whose distortion is known."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Bundle, Data, DataPath, Seed
from stn_core.errors import InvalidInput

if TYPE_CHECKING:
    from stn_core.datasets import Dataset
    from stn_core.engine import Engine
    from stn_core.evaluation import Evaluation, Measures, Trial
    from stn_core.recipes import Recipe

PARTS = ("train", "validation", "test")
NAME_WIDTH, GROUP_WIDTH = 33, 20


@app.command()
def evaluate(
    bundle: Bundle = "digits",
    data: Data = "mnist",
    data_path: DataPath = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="Another recipe than the bundle was trained with; several are shown side by side."),
    ] = None,
    part: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(min=1, help="At most about so many images of the part.")] = None,
    seed: Seed = 1_000_003,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the measures to this file too.")] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write a page with the measures and the worst images to this .html file.")
    ] = None,
) -> None:
    """Measure how straight a bundle leaves distorted images, and how well it reads them, before and after.

    The exit status is 1 if the bundle collapsed: if it zooms images away instead of straightening them.
    """
    _check_options(part, json_file, report)
    import_tensorflow_quietly()
    from stn_core import datasets
    from stn_core.engine import Engine
    from stn_core.evaluation import summarize
    from stn_core.recipes import load_recipe

    chosen = [load_recipe(name) for name in recipe or ()]
    engine = Engine.load(bundle)
    recipes = chosen or [engine.manifest.recipe]
    size, channels = original_size(engine, recipes), engine.manifest.input_shape[2]
    splits = datasets.load(data, path=data_path, size=size, channels=channels)
    measured = getattr(splits, part).limit(limit)
    pose_data = None if part == "validation" else splits.validation.limit(limit)
    trials = _trials(engine, recipes, measured, pose_data, seed)
    evaluations = [summarize(trial) for trial in trials]
    console = Console()
    _print_tables(console, evaluations, part)
    if json_file is not None:
        _write_json(json_file, evaluations)
    if report is not None:
        from stn_core.evaluation.report import write_report

        console.print(f"wrote {write_report(report, trials)}", highlight=False)
    _fail_if_collapsed(evaluations)


def _check_options(part: str, json_file: Path | None, report: Path | None) -> None:
    """InvalidInput for what could not end well, before any work is done."""
    if part not in PARTS:
        raise InvalidInput(f"--part: expected {', '.join(PARTS[:-1])} or {PARTS[-1]}, got {part!r}")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise InvalidInput(f"--report: expected the name of an .html file, got {str(report)!r}")
    for option, file in (("--json", json_file), ("--report", report)):
        if file is not None and file.is_dir():
            raise InvalidInput(f"{option}: expected the name of a file, got the folder {str(file)!r}")


def original_size(engine: Engine, recipes: Sequence[Recipe]) -> tuple[int, int]:
    """The size that images of a folder are brought to: a canvas goes around originals of the straightened size."""
    height, width, _ = engine.manifest.input_shape
    if any(recipe.canvas for recipe in recipes):
        height, width, _ = engine.manifest.rectified_shape
    return height, width


def _trials(
    engine: Engine, recipes: Sequence[Recipe], measured: Dataset, pose_data: Dataset | None, seed: int
) -> list[Trial]:
    from stn_core.evaluation import check_fit, run_trial

    for recipe in recipes:  # all of them before the first is run
        check_fit(engine.manifest, measured, recipe)
    with Progress(console=Console(stderr=True), transient=True) as bars:
        return [
            run_trial(engine, measured, recipe, seed, _progress(bars, recipe.name), pose_data) for recipe in recipes
        ]


def _progress(bars: Progress, name: str) -> Callable[[int, int], None]:
    task = bars.add_task(name)
    return lambda done, total: bars.update(task, completed=done, total=total)


def _print_tables(console: Console, evaluations: Sequence[Evaluation], part: str) -> None:
    """The measures; as many recipes and families side by side as the terminal has room for, the others below."""
    from stn_core.evaluation.table import groups

    first, columns = evaluations[0], groups(evaluations)
    console.print(
        f"[bold]{first.bundle}[/] on {first.images:,} images of {escape(first.data)} ({part}), distorted by "
        f"{', '.join(one.recipe for one in evaluations)}, seed {first.seed}",
        highlight=False,
    )
    room = max(1, (console.width - NAME_WIDTH) // GROUP_WIDTH)
    for start in range(0, len(columns), room):
        console.print(_table(columns[start : start + room]))
    console.print(
        "as it comes → rectified; pose-free: after a constant transform was taken off, fitted on "
        f"{escape(first.pose_fitted_on)}",
        highlight=False,
    )


def _table(columns: Sequence[tuple[str, Measures]]) -> Table:
    from stn_core.evaluation.table import SECTIONS, cell

    table = Table()
    table.add_column("")
    for name, measures in columns:
        heading = f"{name.replace('+', ' + ')}\n{measures.images:,} images"
        table.add_column(heading, justify="right", max_width=GROUP_WIDTH - 3, overflow="fold")
    for rows in SECTIONS.values():
        for row in rows:
            if row.after:
                cells = [[cell(one, field, row.decimals) for field in (row.before, row.after)] for _, one in columns]
                table.add_row(row.name, *(" → ".join(filter(None, pair)) for pair in cells))
            if row.true:
                name = f"  {row.name if not row.after else 'by the true theta'}"
                table.add_row(name, *(cell(one, row.true, row.decimals) for _, one in columns), style="dim")
        table.add_section()
    return table


def _write_json(file: Path, evaluations: Sequence[Evaluation]) -> None:
    """The evaluation as a JSON object; a list of them where there are several recipes."""
    found = [evaluation.model_dump(mode="json") for evaluation in evaluations]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found if len(found) > 1 else found[0], indent=2, allow_nan=False) + "\n")


def _fail_if_collapsed(evaluations: Sequence[Evaluation]) -> None:
    collapsed = [evaluation for evaluation in evaluations if evaluation.collapse]
    for evaluation in collapsed:
        Console(stderr=True).print(
            f"[bold red]collapse[/]: {evaluation.collapsed_share:.1%} of the images of {evaluation.recipe} are zoomed "
            "by over 4 times the area they should be, or have lost over half of their content; do not trust the other "
            "figures",
            highlight=False,
            soft_wrap=True,
        )
    if collapsed:
        raise typer.Exit(1)
