"""Sends pictures with a turned content to a running service, and says how much straighter they come back.

    .venv/bin/stn serve --bundle shapes-disc
    .venv/bin/python benchmarks/own_data/straighten.py turned --bundle shapes-disc --picture turned.png

The pictures are those of ``make_shapes.py --turned``, whose names end in the angle.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stn_client import Client

from stn_core.bundle import read_manifest
from stn_core.figures import Row, rectification_grid
from stn_core.pictures import decode_picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bundle", required=True, help="the bundle that is served")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    manifest = read_manifest(arguments.bundle)
    files = sorted(arguments.folder.rglob("*.*g"))
    images = np.stack([decode_picture(file, channels=3, size=manifest.input_shape[:2]) for file in files])
    labels = np.array([manifest.classes.index(file.parent.name) for file in files])
    turned_deg = np.array([float(file.stem.rpartition("_")[2]) for file in files])
    with Client(arguments.url) as client:
        before, after = client.classify(images), client.predict(images)
    left_deg = turned_deg - angles_deg(after.theta)
    accuracies = [np.mean(answer.label == labels) for answer in (before, after)]
    print(f"{len(files)} pictures, as they come -> straightened:")
    print(f"  turned by, median  {np.median(np.abs(turned_deg)):6.1f} -> {np.median(np.abs(left_deg)):.1f} degrees")
    print(f"  read right         {accuracies[0]:6.1%} -> {accuracies[1]:.1%}")
    if arguments.picture:
        shown = np.sort(np.unique(labels, return_index=True)[1])
        rows = [
            Row("as they come", images[shown], before.label[shown]),
            Row("straightened", after.rectified[shown], after.label[shown]),
        ]
        rectification_grid(arguments.picture, rows, labels[shown], manifest.classes)


def angles_deg(theta: NDArray[Any]) -> NDArray[Any]:
    """By how much an affine ``theta [N, 2, 3]`` turns its image back: of the rotation nearest to it, clockwise."""
    return np.degrees(np.arctan2(theta[:, 1, 0] - theta[:, 0, 1], theta[:, 0, 0] + theta[:, 1, 1]))


if __name__ == "__main__":
    main()
