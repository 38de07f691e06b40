"""Asks of row P, the hardest, whether a second look of the localization network helps (``passes`` 2).

    .venv/bin/python benchmarks/straight/looks.py

Two ``small`` networks are taught as many steps each, one that looks once and one that looks twice, and measured on
validation digits. Writes ``looks.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from run import ROWS

from stn_core import datasets
from stn_core.datasets import Dataset
from stn_core.localization import build_localization
from stn_core.provenance import provenance
from stn_core.refinement import localize
from stn_core.stream import DistortionStream
from stn_core.training import Journal, TrainingPlan
from stn_core.training.losses import corner_loss_px
from stn_core.training.phases import teach_localization

ROW, STEPS, SIDE_PX = "P", 5_000, 28
VALIDATION_BATCHES, VALIDATION_SEED = 39, 77


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    splits = datasets.load("mnist", path=parser.parse_args().data_path)
    changes = {"localization": "small", "localization_steps": STEPS}
    found: dict[str, Any] = {}
    for passes in (1, 2):
        plan = ROWS[ROW].training_plan().model_copy(update={**changes, "passes": passes})
        network = build_localization(plan.localization, (SIDE_PX, SIDE_PX, 1), plan.seed, plan.transform)
        seconds = teach_localization(network, _stream(splits.train, plan, plan.seed), plan, Journal(_report))
        found[str(passes)] = {**_corner_errors_px(network, splits.validation, plan), "training_s": round(seconds, 1)}
        print(f"looks: {passes}, {found[str(passes)]}", flush=True)
    result = {**provenance(), "row": ROW, "localization": "small", "steps": STEPS, "looks": found}
    (Path(__file__).parent / "looks.json").write_text(json.dumps(result, indent=2) + "\n")


def _stream(data: Dataset, plan: TrainingPlan, seed: int) -> DistortionStream:
    return DistortionStream(
        data.images, data.labels, plan.recipe, plan.batch_size, plan.localization_original_share, seed
    )


def _corner_errors_px(network: Any, validation: Dataset, plan: TrainingPlan) -> dict[str, float]:
    """Of distortions that training has not seen."""
    batches, errors = _stream(validation, plan, VALIDATION_SEED).batches(), []
    for _, batch in zip(range(VALIDATION_BATCHES), batches, strict=False):
        theta = localize(network, batch.images, plan.passes, plan.recipe.fill_fraction, training=False)
        errors.append(np.asarray(corner_loss_px(batch.theta, theta, (SIDE_PX, SIDE_PX))))
    each = np.concatenate(errors)
    return {
        "median": round(float(np.median(each)), 3),
        "mean": round(float(each.mean()), 3),
        "p90": round(float(np.quantile(each, 0.9)), 3),
    }


def _report(phase: str, done: int, total: int, loss: float) -> None:
    if done % 500 == 0:
        print(f"{phase}: {done} of {total}, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
