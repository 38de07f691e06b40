"""Measures the shipped digits bundle on digits whose pixels were made in other ways than by training's one warp.

    .venv/bin/python benchmarks/digits/renderings.py [BUNDLE]

The full MNIST test set; in every row each digit is distorted by the same theta of the bundle's recipe: by one bilinear
warp, or enlarged, warped and made small again by kernels of Pillow's. The last row's factor is one that training never
uses. Takes two minutes; with another bundle nothing is written.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stn_core import datasets
from stn_core.datasets import to_float
from stn_core.engine import Engine
from stn_core.geometry import Size, identity
from stn_core.native import warp
from stn_core.provenance import provenance
from stn_core.recipes import draw, known_theta
from stn_core.rendering import Rendering, render
from stn_core.transforms import corner_errors_px

SEED = 1_000_003
RENDERINGS: tuple[Rendering | None, ...] = (
    None,
    Rendering(3, "box", "box"),
    Rendering(3, "cubic", "box"),
    Rendering(2, "cubic", "cubic"),
    Rendering(3, "lanczos", "lanczos"),
    Rendering(3, "triangle", "triangle"),
    Rendering(3, "lanczos", "triangle"),
    Rendering(5, "cubic", "triangle"),
)


def main() -> None:
    source = sys.argv[1] if len(sys.argv) > 1 else "digits"
    engine = Engine.load(source)
    data = datasets.load("mnist").test
    images, size = to_float(data.images), data.image_shape[:2]
    ids = np.arange(len(images), dtype=np.uint64)
    theta, _ = known_theta(engine.manifest.recipe, draw(engine.manifest.recipe, SEED, ids), size)
    rows = {}
    for rendering in RENDERINGS:
        found = {
            kind: _measures(engine, _made(images, applied, size, rendering), applied, data.labels)
            for kind, applied in (("distorted", theta), ("original", identity(len(images))))
        }
        rows[_name(rendering)] = found
        print(_name(rendering), found, flush=True)
    if len(sys.argv) == 1:
        results = {**provenance(), "data": data.name, "renderings": rows}
        Path(__file__).with_name("renderings.json").write_text(json.dumps(results, indent=2) + "\n")


def _name(rendering: Rendering | None) -> str:
    return "one bilinear warp" if rendering is None else "{} times, {}, {}".format(*rendering)


def _made(images: NDArray[Any], theta: NDArray[Any], size: Size, rendering: Rendering | None) -> NDArray[Any]:
    return warp(images, theta) if rendering is None else render(images, theta, size, rendering)


def _measures(engine: Engine, images: NDArray[Any], theta: NDArray[Any], labels: NDArray[np.int64]) -> dict[str, float]:
    """Median corner error after rectification, px, and the accuracy after and before."""
    rectified, found = engine.rectify(images)
    off_px = corner_errors_px(theta, found, images.shape[1:3])
    return {
        "corner_error_px": round(float(np.median(off_px)), 3),
        "accuracy": round(float((engine.classify(rectified)[0] == labels).mean()), 4),
        "accuracy_unrectified": round(float((engine.classify(images)[0] == labels).mean()), 4),
    }


if __name__ == "__main__":
    main()
