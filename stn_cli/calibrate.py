"""``stn calibrate``: gives a bundle its confidence, by images that its networks were not fitted on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stn_cli.app import app, import_tensorflow_quietly
from stn_cli.evaluate import original_size
from stn_cli.options import Bundle, Data, DataPath, Seed

if TYPE_CHECKING:
    from stn_core.confidence import Calibration


@app.command()
def calibrate(
    bundle: Bundle,
    data: Data = "mnist",
    data_path: DataPath = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(help="What else may happen to images than the bundle's recipe; default: rotation, camera, "
                     "perspective. Several may be given."),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(min=2000, max=1_000_000, help="About how many to make; default: 4 of each, 2,000 to 20,000."),
    ] = None,
    seed: Seed = 1,
) -> None:  # fmt: skip
    """Calibrate a bundle's confidence on the validation images, and write it into the bundle; the networks stay.

    Give the data that the bundle was trained on: of them the validation set is taken, which the networks were not
    fitted on. A bundle of `stn train` has a confidence.
    """
    import_tensorflow_quietly()
    from stn_core import datasets
    from stn_core.backends import load_backend
    from stn_core.bundle import NETWORKS, find_bundle, read_manifest, write_calibration
    from stn_core.confidence.calibrating import calibrate as calibrated
    from stn_core.engine import Engine
    from stn_core.recipes import load_recipe

    others = [load_recipe(name) for name in recipe] if recipe else None
    folder, manifest = find_bundle(bundle), read_manifest(bundle)
    # Without the confidence that may be there: one of another version would not be read.
    engine = Engine(manifest, load_backend("auto", folder, manifest, NETWORKS, threads=None))
    size, channels = original_size(engine, [manifest.recipe]), manifest.input_shape[2]
    validation = datasets.load(data, path=data_path, size=size, channels=channels).validation
    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("calibrating")
        found = calibrated(
            engine, validation, others, images, seed, lambda done, total: bars.update(task, completed=done, total=total)
        )
    write_calibration(folder, found)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    _print(console, found)
    console.print(f"wrote the confidence into {folder}")


def _print(console: Console, found: Calibration) -> None:
    """What it is worth on the images left to measure it by, and what it changes, kind by kind."""
    measured, least = found.measured["theta"], found.limits.min_confidence
    title = f"{measured['images']:,} images that the confidence was not fitted on; in percent"
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=0)
    table.add_column("", no_wrap=True)
    for heading in ("images", "no harm", "confidence", f"sure, ≥ {least:g}", "hurt", "helped"):
        table.add_column(heading, justify="right")
    for kind, one in measured["by_kind"].items():
        shares = (_percent(one[name]) for name in ("harmless", "confidence", "sure"))
        pairs = (f"{_percent(one[name])} → {_percent(one[f'{name}_sure'])}" for name in ("hurt_rate", "helped_rate"))
        table.add_row(kind, f"{one['images']:,}", *shares, *pairs)
    console.print(table)
    console.print("hurt, helped: read wrongly, or rightly, only after rectification; of all → where it is sure")
    error, area = (measured[name] for name in ("calibration_error", "auc"))
    console.print(f"calibration error {_percent(error)} %, area under the curve {'-' if area is None else area}")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
