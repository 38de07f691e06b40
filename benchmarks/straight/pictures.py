"""Draws the pictures of docs/straightness.md, of the shipped bundle and of those that run.py trained.

    .venv/bin/python benchmarks/straight/pictures.py

Into ``docs/pictures``: ``straight-NAME.png``, the first ten test images of each row; ``straight-worst.png``, the twenty
digits that the shipped bundle leaves least straight; ``straight-curves.png``, the share of images by corner error.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from run import OUT, ROWS, SEEDS

from stn_core import datasets
from stn_core.engine import Engine
from stn_core.evaluation import Trial, run_trial, worst_first
from stn_core.evaluation.examples import write_examples
from stn_core.figures import ErrorCurves, error_curves
from stn_core.recipes import parse_recipe

PICTURES = Path("docs/pictures")
AS_IT_IS = {"name": "as-it-is", "steps": [{"op": "affine"}]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-path", type=Path, help="where the data lie, if not in one of the usual places")
    data_path = parser.parse_args().data_path
    digits = _trial("digits", "mnist", data_path)
    write_examples(PICTURES / "straight-worst.png", digits, worst_first(digits)[0][:20])
    curves = [_curves("tutorial's mix (digits bundle)", digits)]
    for name, row in ROWS.items():
        if not (OUT / name).is_dir():
            continue
        trial = _trial(str(OUT / name), row.data, data_path)
        write_examples(PICTURES / f"straight-{name.lower()}.png", trial, range(10))
        if row.data == "mnist":
            curves.append(_curves(f"{name}: {row.title}", trial))
    (PICTURES / "straight-curves.png").write_bytes(error_curves(curves))


def _trial(bundle: str, data: str, data_path: Path | None) -> Trial:
    """The bundle on its recipe; on the cluttered file as it is, whose own theta nobody knows."""
    engine, test = Engine.load(bundle), datasets.load(data, path=data_path).test
    if data == "mnist":
        return run_trial(engine, test, engine.manifest.recipe, SEEDS[0])
    trial = run_trial(engine, test, parse_recipe(AS_IT_IS), SEEDS[0])
    return replace(trial, known=np.zeros_like(trial.known))


def _curves(title: str, trial: Trial) -> ErrorCurves:
    before, after = trial.straight["unrectified"], trial.straight["rectified"]
    return ErrorCurves(
        title,
        *(error[trial.known] for error in (before.corner_error_px, after.corner_error_px, after.pose_free_error_px)),
    )


if __name__ == "__main__":
    main()
