"""Images of a trial as one PNG: as they were, as they came, and straightened."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stn_core.evaluation.trial import Indices, Trial
from stn_core.figures import Row, rectification_grid


def write_examples(path: Path, trial: Trial, indices: Sequence[int] | Indices, columns: int = 10) -> Path:
    """Writes the images of these numbers: original, distorted and rectified, with what the last two are read as.

    Below them is the corner error in px, where the trial knows it.
    """
    chosen = np.asarray(indices, np.intp)
    rectified = trial.shown["rectified"]
    before_px, after_px = (
        trial.straight[kind].corner_error_px[chosen] if trial.known[chosen].all() else None
        for kind in ("unrectified", "rectified")
    )
    rows = [
        Row("original", trial.originals.images[chosen]),
        Row("distorted", trial.distorted[chosen], trial.shown["unrectified"].labels[chosen], before_px),
        Row("rectified", rectified.images[chosen], rectified.labels[chosen], after_px),
    ]
    names = trial.data.classes if max(map(len, trial.data.classes)) > 1 else ()
    return rectification_grid(path, rows, trial.data.labels[chosen], names, columns)
