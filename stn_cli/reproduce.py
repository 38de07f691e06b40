"""``stn reproduce``: the original system's four rows, trained and measured again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markdown import Markdown
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.options import Data, DataPath, Seed


@app.command()
def reproduce(
    out: Annotated[Path, typer.Option(help="The folder for the table and the pictures.")] = Path("out/reproduce"),
    data: Data = "mnist",
    data_path: DataPath = None,
    cluttered: Annotated[bool, typer.Option(help="Train and measure on cluttered MNIST too.")] = True,
    epochs: Annotated[int, typer.Option(help="The original trains for 5.")] = 5,
    cluttered_epochs: Annotated[int, typer.Option(help="Passes over the 10,000 cluttered images.")] = 20,
    train_limit: Annotated[int | None, typer.Option(help="At most so many training images, for a quick trial.")] = None,
    test_limit: Annotated[int | None, typer.Option(help="At most so many test images.")] = None,
    seed: Seed = 0,
) -> None:
    """Run the original system (FC, CNN, STN + FC, STN + CNN) again; write the table and the pictures."""
    import_tensorflow_quietly()
    from stn_core.reproduce import Plan
    from stn_core.reproduce import reproduce as run

    plan = Plan(
        source=data,
        path=data_path,
        cluttered="cluttered-mnist" if cluttered else None,
        epochs=epochs,
        cluttered_epochs=cluttered_epochs,
        train_limit=train_limit,
        test_limit=test_limit,
        seed=seed,
    )
    console = Console()
    with Progress(
        TextColumn("{task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(title: str, done: int, total: int) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total)
            bars.update(tasks[title], completed=done)

        run(out, plan, progress)
    console.print(Markdown((out / "table.md").read_text()))
    console.print(f"wrote {out}", highlight=False)
