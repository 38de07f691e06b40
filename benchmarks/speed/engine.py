"""Localize, warp and classify within one process: images a second of the shipped bundle by batch size.

    make bench PARTS=engine

Digits, float32. Ours is ``Engine`` with either backend. ONNX Runtime, with default options, runs the bundle's own two
networks fused to one graph, and is checked to answer the same; PyTorch runs networks of the same layers.
"""

from __future__ import annotations

from typing import Any

import onnx
from contest import Contestant, Lane, compete, contestants
from fused import check, fuse
from inputs import VARIABLE, handed_over
from report import Comparison, results, show
from shapes import ENGINE_BATCHES

from stn_core.datasets import sample_digits, to_float
from stn_core.engine import Engine

OURS, PEERS = Contestant("cases_ours_engine", of_peers=False), Contestant("cases_peers_engine", of_peers=True)
DEFAULTS = {"rounds": 15, "seconds": 1.0}
LANES = [
    Lane(f"{name} {batch}", side, f"{name} {batch}")
    for batch in ENGINE_BATCHES
    for side, name in ((OURS, "onnx"), (OURS, "tensorflow"), (PEERS, "onnx_runtime"), (PEERS, "pytorch"))
]
COMPARISONS = [
    Comparison(f"{ours} {batch}", f"{theirs} {batch}", target)
    for ours, theirs, target in (
        ("onnx", "onnx_runtime", 0.95),
        ("onnx", "pytorch", None),
        ("tensorflow", "onnx_runtime", None),
    )
    for batch in ENGINE_BATCHES
]
CHECKED_IMAGES = 1000


def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Time an image by batch size; images a second too."""
    digits = to_float(sample_digits().images[:: 5000 // CHECKED_IMAGES])
    with handed_over(digits=digits) as folder:
        onnx.save(fuse("digits"), folder / "fused.onnx")
        off = check(folder / "fused.onnx", Engine.load("digits", backend="onnx"), digits)
        with contestants([OURS, PEERS], **{VARIABLE: str(folder)}) as processes:
            part = results(compete(LANES, processes, rounds, seconds), COMPARISONS)
    show("Localize, warp, classify", part)
    rates = {lane: round(1e6 / us["median"]) for lane, us in part["us"].items()}
    return {**part, "images_per_s": rates, "fused_probabilities_differ_by": off}
