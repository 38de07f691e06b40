"""The loop one writes by hand over a folder of digits: ``loop.py SOURCE OUT``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from stn_core.engine import Engine

BATCH = 64


def main(source: Path, out: Path) -> None:
    engine = Engine.load("digits", threads=1)
    files = sorted(source.rglob("*.png"))
    out.mkdir(parents=True)
    with (out / "rows.jsonl").open("w") as rows:
        for first in range(0, len(files), BATCH):
            batch = files[first : first + BATCH]
            images = np.stack([np.asarray(Image.open(file))[..., None] for file in batch])
            straight, theta = engine.rectify(images)
            labels, probabilities = engine.classify(straight)
            for number, file in enumerate(batch):
                target = out / file.relative_to(source)
                target.parent.mkdir(exist_ok=True)
                Image.fromarray(straight[number, ..., 0]).save(target, compress_level=1)
                row = {"file": str(file), "image": str(target), "theta": theta[number].tolist()}
                row |= {"label": int(labels[number]), "probabilities": probabilities[number].tolist()}
                rows.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
