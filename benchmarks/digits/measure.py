"""Measures the shipped digits bundle on the full MNIST test set, and the time its networks take; writes results.json.

    .venv/bin/python benchmarks/digits/measure.py

The distortions of the test set are the recipe's with three seeds that training did not see; the accuracy is that of the
unchanged 60,074-parameter CNN behind the localization network. Takes a minute.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from stn_core import datasets
from stn_core.engine import Engine
from stn_core.evaluation import evaluate
from stn_core.figures import Row, rectification_grid
from stn_core.geometry import identity
from stn_core.provenance import provenance
from stn_core.recipes import parse_recipe
from stn_core.transforms import corner_errors_px

SEEDS = (1_000_003, 2, 3)
FOLDER = Path(__file__).parent
BATCH_SIZES = (1, 16, 64, 256)
# What training did not show the localization network: does it leave alone what is straight, or nearly so?
NEARLY_STRAIGHT: dict[str, dict[str, Any]] = {
    "as it is": {"op": "affine"},
    "blurred, 0.5 px": {"op": "gaussian_blur", "sigma_px": 0.5},
    "noise of 5 %": {"op": "gaussian_noise", "sd_fraction": 0.05},
    "shifted by half a pixel": {"op": "affine", "translate_x_px": 0.5, "translate_y_px": 0.5},
    "turned by 2 degrees": {"op": "affine", "rotate_deg": 2},
}


def main() -> None:
    engine = Engine.load("digits")
    splits = datasets.load("mnist")
    results: dict[str, Any] = {
        **provenance(),
        "bundle": {"name": engine.manifest.name, "version": engine.manifest.version, **engine.manifest.training},
        "data": splits.test.name,
        "evaluations": [evaluate(engine, splits.test, engine.manifest.recipe, seed).model_dump() for seed in SEEDS],
        "nearly_straight": {
            name: _nearly_straight(engine, splits.validation, step) for name, step in NEARLY_STRAIGHT.items()
        },
        "images_per_s": {str(size): round(_images_per_s(engine, splits.test.images[:size])) for size in BATCH_SIZES},
    }
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    _picture(engine, splits.test)
    for one in results["evaluations"]:
        print(
            f"seed {one['seed']}: original {one['accuracy_original']:.4f}, distorted {one['accuracy_distorted']:.4f}, "
            f"corner error {one['corner_error_px']['median']:.2f} px, hurt {one['hurt_rate']:.4f}"
        )
    for name, one in results["nearly_straight"].items():
        print(f"{name}: {one}")
    print("images/s by batch size:", results["images_per_s"])


def _images_per_s(engine: Engine, images: Any, runs: int = 5, seconds: float = 0.5) -> float:
    """Localize, warp and classify in process: the median of several runs."""
    rates = []
    for _ in range(runs + 1):
        done, started_s = 0, time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            engine.classify(engine.rectify(images)[0])
            done += len(images)
        rates.append(done / (time.perf_counter() - started_s))
    return float(np.median(rates[1:]))


def _nearly_straight(engine: Engine, validation: datasets.Dataset, step: dict[str, Any]) -> dict[str, float]:
    """Corner error and accuracy, rectified and as they come, of validation digits changed by one small step."""
    result = evaluate(engine, validation, parse_recipe({"name": "nearly-straight", "steps": [step]}), SEEDS[0])
    return {
        "corner_error_median_px": round(result.corner_error_px.median, 2),
        "accuracy": result.accuracy_distorted,
        "accuracy_unrectified": result.accuracy_distorted_unrectified,
    }


def _picture(engine: Engine, test: datasets.Dataset, columns: int = 10) -> None:
    """The first test digits, as they are, distorted and rectified, read by the same classifier."""
    from stn_core.augment import augment

    originals, labels = test.images[:columns], test.labels[:columns]
    distorted = augment(originals, engine.manifest.recipe, SEEDS[0])
    rectified, theta = engine.rectify(distorted.images)
    before_px = corner_errors_px(distorted.theta, identity(columns), (28, 28))
    after_px = corner_errors_px(distorted.theta, theta, (28, 28))
    rows = [
        Row("original", originals),
        Row("distorted", distorted.images, engine.classify(distorted.images)[0], before_px),
        Row("rectified", rectified, engine.classify(rectified)[0], after_px),
    ]
    rectification_grid(FOLDER / "rectified.png", rows, labels, columns=columns)


if __name__ == "__main__":
    main()
