"""Measures the shipped digits bundle on the full MNIST test set, and the time of its networks, into results.json.

    .venv/bin/python benchmarks/digits/measure.py

The distortions of the test set are the recipe's with three seeds that training did not see; the accuracy is that of the
unchanged 60,074-parameter CNN behind the localization network. Takes a minute.
"""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from stn_core import datasets
from stn_core.bundle import load_network
from stn_core.datasets import to_float
from stn_core.engine import Engine
from stn_core.evaluation import evaluate, run_trial, summarize
from stn_core.evaluation.examples import write_examples
from stn_core.localization import build_localization
from stn_core.provenance import provenance
from stn_core.recipes import parse_recipe

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
    trials = [
        run_trial(engine, splits.test, engine.manifest.recipe, seed, pose_data=splits.validation) for seed in SEEDS
    ]
    results: dict[str, Any] = {
        **provenance(),
        "bundle": {"name": engine.manifest.name, "version": engine.manifest.version, **engine.manifest.training},
        "data": splits.test.name,
        "evaluations": [summarize(trial).model_dump() for trial in trials],
        "nearly_straight": {
            name: _nearly_straight(engine, splits.validation, step) for name, step in NEARLY_STRAIGHT.items()
        },
        "localization_time_an_image": _localization_ms(engine, splits.test.images),
        "images_per_s": {str(size): round(_images_per_s(engine, splits.test.images[:size])) for size in BATCH_SIZES},
    }
    (FOLDER / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    write_examples(FOLDER / "rectified.png", trials[0], range(10))
    for one in results["evaluations"]:
        error_px = one["corner_error_px"]
        print(
            f"seed {one['seed']}: original {one['accuracy_original']:.4f}, distorted {one['accuracy_distorted']:.4f}, "
            f"corner error {error_px['median']:.2f} / {error_px['p90']:.2f} px, hurt {one['hurt_rate']:.4f}"
        )
    for name, one in results["nearly_straight"].items():
        print(f"{name}: {one}")
    print("localization, time an image, by batch size:", results["localization_time_an_image"])
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


def _localization_ms(engine: Engine, images: Any, runs: int = 7) -> dict[str, dict[str, float]]:
    """The time an image of the bundle's localization network and of the tutorial's, in turn, and their ratio."""
    networks = {
        "bundle": load_network("digits", "localization"),
        "tutorial": build_localization("tutorial", engine.manifest.input_shape),
    }
    found: dict[str, dict[str, float]] = {}
    for size in (64, 256):
        batch, calls_a_run = tf.constant(to_float(images[:size])), 4096 // size
        calls = {name: tf.function(lambda x, net=net: net(x, training=False)) for name, net in networks.items()}
        times: dict[str, list[float]] = {name: [] for name in calls}
        for run, (name, call) in itertools.product(range(runs + 1), calls.items()):
            started_s = time.perf_counter()
            for _ in range(calls_a_run):
                call(batch)
            if run:  # the first one builds the graph
                times[name].append((time.perf_counter() - started_s) / calls_a_run / size * 1e3)
        ratios = [ours / theirs for ours, theirs in zip(times["bundle"], times["tutorial"], strict=True)]
        found[str(size)] = {
            **{f"{name}_ms": round(float(np.median(one)), 4) for name, one in times.items()},
            "ratio": round(float(np.median(ratios)), 2),
            "ratio_min": round(min(ratios), 2),
            "ratio_max": round(max(ratios), 2),
        }
    return found


if __name__ == "__main__":
    main()
