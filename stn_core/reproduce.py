"""Runs the original system's four rows again: FC, CNN, STN + FC, STN + CNN, as its tutorial trains them.

Original and distorted MNIST together, by classification loss alone: Adam at its default rate, sparse cross-entropy from
logits, batches of 64, 5 epochs, the last epoch's weights. Each row is trained anew on cluttered MNIST as well. The
tutorial trains on all 60,000 digits, so the validation set is part of the training set here; nothing is chosen by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core.augment import Augmentation, augment
from stn_core.datasets import Dataset, Splits, concatenate, load
from stn_core.errors import BadData
from stn_core.geometry import identity
from stn_core.original import ROWS, Progress, Trained, accuracy, predicted_theta, train_row
from stn_core.recipes import load_recipe
from stn_core.reproduce_report import describe_run, write_pictures, write_table
from stn_core.transforms import corner_errors_px

RECIPE = "tutorial-mix"
TRAIN_SEED, TEST_SEED = 1, 2
INPUT_SHAPE = (28, 28, 1)


@dataclass(frozen=True)
class Plan:
    """What to run. The defaults are the whole reproduction; fewer epochs and images make a quick trial of it.

    ``cluttered`` is a source of ``datasets.load`` or None; ``train_limit`` and ``test_limit`` are numbers of images.
    """

    source: str = "mnist"
    path: Path | None = None
    cluttered: str | None = "cluttered-mnist"
    epochs: int = 5
    cluttered_epochs: int = 20
    seed: int = 0
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.cluttered_epochs < 1:
            raise BadData(f"epochs: expected at least 1, got {self.epochs}, and {self.cluttered_epochs} if cluttered")


@dataclass
class Row:
    """One row of the table; accuracies are fractions, None where not measured."""

    parameters: int
    seconds: float
    cpu_seconds: float
    images_per_s: float
    original: float
    distorted: float
    corner_error_px: float | None = None
    cluttered: float | None = None
    cluttered_parameters: int | None = None
    cluttered_seconds: float | None = None


def reproduce(out_dir: Path, plan: Plan, progress: Progress) -> dict[str, Any]:
    """Trains and measures the four rows; writes table.json, table.md and two pictures, and gives the table.

    BadData before any training if the data is not there; where only the cluttered set is missing, its column is left
    out and the table says so.
    """
    splits = load(plan.source, path=plan.path)
    if splits.image_shape != INPUT_SHAPE:
        raise BadData(f"{plan.source}: the original system takes images {INPUT_SHAPE}, got {splits.image_shape}")
    cluttered, cluttered_note = _load_cluttered(plan)
    mixed = _original_and_distorted(splits, plan)
    test = splits.test.limit(plan.test_limit, plan.seed)
    distorted_test = augment(test.images, load_recipe(RECIPE), seed=TEST_SEED)

    rows: dict[str, Row] = {}
    networks: dict[str, Any] = {}
    for key in ROWS:
        trained = train_row(key, mixed, plan.epochs, plan.seed, progress)
        networks[key] = trained.network
        rows[key] = _measure(trained, test, distorted_test)
        if cluttered is not None:
            _add_cluttered(rows[key], key, cluttered, plan, progress)
    table = {
        **describe_run(asdict(plan), splits.train.name, cluttered_note),
        "train_images": len(mixed),
        "test_images": len(test),
        "rows": {key: asdict(row) for key, row in rows.items()},
        "corner_error_px_before": round(float(np.median(_errors_px(distorted_test, None))), 2),
    }
    out_dir.mkdir(parents=True, exist_ok=True)
    table["pictures"], table["rotated"] = write_pictures(out_dir, networks, test, distorted_test)
    write_table(out_dir, table)
    return table


def _original_and_distorted(splits: Splits, plan: Plan) -> Dataset:
    """The training digits, and after them a distorted copy of each."""
    original = concatenate(splits.train, splits.validation).limit(plan.train_limit, plan.seed)
    distorted = augment(original.images, load_recipe(RECIPE), seed=TRAIN_SEED)
    images = np.concatenate([original.images, distorted.images])
    return Dataset(original.name, images, np.tile(original.labels, 2), original.classes)


def _measure(trained: Trained, original: Dataset, distorted: Augmentation) -> Row:
    network = trained.network
    row = Row(
        parameters=trained.parameters,
        seconds=round(trained.seconds, 1),
        cpu_seconds=round(trained.cpu_seconds, 1),
        images_per_s=round(trained.images_per_s),
        original=accuracy(network, original.images, original.labels),
        distorted=accuracy(network, distorted.images, original.labels),
    )
    if any(layer.name == "transformer" for layer in network.layers):
        row.corner_error_px = round(float(np.median(_errors_px(distorted, network))), 2)
    return row


def _errors_px(distorted: Augmentation, network: Any | None) -> NDArray[Any]:
    """The corner error of each distorted image, straightened by a row's transformer or (None) as it is."""
    theta = identity(len(distorted.images)) if network is None else predicted_theta(network, distorted.images)
    height, width = distorted.images.shape[1:3]
    return corner_errors_px(distorted.theta, theta, (height, width))


def _load_cluttered(plan: Plan) -> tuple[Splits | None, str]:
    if plan.cluttered is None:
        return None, "left out as asked"
    try:
        # A file given for MNIST says nothing of where the cluttered set is; a folder may hold both.
        splits = load(plan.cluttered, path=plan.path if plan.path and plan.path.is_dir() else None)
    except BadData as error:
        return None, f"left out: {error}"
    return splits, f"each row trained anew on it for {plan.cluttered_epochs} epochs"


def _add_cluttered(row: Row, key: str, splits: Splits, plan: Plan, progress: Progress) -> None:
    test = splits.test.limit(plan.test_limit, plan.seed)
    trained = train_row(
        key, splits.train.limit(plan.train_limit, plan.seed), plan.cluttered_epochs, plan.seed, progress
    )
    row.cluttered = accuracy(trained.network, test.images, test.labels)
    row.cluttered_parameters, row.cluttered_seconds = trained.parameters, round(trained.seconds, 1)
