"""One step of training a CNN behind a transformer: time an image by batch size, and the share that distortion takes.

    make bench PARTS=training

The tutorial's networks (83,830 and 60,074 numbers), both learning by class loss through the sampler with Adam, on
batches of distorted digits that are ready. Ours is ``train_together`` itself, its guards and reports included. The
original system is the same networks around its sampler; PyTorch has the same layers. Distortion is what our stream
needs to make such a batch, by the recipe ``tutorial-mix``, every image distorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from contest import Contestant, Lane, compete, contestants, ratio, told
from inputs import SEED, VARIABLE, handed_over
from report import Comparison, results, show
from shapes import TRAINING_BATCHES

from stn_core.augment import augment
from stn_core.datasets import sample_digits, to_float
from stn_core.recipes import load_recipe

OURS, PEERS = Contestant("cases_ours_training", of_peers=False), Contestant("cases_peers_training", of_peers=True)
ORIGINAL = Contestant("cases_original_training", of_peers=False)
DEFAULTS = {"rounds": 15, "seconds": 1.0}
LANES = [
    Lane(f"{name} {size}", side, f"{name} {size}")
    for size in TRAINING_BATCHES
    for side, name in ((OURS, "ours"), (ORIGINAL, "original"), (PEERS, "pytorch"), (OURS, "distortion"))
]
COMPARISONS = [
    Comparison(f"ours {size}", f"{theirs} {size}", target)
    for theirs, target in (("pytorch", 1.5), ("original", 4.0))
    for size in TRAINING_BATCHES
]
MAX_DISTORTION_SHARE = 0.15


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time an image, and distortion's share of a step."""
    digits = sample_digits()
    order = np.random.default_rng(SEED).permutation(len(digits))  # they come class by class
    distorted = augment(digits.images[order], load_recipe("tutorial-mix"), SEED).images
    with (
        handed_over(images=to_float(distorted), labels=digits.labels[order]) as folder,
        contestants([OURS, ORIGINAL, PEERS], **{VARIABLE: str(folder)}) as processes,
    ):
        found = compete(LANES, processes, rounds, seconds)
    part = results(found, COMPARISONS)
    show("A step of training", part)
    return {**part, "distortion": {str(size): _share(found, size) for size in TRAINING_BATCHES}}


def _share(found: dict[str, list[float]], size: int) -> dict[str, Any]:
    share = ratio(found[f"ours {size}"], found[f"distortion {size}"])
    met = share["median"] < MAX_DISTORTION_SHARE
    print(f"  distortion, batch {size}: {told(share)} of a step, {'met' if met else 'MISSED'}")
    return {**share, "told": told(share), "target": MAX_DISTORTION_SHARE, "met": met}
