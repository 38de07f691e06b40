"""Asks of row R whether fine-tuning both networks together helps, and whether a second look does.

    .venv/bin/python benchmarks/straight/run.py R
    .venv/bin/python benchmarks/straight/variants.py

Measured on validation digits, three seeds of distortions each: the row's bundle; the same after 3,000 steps with the
loss of the class (and of the corners beside it, or without); and a localization network that was trained to look
twice (``passes`` 2), for as many steps as the row's. Writes ``variants.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from run import OUT, ROWS, SEEDS

from stn_core import datasets
from stn_core.bundle import load_network, read_manifest
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.evaluation import evaluate
from stn_core.provenance import provenance
from stn_core.stream import DistortionStream
from stn_core.training import Journal, train
from stn_core.training.phases import train_together

JOINT_STEPS = 3_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    splits = datasets.load("mnist", path=parser.parse_args().data_path)
    plan = ROWS["R"].training_plan()
    found = {"as the row is": _measured(Engine.load(OUT / "R"), splits.validation)}
    for name, weight in (("class and corners", 0.5), ("class alone", 0.0)):
        manifest = read_manifest(OUT / "R")
        networks = {part: load_network(OUT / "R", part) for part in ("localization", "classifier")}
        joint = plan.model_copy(update={"joint_steps": JOINT_STEPS, "corner_weight": weight})
        stream = DistortionStream(
            splits.train.images, splits.train.labels, joint.recipe, joint.batch_size, joint.classifier_original_share,
            joint.seed + 2, joint.jitter,
        )  # fmt: skip
        train_together(networks["classifier"], networks["localization"], stream, joint, Journal(_quiet))
        found[f"then both together, {name}"] = _measured(Engine(manifest, networks), splits.validation)
    twice = plan.model_copy(update={"passes": 2})
    folder = OUT / "R-twice"
    train(splits, twice, folder, "straight-r-twice", Journal(_quiet, checkpoints=OUT / "R-twice-checkpoints"))
    found["a second look"] = _measured(Engine.load(folder), splits.validation)
    result = {**provenance(), "joint_steps": JOINT_STEPS, "validation": found}
    (Path(__file__).parent / "variants.json").write_text(json.dumps(result, indent=2) + "\n")
    for name, one in found.items():
        print(f"{name:40} error {one['error_percent']:.2f} %, corners {one['corner_error_px']}")


def _measured(engine: Engine, validation: Dataset) -> dict[str, Any]:
    each = [evaluate(engine, validation, engine.manifest.recipe, seed) for seed in SEEDS]
    return {
        "error_percent": round(100 * float(np.mean([1 - one.accuracy_distorted for one in each])), 3),
        "errors_percent": [round(100 * (1 - one.accuracy_distorted), 3) for one in each],
        "corner_error_px": {
            kind: round(float(np.mean([getattr(one.corner_error_px, kind) for one in each])), 3)
            for kind in ("median", "mean", "p90")
        },
    }


def _quiet(phase: str, done: int, total: int, loss: float) -> None:
    if done % 500 == 0:
        print(f"{phase}: {done} of {total}, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
