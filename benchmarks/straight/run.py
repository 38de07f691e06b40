"""Trains and measures the distortion families of the spatial transformer paper, beside its Table 1.

    .venv/bin/python benchmarks/straight/run.py R RTS P E TC cluttered      any of them; without one, all

Each row trains one bundle (``out/straight/NAME``) on MNIST's 55,000 training digits, or on the 10,000 images of the
cluttered file, and measures it once on the full test set, over three seeds of distortions that training did not see.
Writes ``NAME.json`` beside this file, and ``table.md``. A row broken off goes on where it was last saved.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stn_core import datasets
from stn_core.engine import Engine
from stn_core.evaluation import evaluate
from stn_core.provenance import provenance
from stn_core.recipes import Recipe, load_recipe, parse_recipe
from stn_core.training import Journal, TrainingPlan, train

FOLDER = Path(__file__).parent
OUT = Path("out/straight")
SEEDS = (1_000_003, 2, 3)


@dataclass(frozen=True)
class Row:
    """One data set: what it is, how it is trained, and the error that the paper publishes for it, in percent."""

    title: str
    recipe: str | dict[str, Any]
    paper_error_percent: float | None
    asked_error_percent: float
    data: str = "mnist"
    plan: dict[str, Any] = field(default_factory=dict)

    def training_plan(self) -> TrainingPlan:
        return TrainingPlan(**{**COMMON, **self.plan, "recipe": _recipe(self.recipe), "jitter": _recipe(JITTER)})


def _recipe(source: str | dict[str, Any]) -> Recipe:
    return load_recipe(source) if isinstance(source, str) else parse_recipe(source)


JITTER: str | dict[str, Any] = "handwriting"
# Both networks together have at most the paper's 400,000 parameters.
COMMON: dict[str, Any] = {
    "localization": "small",
    "classifier": "paper",
    "localization_steps": 6_000,
    "classifier_steps": 6_000,
    "localization_original_share": 0.05,
    "classifier_original_share": 0.05,
    "rendered_share": 0.0,  # the paper's sets are what one bilinear warp makes
}
# The same number of parameters, in more and smaller convolutions, for longer.
LONGER: dict[str, Any] = {
    "localization": "medium",
    "classifier": "medium",
    "localization_steps": 12_000,
    "classifier_steps": 10_000,
}
# What the cluttered file's own distortions are is not known: a little shift and turn on top keeps its 10,000 fresh.
FRESH = {
    "name": "fresh",
    "steps": [
        {
            "op": "affine",
            "rotate_deg": [-8, 8],
            "scale": [0.93, 1.07],
            "translate_x_fraction": [-0.06, 0.06],
            "translate_y_fraction": [-0.06, 0.06],
        }
    ],
}
ROWS = {
    "R": Row(
        "turned by up to 90 degrees",
        "rotation",
        0.7,
        0.7,
        plan={**LONGER, "localization_steps": 8_000, "classifier_steps": 8_000},
    ),
    "RTS": Row("turned, scaled, shifted on 42 x 42", "rotation-scale-translation", 0.5, 0.5, plan=LONGER),
    "P": Row(
        "perspective",
        "perspective",
        0.8,
        0.8,
        plan={
            **LONGER,
            "transform": "homography",
            "classifier_steps": 8_000,
            "joint_steps": 3_000,
        },
    ),
    "E": Row("elastic", "elastic", 1.1, 1.1, plan={"transform": "tps"}),
    "TC": Row("shifted among clutter on 60 x 60", "translated-clutter", 1.7, 1.7, plan={"transform": "attention"}),
    "cluttered": Row(
        "the 40 x 40 cluttered file, 10,000 training images",
        FRESH,
        None,
        2.4,
        data="cluttered-mnist",
        plan={
            "rectified_size": (28, 28),
            "localization_steps": 0,
            "classifier_steps": 0,
            "joint_steps": 8_000,
            "joint_rate": 2e-3,
            "corner_weight": 0.0,
        },
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.rows if name not in ROWS]
    if unknown:
        parser.error(f"expected rows of {', '.join(ROWS)}, got {', '.join(unknown)}")
    for name in arguments.rows or ROWS:
        result = _measure(name, ROWS[name], arguments.data_path)
        (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
        print(f"{name}: error {result['error_percent']:.2f} %, asked {ROWS[name].asked_error_percent}")
    (FOLDER / "table.md").write_text(_table())


def _measure(name: str, row: Row, data_path: Path | None) -> dict[str, Any]:
    splits = datasets.load(row.data, path=data_path)
    plan = row.training_plan()
    folder = OUT / name
    with Progress(
        TextColumn("{task.description:18}"), BarColumn(), TextColumn("{task.fields[loss]:.3f}"), TimeElapsedColumn(),
        TimeRemainingColumn(), console=Console(),
    ) as bars:  # fmt: skip
        tasks: dict[str, Any] = {}

        def progress(phase: str, done: int, total: int, loss: float) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(f"{name} {phase}", total=total, loss=loss)
            bars.update(tasks[phase], completed=done, loss=loss)

        journal = Journal(progress, checkpoints=OUT / f"{name}-checkpoints")
        manifest = train(splits, plan, folder, f"straight-{name.lower()}", journal)
    engine = Engine.load(folder)
    # The cluttered file comes distorted: it is measured as it is.
    evaluations = [evaluate(engine, splits.test, plan.recipe, seed).model_dump(mode="json") for seed in SEEDS]
    measure = "accuracy_original" if row.data == "cluttered-mnist" else "accuracy_distorted"
    errors = [100 * (1 - one[measure]) for one in evaluations]
    return {
        **provenance(),
        "row": name,
        "title": row.title,
        "paper_error_percent": row.paper_error_percent,
        "asked_error_percent": row.asked_error_percent,
        "error_percent": round(sum(errors) / len(errors), 3),
        "errors_percent": [round(error, 3) for error in errors],
        "parameters": sum(manifest.training["parameters"].values()),
        "training_s": manifest.training["seconds"],
        "training": manifest.training,
        "evaluations": evaluations,
    }


def _table() -> str:
    lines = [
        "| | test error, % | paper's | corner error, median, px | before | parameters | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        file = FOLDER / f"{name}.json"
        if not file.is_file():
            continue
        result = json.loads(file.read_text())
        one = result["evaluations"][0]
        known = row.data == "mnist"
        after, before = (
            f"{one[key]['median']:.2f}" if known else "-" for key in ("corner_error_px", "corner_error_unrectified_px")
        )
        paper = f"{row.paper_error_percent}" if row.paper_error_percent is not None else "-"
        lines.append(
            f"| {name}: {row.title} | **{result['error_percent']:.2f}** | {paper} | {after} | {before} | "
            f"{result['parameters']:,} | {result['training_s'] / 60:.0f} min |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
