"""Asks of row P, the hardest, whether fine-tuning both networks together helps, and whether a second look does.

    .venv/bin/python benchmarks/straight/run.py P
    .venv/bin/python benchmarks/straight/variants.py

Measured on validation digits, three seeds of distortions each: the row's bundle; the same after 4,000 steps with the
loss of the class (and of the corners beside it, or without); and the row's classifier behind a localization network
that was taught to look twice (``passes`` 2), for as many steps as the row's. Writes ``variants.json`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from run import OUT, ROWS, SEEDS

from stn_core import datasets
from stn_core.backends.tensorflow import TensorFlowBackend
from stn_core.bundle import Manifest, load_network, read_manifest
from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.evaluation import evaluate
from stn_core.localization import build_localization
from stn_core.provenance import provenance
from stn_core.stream import DistortionStream
from stn_core.training import Journal
from stn_core.training.phases import teach_localization, train_together

ROW = "P"
JOINT_STEPS = 4_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    splits = datasets.load("mnist", path=parser.parse_args().data_path)
    plan, manifest, data = ROWS[ROW].training_plan(), read_manifest(OUT / ROW), splits.train
    found: dict[str, Any] = {}

    def measure(name: str, engine: Engine) -> None:
        found[name] = _measured(engine, splits.validation)
        print(
            f"{name:40} error {found[name]['error_percent']:.2f} %, corners {found[name]['corner_error_px']}",
            flush=True,
        )

    measure("as the row is", _engine(manifest, _networks()))
    for name, weight in (("class and corners", 0.5), ("class alone", 0.0)):
        joint, networks = plan.model_copy(update={"joint_steps": JOINT_STEPS, "corner_weight": weight}), _networks()
        stream = DistortionStream(
            data.images, data.labels, plan.recipe, plan.batch_size, plan.classifier_original_share, 3, plan.jitter
        )
        train_together(networks["classifier"], networks["localization"], stream, joint, Journal(_report))
        measure(f"then both together, {name}", _engine(manifest, networks))
    twice = build_localization(plan.localization, manifest.input_shape, plan.seed, plan.transform)
    stream = DistortionStream(
        data.images, data.labels, plan.recipe, plan.batch_size, plan.localization_original_share, plan.seed
    )
    teach_localization(twice, stream, plan.model_copy(update={"passes": 2}), Journal(_report))
    engine = _engine(manifest.model_copy(update={"passes": 2}), {**_networks(), "localization": twice})
    measure("a second look", engine)
    result = {**provenance(), "row": ROW, "joint_steps": JOINT_STEPS, "validation": found}
    (Path(__file__).parent / "variants.json").write_text(json.dumps(result, indent=2) + "\n")


def _engine(manifest: Manifest, networks: dict[str, Any]) -> Engine:
    return Engine(manifest, TensorFlowBackend(manifest, networks))


def _networks() -> dict[str, Any]:
    return {part: load_network(OUT / ROW, part) for part in ("localization", "classifier")}


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


def _report(phase: str, done: int, total: int, loss: float) -> None:
    if done % 500 == 0:
        print(f"{phase}: {done} of {total}, loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
