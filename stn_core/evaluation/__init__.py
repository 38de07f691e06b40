"""Measures a bundle: how straight it leaves images whose distortion is known, and how well it reads them.

``run_trial`` runs the bundle and keeps what became of each image, ``summarize`` makes the measures of it, ``evaluate``
does both; ``stn_core.evaluation.report`` shows trials as a page, ``examples`` some images as a picture. What each
measure means is in docs/evaluation.md.
"""

from __future__ import annotations

from stn_core.datasets import Dataset
from stn_core.engine import Engine
from stn_core.evaluation.summary import Evaluation, Family, Measures, Spread, summarize
from stn_core.evaluation.trial import BATCH_SIZE, Progress, Trial, check_fit, run_trial, worst_first
from stn_core.recipes import Recipe

__all__ = [
    "BATCH_SIZE",
    "Evaluation",
    "Family",
    "Measures",
    "Progress",
    "Spread",
    "Trial",
    "check_fit",
    "evaluate",
    "run_trial",
    "summarize",
    "worst_first",
]


def evaluate(
    engine: Engine,
    data: Dataset,
    recipe: Recipe,
    seed: int,
    progress: Progress | None = None,
    pose_data: Dataset | None = None,
) -> Evaluation:
    """The measures of ``engine`` on the images of ``data`` as they are, and distorted by ``recipe`` and ``seed``.

    ``pose_data``, if given, are other images to fit the constant pose on. ``progress`` is called with the work done and
    that in all. BadData if the bundle knows other classes or takes images of another size.
    """
    return summarize(run_trial(engine, data, recipe, seed, progress, pose_data))
