"""Images a second that the adapters give, and that a step of training a CNN behind a transformer takes; as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "speed"))

BATCH, SECONDS, WARM_UP = 256, 10.0, 10


def rate(step: Callable[[], Any]) -> float:
    """Images a second of a step that does a batch."""
    for _ in range(WARM_UP):
        step()
    started_s, steps = time.perf_counter(), 0
    while time.perf_counter() - started_s < SECONDS:
        step()
        steps += 1
    return BATCH * steps / (time.perf_counter() - started_s)


def training_rate() -> float:
    from inputs import VARIABLE, handed_over

    from stn_core.augment import augment
    from stn_core.datasets import sample_digits, to_float
    from stn_core.recipes import load_recipe

    digits = sample_digits()
    order = np.random.default_rng(0).permutation(len(digits))
    images = to_float(augment(digits.images[order], load_recipe("tutorial-mix"), 0).images)
    with handed_over(images=images, labels=digits.labels[order]) as folder:
        os.environ[VARIABLE] = str(folder)
        from cases_ours_training import CASES

        step, _ = CASES[f"ours {BATCH}"]()
        return rate(step)


def tf_data_rate() -> float:
    from stn_core.adapters import distortions
    from stn_core.datasets import sample_digits
    from stn_core.recipes import load_recipe

    digits = sample_digits()
    batches = iter(distortions(digits.images, digits.labels, load_recipe("tutorial-mix"), BATCH, 0))
    return rate(lambda: next(batches))


def ray_rate() -> float:
    """Of epochs one after another, each with its start."""
    import ray.data

    from stn_bulk.adapters import ray_distortions
    from stn_core.datasets import sample_digits
    from stn_core.recipes import load_recipe

    digits = sample_digits()
    repeated = np.concatenate([digits.images] * 12)
    source = ray.data.from_numpy(np.array_split(repeated, 30)).rename_columns({"data": "image"}).materialize()

    def batches() -> Any:
        for epoch in range(1000):
            yield from ray_distortions(source, load_recipe("tutorial-mix"), epoch).iter_batches(batch_size=BATCH)

    made = batches()
    return rate(lambda: next(made))


def main() -> None:
    from stn_bulk.ray_session import ray_session

    with ray_session(None, 2):
        by_ray = ray_rate()
    found = {"batch": BATCH, "tf_data": tf_data_rate(), "ray_data": by_ray, "training_step": training_rate()}
    print(json.dumps(found), flush=True)
    os._exit(0)  # the training's thread waits for a step that nobody asks for


if __name__ == "__main__":
    main()
